import math
from types import SimpleNamespace

import pytest

from pipeline.errors import InputError
from pipeline.report.curves import HEIGHT, WIDTH, draw_charts
from pipeline.report.inputs import read_curves


def test_line_runs_from_corner_to_corner():
    (chart,) = draw_charts({"epoch": [1, 2, 3], "loss": [2.0, 1.5, 1.0]})
    assert chart.lines[0].stretches == [f"0.0,0.0 {WIDTH / 2},{HEIGHT / 2} {WIDTH:.1f},{HEIGHT:.1f}"]
    assert (chart.low, chart.high, chart.lines[0].last) == ("1", "2", "1")
    assert (chart.first_epoch, chart.last_epoch) == (1, 3)
    assert chart.summary == "loss over epochs 1 to 3, 2 to 1"


def test_levels_share_a_chart():
    charts = draw_charts({"epoch": [1.0], "pgg_top1_level_4": [0.5], "loss": [1.0], "pgg_top1_level_8": [0.25]})
    assert [[line.label for line in chart.lines] for chart in charts] == [["level 4", "level 8"], [""]]
    assert charts[0].title == "PGG top1"


def test_gaps_break_the_line():
    (chart,) = draw_charts({"epoch": [1, 2, 3, 4, 5], "nmi": [math.nan, 0.5, math.inf, 0.7, 0.9]})
    assert len(chart.lines[0].stretches) == 2
    assert chart.lines[0].end == (WIDTH, 0.0)
    assert chart.low == "0.5"


def test_constant_column_and_single_epoch_stay_inside():
    (chart,) = draw_charts({"epoch": [1], "gamma": [0.5]})
    assert chart.lines[0].stretches == [f"0.0,{HEIGHT / 2:.1f}"]


def test_columns_without_numbers_and_no_training_give_no_charts():
    assert draw_charts({"epoch": [1, 2], "nmi": [math.nan, math.nan]}) == []
    assert draw_charts({}) == []


def artifact(tmp_path, text):
    path = tmp_path / "curves.csv"
    path.write_text(text, "utf-8")
    return SimpleNamespace(manifest={"files": {"curves.csv": {}}}, file=lambda name: path)


def test_curves_are_read_with_gaps(tmp_path):
    columns = read_curves(artifact(tmp_path, "epoch,loss,nmi\n1,2.5,\n2,1e-5,0.5\n"))
    assert columns["epoch"] == [1.0, 2.0]
    assert columns["loss"] == [2.5, 1e-5]
    assert math.isnan(columns["nmi"][0])


@pytest.mark.parametrize("text", ["", "epoch,loss\n"])
def test_empty_curves_mean_no_training(tmp_path, text):
    assert read_curves(artifact(tmp_path, text)) == {}


def test_damaged_curves_are_named_with_their_line(tmp_path):
    with pytest.raises(InputError, match=r"curves\.csv: line 3 has 'x' as loss"):
        read_curves(artifact(tmp_path, "epoch,loss\n1,2\n2,x\n"))
