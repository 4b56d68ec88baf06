import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.report import results
from pipeline.report.results import baselines_table, record_result, replace_table, results_table, write_record
from pipeline.runtime.artifacts import create_artifact, write_json

METRICS = {
    "all": {"miou": 20.0, "pixel_accuracy": 40.0},
    "things": {"miou": 10.0},
    "stuff": {"miou": 30.0},
    "majority": {"miou": 25.0},
    "floors": {"colour_position_kmeans": {"miou": 15.0}, "random": {"miou": 5.0}},
    "clusters": {"k": 9},
    "protocol": {"images": 50},
}
RUN = {"command": "make repro", "metrics": METRICS, "protocol": {"split": "val"}}


def baseline(preset: str, seed: int, miou: float, data: str = "sample", code: str = "1", **changes) -> dict:
    metrics = METRICS | {"all": {"miou": miou, "pixel_accuracy": 40.0 + seed}}
    keys = {"name": f"{preset}-s{seed}", "preset": preset, "seed": seed, "data": data, "seconds": {"train": 60.0}}
    return RUN | keys | {"metrics": metrics, "digests": {"code": code}} | changes


def fill(folder: Path, *records: dict) -> Path:
    for record in records:
        write_record(folder / f"{record['data']}-{record['name']}.json", record)
    return folder


def test_a_run_is_recorded_from_the_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "EVALUATION", tmp_path / "evaluation")
    with create_artifact(tmp_path / "evaluation") as writer:
        writer.notes |= {"versions": {"torch": "1"}, "machine": {"threads": 2}}
        write_json(writer.path / "metrics.json", METRICS)
        write_json(writer.path / "protocol.json", {"split": "val"})
    path = record_result("mine", "make repro", tmp_path)
    assert json.loads(path.read_text("utf-8")) == RUN | {"versions": {"torch": "1"}, "machine": {"threads": 2}}
    assert results_table(tmp_path).splitlines()[2:] == [
        "| mine | 50 val | 9 | 40.0 | **20.0** | 25.0 | 15.0 | 5.0 | `make repro` |"
    ]
    with pytest.raises(ParamsError, match="small letters"):
        record_result("Mine", "make repro", tmp_path)


def test_baselines_are_means_over_seeds_with_the_sample_deviation(tmp_path):
    fill(tmp_path, baseline("picie", 0, 20.0), baseline("picie", 1, 23.0), baseline("fs4", 0, 30.0))
    assert baselines_table(tmp_path).splitlines()[2:] == [
        "| sample | `fs4` | 0 | 40.0 | 30.0 | 10.0 | 30.0 | 15.0 | 60.0 |",
        "| sample | `picie` | 0, 1 | 40.5 ± 0.7 | 21.5 ± 2.1 | 10.0 ± 0.0 | 30.0 ± 0.0 | 15.0 ± 0.0 | 60.0 ± 0.0 |",
    ]


def test_what_was_not_measured_is_a_dash(tmp_path):
    fill(tmp_path, baseline("picie", 0, 20.0, seconds={}, metrics={"clusters": {"k": 9}}))
    assert baselines_table(tmp_path).splitlines()[-1] == "| sample | `picie` | 0 | – | – | – | – | – | – |"


def test_data_are_shown_apart(tmp_path):
    fill(tmp_path, baseline("fs4", 0, 30.0, data="camvid"), baseline("fs4", 0, 30.0))
    assert [line.split("|")[1] for line in baselines_table(tmp_path).splitlines()[2:]] == [" camvid ", " sample "]
    assert [line.split("|")[1] for line in baselines_table(tmp_path, "camvid").splitlines()[2:]] == [" camvid "]
    assert baselines_table(tmp_path, "other") == ""


def test_records_of_different_code_are_told(tmp_path):
    fill(tmp_path, baseline("fs4", 0, 30.0), baseline("picie", 0, 30.0, code="2"), baseline("fs4", 0, 1.0, data="x"))
    told = [line for line in baselines_table(tmp_path).splitlines() if not line.startswith("|") and line]
    assert told == ["sample: made with 2 versions of the code; `make baselines` makes them alike."]


def test_the_table_of_all_records_has_single_runs_first(tmp_path):
    write_record(tmp_path / "zebra.json", RUN)
    single = results_table(tmp_path)
    assert "| zebra |" in single
    fill(tmp_path, baseline("fs4", 0, 30.0))
    assert results_table(tmp_path) == f"{single}\n\n{baselines_table(tmp_path)}"
    text = f"before\n{results.START}\nold\n{results.END}\nafter"
    assert replace_table(text, "new") == f"before\n{results.START}\nnew\n{results.END}\nafter"


@pytest.mark.parametrize("text", ["[", "[]", '{"metrics": {}}', '{"preset": "fs4", "metrics": {}}'])
def test_what_is_no_record_is_named(tmp_path, text):
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(InputError, match=r"odd\.json: not a record of a run"):
        results_table(tmp_path)
