import itertools

import pytest

from pipeline.errors import InputError
from pipeline.report.compare_records import ORDER, collect_facts, group_records, read_records
from tests.report.records import make_record, write_records


def test_runs_are_grouped_by_data_and_split_and_ordered_as_in_the_ablation(tmp_path):
    presets = ["zebra", "fs4", "picie+cae", "picie", "mdc", "apple", "features", "picie+pgg", "kmeans"]
    records = [make_record(preset, seed) for preset, seed in itertools.product(presets, (2, 0, 1))]
    records += [make_record(data="other", split="train", name="o1"), make_record(data="other", name="o2")]
    found, left_out = read_records(write_records(tmp_path, *records))
    assert left_out == []
    first, second, third = group_records(found)
    assert [(c.data, c.split, len(c.runs)) for c in (first, second, third)] == [
        ("other", "train", 1),
        ("other", "val", 1),
        ("sample", "val", 27),
    ]
    assert [baseline.name for baseline in third.baselines] == [*ORDER, "apple", "zebra"]
    assert all([run.seed for run in baseline.runs] == [0, 1, 2] for baseline in third.baselines)


def test_single_runs_and_runs_without_scores_are_left_out_by_name(tmp_path):
    no_masks = make_record(seed=1)
    no_masks["metrics"] = {"clusters": {"k": 9}}
    single = {"name": "single", "metrics": {}, "command": "make repro"}
    found, left_out = read_records(write_records(tmp_path, make_record(), no_masks, single))
    assert [record.name for record in found] == ["sample-picie-s0"]
    assert left_out == ["sample-picie-s1", "single"]


@pytest.mark.parametrize("text", ["{", "[]", '{"name": 1}', "null"])
def test_other_files_are_refused_by_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json: not a record of a run"):
        read_records(tmp_path)


def test_figures_that_are_no_numbers_are_refused(tmp_path):
    record = make_record()
    record["metrics"]["all"]["miou"] = "high"
    with pytest.raises(InputError, match=r"sample-picie-s0\.json: not a record"):
        read_records(write_records(tmp_path, record))


def test_one_preset_and_seed_is_recorded_once(tmp_path):
    records, _ = read_records(write_records(tmp_path, make_record(), make_record(name="again")))
    with pytest.raises(InputError, match="sample-picie-s0 and again: both are preset picie, seed 0 on sample val"):
        group_records(records)


def test_facts_name_the_runs_that_differ(tmp_path):
    changed = make_record(seed=1, drawn=None, commit="abc")
    changed["metrics"]["protocol"]["resolution"] = 160
    changed["metrics"]["clusters"]["k"] = 11
    changed["versions"] = {"torch": "3"}
    records, _ = read_records(write_records(tmp_path, make_record(), changed))
    facts = {fact.name: fact.values for fact in collect_facts(records)}
    one, other = ("sample-picie-s0",), ("sample-picie-s1",)
    assert facts["resolution"] == (("128", one), ("160", other))
    assert facts["K"] == (("9", one), ("11", other))
    assert facts["version of torch"] == (("2.14.1", one), ("3", other))
    assert facts["final clusterings"] == (("5", one), ("not recorded", other))
    assert facts["code"] == (("not recorded", one), ("abc", other))
    assert facts["match rule"] == (("hungarian", one + other),)
    assert "matched on" not in facts
