import re

import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.report.labels_page import (
    HEIGHT,
    WIDTH,
    build_labels_page,
    compare_classes,
    draw_few_labels,
    write_labels_page,
)
from pipeline.runtime.artifacts import create_artifact, write_json

FIGURES = {"all": {"miou": 41.26, "pixel_accuracy": 70.0}, "per_class": {"<i>sky</i>": 61.0}}
COUNTS = {"learnt_images": 6, "scored_images": 3, "split": "val <x>"}
PROBE = {"map": "segmenter", "probes": {"linear": FIGURES, "knn": FIGURES}, **COUNTS}


def make_curve(counts=(1, 10, 100), high=40.0) -> dict:
    points, means = [], []
    for start, bonus in (("pretrained", high), ("random", 0.0)):
        for place, images in enumerate(counts):
            mious = [bonus + 10 * place - 4, bonus + 10 * place + 4]
            points += [{"start": start, "images": images, "seed": s, "miou": miou} for s, miou in enumerate(mious)]
            means.append({"start": start, "images": images, "seeds": 2, "miou_mean": sum(mious) / 2, "miou_sd": 5.7})
    points = [{**point, "pixel_accuracy": 50.0} for point in points]
    found = {"map": "backbone", "points": points, "means": means, "labelled_images": 100}
    return {**found, "checkpoint_rule": "last", **COUNTS}


@pytest.mark.parametrize("counts", [(1, 10, 100), (5,)])
def test_curves_stay_inside_and_stand_where_they_should(counts):
    plot = draw_few_labels(make_curve(counts))
    for curve in plot.curves:
        assert len(curve.dots) == 2 * len(counts)
        for pair in f"{curve.points} {curve.band}".split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    if len(counts) == 3:
        assert [x for x, _ in plot.across] == [0.0, WIDTH / 2, WIDTH]  # tenfold is half the way
        assert plot.curves[0].points.split()[0] == f"0.0,{HEIGHT * (1 - 40 / 70):.1f}"


def test_the_page_needs_nothing_else():
    page = build_labels_page([PROBE], [make_curve()])
    assert not re.search(r"https?://|<script|@import|src=", page)
    assert "val &lt;x&gt;" in page
    assert "<td>knn</td><td>41.3</td>" in page
    assert page.count("<polyline") == 2
    assert page.count("<circle") == 12  # every seed of every number and start
    for row in ("1</th><td>1.0&nbsp;%</td><td>40.0 ± 5.7</td><td>0.0 ± 5.7</td><td>+40.0", "<td>pre-trained</td><td>"):
        assert row.replace("<td>pre-trained", '<td class="words">pre-trained') in page
    assert "2 seeds, mean ± sd" in page
    assert "<i>" not in page
    assert build_labels_page([PROBE], [make_curve()]) == page
    assert "<polyline" not in build_labels_page([PROBE], [])
    assert "Probes" not in build_labels_page([], [make_curve()])


def test_classes_stand_beside_each_other_and_may_be_missing():
    other = {"map": "backbone", "probes": {"linear": {"per_class": {"car": 3.0}}}}
    columns, rows = compare_classes([PROBE, other])
    assert columns == ["segmenter, linear", "segmenter, knn", "backbone, linear"]
    assert [(row.name, row.ious) for row in rows] == [("<i>sky</i>", [61.0, 61.0, None]), ("car", [None, None, 3.0])]


def test_the_page_is_no_other_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with create_artifact(tmp_path / "data/probe/segmenter") as writer:
        write_json(writer.path / "probe.json", PROBE)
    with pytest.raises(ParamsError, match=r"let it end in \.html"):
        write_labels_page(tmp_path / "names.yaml")
    with pytest.raises(InputError, match="lies in the finished output"):
        write_labels_page(tmp_path / "data/probe/segmenter/index.html")


def test_what_there_is_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "data/labels/index.html"
    with pytest.raises(InputError, match=r"data/probe and data/finetune: nothing here"):
        write_labels_page(out)
    with create_artifact(tmp_path / "data/probe/segmenter") as writer:
        write_json(writer.path / "probe.json", PROBE)
    assert "41.3" in write_labels_page(out).read_text("utf-8")
