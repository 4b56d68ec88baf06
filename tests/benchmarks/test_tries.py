import json

import pytest

from benchmarks import tries
from benchmarks.tries import BEGINNING, format_tables, read_start, read_tries
from pipeline.errors import ParamsError
from pipeline.params import parse_params
from pipeline.params.presets import merge_overrides
from pipeline.yaml_reader import read_yaml

BASE = read_yaml(tries.Path("params.yaml"))
OPTIONS = {"data": "", "preset": "", "seed": 0, "force": False}


def _draws(miou: float) -> dict[str, float | None]:
    figures = {"miou_mean": miou, "miou_sd": 0.44, "pixel_accuracy_mean": 50.04}
    return figures | {"things_miou_mean": None, "stuff_miou_mean": 40.0}


@pytest.mark.parametrize("name", [name for name in read_tries() if name != BEGINNING])
def test_every_variant_is_valid_and_another_than_the_start(name):
    start = merge_overrides(BASE, read_start())
    assert parse_params(merge_overrides(start, read_tries()[name][1])) != parse_params(start)


def test_the_table_is_in_the_order_of_the_list_and_compares_with_the_start(tmp_path):
    listed = {BEGINNING: ("base", {}), "b": ("group", {"pgg": {"k": 11}}), "a": ("group", {"train": {"epochs": 8}})}
    for name, miou in (("a", 25.0), ("b", 27.5), (BEGINNING, 26.0)):
        record = {"data": "toy", "seed": 0, "commit": "c0ffee", "name": name, "draws": _draws(miou)}
        (tmp_path / f"toy-{name}.json").write_text(json.dumps(record))
    assert format_tables(tmp_path, listed).splitlines()[2:] == [
        *tries.HEADER.splitlines(),
        "| base | – | 50.0 | 26.0 ± 0.4 | – | – | 40.0 |",
        "| group | `pgg.k=11` | 50.0 | 27.5 ± 0.4 | +1.5 | – | 40.0 |",
        "| group | `train.epochs=8` | 50.0 | 25.0 ± 0.4 | -1.0 | – | 40.0 |",
    ]


def test_the_table_grows_over_several_sittings(tmp_path, monkeypatch):
    monkeypatch.setattr(tries, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(tries, "PAGE", tmp_path / "method.md")
    tries.PAGE.write_text(f"before\n{tries.START}\nold\n{tries.END}\nafter\n")
    measured = []

    def measure(clone, params):
        assert params["train"]["cae"]["gamma"] == read_start()["train"]["cae"]["gamma"] != BASE["train"]["cae"]["gamma"]
        measured.append((params["pgg"]["k"], params["train"]["pgg"]["weight"], params["train"]["seed"]))
        return {"draws": _draws(20.0)}

    monkeypatch.setattr(tries, "measure", measure)
    tries.main("toy", only="start K11", **OPTIONS)
    tries.main("toy", only="K11 weight1", **OPTIONS)
    tries.main("toy", only="K11", **OPTIONS | {"seed": 3})
    default = BASE["pgg"]["k"], BASE["train"]["pgg"]["weight"]
    assert measured == [(*default, 0), (11, default[1], 0), (default[0], 1.0, 0), (11, default[1], 3)]
    page = tries.PAGE.read_text()
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "`train.pgg.weight=1.0`" in page
    assert "training seed 3" in page


def test_a_variant_that_is_not_listed_is_refused():
    with pytest.raises(ParamsError, match="K12: no such variant"):
        tries.main("toy", only="K12", **OPTIONS)
