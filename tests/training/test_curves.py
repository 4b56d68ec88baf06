import csv

from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.curves import Curves


def test_rows_are_written_as_csv_with_epochs_from_1(tmp_path):
    curves = Curves(None)
    curves.append({"loss": 0.123456789, "nmi": 1.0})
    curves.append({"loss": 1e-9, "gamma": -2.5})
    curves.write(tmp_path / "deep" / "curves.csv")
    text = (tmp_path / "deep" / "curves.csv").read_bytes().decode()
    assert text == "epoch,loss,nmi,gamma\n1,0.123457,1,\n2,1e-09,,-2.5\n"


def test_the_live_file_follows_every_epoch(tmp_path):
    live = tmp_path / "live" / "train.csv"
    curves = Curves(live)
    assert not live.exists()
    for epoch in range(1, 4):
        curves.append({"loss": float(epoch)})
        assert live.read_text().splitlines()[-1] == f"{epoch},{epoch}"
    assert len(live.read_text().splitlines()) == 4


def test_replayed_rows_are_the_same_file(tmp_path):
    first = Curves(tmp_path / "first.csv")
    first.append({"loss": 2.0, "entropy": 0.5})
    first.append({"loss": 1.0})
    second = Curves(tmp_path / "second.csv")
    second.replay(first.rows)
    assert (tmp_path / "second.csv").read_bytes() == (tmp_path / "first.csv").read_bytes()
    assert second.rows is not first.rows


def test_a_training_without_epochs_leaves_the_header_only(tmp_path):
    Curves(None).write(tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text() == "epoch\n"


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(-1e9, 1e9)), max_size=4))
def test_numbers_survive_to_six_digits(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "curves.csv"
    curves = Curves(None)
    curves.replay(rows)
    curves.write(path)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows)
    for number, (line, row) in enumerate(zip(read, rows, strict=True), 1):
        assert int(line.pop("epoch")) == number
        assert {key for key, value in line.items() if value} == set(row)
        for key, value in row.items():
            assert abs(float(line[key]) - value) <= 1e-5 * abs(value)
