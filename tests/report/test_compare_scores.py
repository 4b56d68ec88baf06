import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.compare_records import Baseline, Comparison, Record
from pipeline.report.compare_scores import (
    FIGURES,
    class_table,
    floor_rows,
    judge_comparison,
    paired_difference,
    spread,
    spread_of,
    stage_table,
)
from tests.report.records import make_record

MIOU = FIGURES[0]
PERCENT = st.floats(0, 100)


def baseline(preset, mious, **changes):
    """Runs of one preset from their mIoU by seed."""
    return Baseline(preset, tuple(Record(**make_record(preset, s, m, **changes)) for s, m in sorted(mious.items())))


def comparison(*baselines):
    return Comparison("sample", "val", baselines)


def slow_sd(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


@given(st.lists(PERCENT, min_size=2, max_size=6))
def test_spread_is_mean_and_sample_deviation(values):
    found = spread([None, *values])
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.sd == pytest.approx(slow_sd(values), abs=1e-9)
    assert found.n == len(values)


def test_one_value_has_no_deviation_and_none_no_spread():
    assert (spread([3.0]).mean, spread([3.0]).sd, spread([3.0]).n) == (3.0, None, 1)
    assert spread([None]) is None


@given(st.dictionaries(st.integers(0, 5), PERCENT, min_size=1), st.dictionaries(st.integers(0, 5), PERCENT, min_size=1))
def test_differences_are_paired_over_common_seeds(ours, theirs):
    found = paired_difference(baseline("fs4", ours), baseline("picie", theirs), MIOU)
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        assert found is None
        return
    assert found.seeds == tuple(common)
    assert found.mean == pytest.approx(sum(ours[s] - theirs[s] for s in common) / len(common), abs=1e-9)
    if len(common) == 1:
        assert (found.pooled_sd, found.verdict) == (None, "unknown")
    else:
        a, b = ([values[s] for s in common] for values in (ours, theirs))
        assert found.pooled_sd == pytest.approx(math.sqrt((slow_sd(a) ** 2 + slow_sd(b) ** 2) / 2), abs=1e-9)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [((30.0, 31.0), "up"), ((10.0, 11.0), "down"), ((20.0, 22.0), "same"), ((21.0, 21.0), "same")],
)
def test_a_difference_counts_beyond_the_pooled_sd(ours, verdict):
    found = paired_difference(baseline("fs4", dict(enumerate(ours))), baseline("picie", {0: 20.0, 1: 22.0}), MIOU)
    assert found.verdict == verdict


def test_figures_over_draws_come_from_their_own_group():
    one = baseline("picie", {0: 20.0, 1: 30.0}, drawn=17.0)
    assert [spread_of(one, figure).mean for figure in FIGURES] == [25.0, 50.0, 12.5, 37.5, 28.0]
    assert [spread_of(one, figure, draws=True) and spread_of(one, figure, draws=True).mean for figure in FIGURES] == [
        17.0,
        34.0,
        8.5,
        25.5,
        None,
    ]
    without = baseline("picie", {0: 20.0}, drawn=None)
    assert spread_of(without, MIOU, draws=True) is None
    assert paired_difference(one, without, MIOU, draws=True) is None


def test_classes_are_averaged_where_they_are_counted():
    one = baseline("picie", {0: 20.0, 1: 30.0})
    del one.runs[1].metrics["per_class"]["car"]
    other = baseline("fs4", {0: 10.0})
    del other.runs[0].metrics["per_class"]["car"]
    table = dict(class_table(comparison(one, other)))
    assert list(table) == ["sky", "car", "road"]
    assert [found.mean for found in table["sky"]] == [50.0, 20.0]
    assert (table["car"][0].mean, table["car"][0].n, table["car"][1]) == (10.0, 1, None)


def test_floors_are_best_first_with_their_own_deviation():
    rows = floor_rows(comparison(baseline("picie", {0: 20.0}), baseline("fs4", {0: 20.0})))
    assert [(row.name, row.miou, row.miou_sd, row.accuracy) for row in rows] == [
        ("colour_position_kmeans", 16.7, 0.3, 31.0),
        ("random", 5.4, None, 11.2),
    ]


def test_seconds_are_means_in_the_order_of_the_graph():
    one = baseline("picie", {0: 1.0, 2: 1.0})
    other = baseline("fs4", {0: 1.0}, seconds={"evaluate": 5.0, "export": 1.0, "train": 7.0})
    stages, table = stage_table(comparison(one, other))
    assert stages == ["pretrain", "train", "evaluate", "export"]
    assert table == [[60.0, 101.0, None, None], [None, 7.0, 5.0, 1.0]]


def test_the_verdict_takes_the_mean_over_draws_and_names_the_floor():
    picie = baseline("picie", {0: 20.0, 1: 22.0}, drawn=18.0)
    sentence, tone = judge_comparison(comparison(picie, baseline("fs4", {0: 40.0, 1: 42.0}, drawn=28.0)))
    assert sentence == (
        "fs4 is 10.0 points of mIoU above picie (2 common seeds, pooled sd 0.0; mean over the final "
        "clusterings); with 28.0\u00a0% it is above the best floor (16.7\u00a0%)."
    )
    assert tone == "good"
    sentence, tone = judge_comparison(comparison(picie, baseline("fs4", {0: 15.0, 1: 15.5}, drawn=None)))
    assert sentence.startswith("fs4 is 5.8 points of mIoU below picie (2 common seeds, pooled sd 1.0; chosen")
    assert "it is not above the best floor" in sentence
    assert tone == "poor"


@pytest.mark.parametrize(
    ("baselines", "words"),
    [
        ((baseline("picie", {0: 1.0}),), "no runs of fs4 yet"),
        ((baseline("mdc", {0: 1.0}),), "no runs of picie and fs4 yet"),
        ((baseline("picie", {0: 1.0}), baseline("fs4", {1: 1.0})), "no seed in common"),
    ],
)
def test_what_is_missing_is_said(baselines, words):
    sentence, tone = judge_comparison(comparison(*baselines))
    assert words in sentence
    assert tone == ""


def test_one_common_seed_has_no_tone():
    sentence, tone = judge_comparison(comparison(baseline("picie", {0: 1.0}), baseline("fs4", {0: 30.0})))
    assert "1 common seed, no sd from one seed" in sentence
    assert tone == ""
