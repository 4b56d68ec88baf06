import json

import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.report.label_results import END, START, label_tables, record_labels, write_label_tables
from pipeline.runtime.artifacts import create_artifact, write_json
from tests.report.test_labels_page import PROBE, make_curve

NOTES = {"versions": {"torch": "1"}, "machine": {"threads": 2}}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A folder with a probe of the segmenter and a curve of the backbone."""
    monkeypatch.chdir(tmp_path)
    for place, name, content in (
        ("probe/segmenter", "probe.json", PROBE),
        ("finetune/backbone", "curve.json", make_curve((1, 10))),
    ):
        with create_artifact(tmp_path / "data" / place) as writer:
            writer.notes |= NOTES
            write_json(writer.path / name, content)
    return tmp_path


def test_a_record_keeps_all_and_the_tables_are_made_from_it(found):
    path = record_labels("sample", "dvc exp run", found / "results")
    assert path == found / "results/labels/sample.json"
    kept = json.loads(path.read_text("utf-8"))
    assert kept == {"command": "dvc exp run", "probe": [PROBE], "finetune": [make_curve((1, 10))], **NOTES}
    lines = label_tables(path.parent).splitlines()
    assert "| sample | segmenter | 6 | 3 val <x> | 41.3 | 70.0 | 41.3 | 70.0 |" in lines
    assert "| sample | backbone | 1 | 1 | 40.0 ± 5.7 | 0.0 ± 5.7 | 2 |" in lines
    assert "| sample | backbone | 10 | 10 | 50.0 ± 5.7 | 10.0 ± 5.7 | 2 |" in lines
    assert lines[-1] == "- sample: `dvc exp run`"


def test_the_tables_stand_between_their_markers(found):
    record_labels("sample", "dvc exp run", found / "results")
    page = found / "labels.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_label_tables(page, found / "results")
    text = page.read_text("utf-8")
    assert text == f"before\n{START}\n{label_tables(found / 'results/labels')}\n{END}\nafter\n"
    page.write_text("nothing")
    with pytest.raises(InputError, match=r"labels\.md: the markers .* are missing"):
        write_label_tables(page, found / "results")


def test_what_is_no_record_is_named(found, tmp_path):
    with pytest.raises(ParamsError, match="small letters"):
        record_labels("../x", "dvc exp run", found / "results")
    (found / "results/labels").mkdir(parents=True)
    (found / "results/labels/bad.json").write_text('{"probe": [{}], "finetune": []}')
    with pytest.raises(InputError, match=r"bad\.json: not a record of labels .* `fs4 record --labels`"):
        label_tables(found / "results/labels")


def test_nothing_to_record_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="nothing here to record"):
        record_labels("sample", "dvc exp run", tmp_path)
    assert label_tables(tmp_path / "labels") == ""
