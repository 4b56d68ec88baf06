import re

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError, ParamsError
from pipeline.report.compare import draw_strips, write_comparison
from pipeline.report.compare_records import group_records, read_records
from tests.report.records import make_record, write_records
from tests.report.test_page import Page


def build(tmp_path, *records, data=None):
    folder = write_records(tmp_path / "results", *records)
    out = write_comparison(folder, tmp_path / "pictures", tmp_path / "out" / "index.html", data)
    return out.read_text("utf-8")


def ablation(**changes):
    mious = {"picie": 18.0, "picie+pgg": 20.0, "fs4": 26.0, "fs4-other": 24.0}
    return [make_record(preset, seed, miou + seed, **changes) for preset, miou in mious.items() for seed in range(3)]


def test_page_is_well_formed_and_has_all_records(tmp_path):
    single = {"name": "single", "metrics": {}, "command": "make repro"}
    records = [*ablation(), make_record("mdc", data="other", name="other-mdc"), single]
    page = Page(build(tmp_path, *records))
    assert page.ids.count("summary") == 1
    assert len(set(page.ids)) == len(page.ids)
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert all(link[1:] in page.ids for link in page.links)
    for record in records[:-1]:
        assert record["name"] in page.text
        assert record["command"] in page.text
    assert "scores: single." in page.text
    assert "12 runs of 4 baselines, scored on 50 images" in page.text
    assert "other, val : There are no runs of picie and fs4 yet" in page.text
    assert "fs4 is 8.0 points of mIoU above picie" in page.text
    assert "fs4 0, 1, 2 +8.0 ▲ ± 1.0 +8.0 ▲ ± 1.0" in page.text
    assert "do not share one protocol" not in page.text
    assert "data/compare/sample has none" in page.text


def test_page_needs_nothing_but_itself(tmp_path):
    folder = tmp_path / "pictures" / "sample" / "sample-fs4-s0"
    folder.mkdir(parents=True)
    for kind in ("image", "truth", "prediction"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"00-{kind}.png")
    text = build(tmp_path, *ablation())
    page = Page(text)
    assert len(page.images) == 3
    assert all(image["alt"] for image in page.images)
    assert not {"script", "link"} & page.tags
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "xlink:href", "data", "poster"):
            assert value.startswith(("#", "data:image/"))
    assert "//" not in re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "No pictures on this machine: picie, picie+pgg, fs4-other" in page.text


def test_names_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    record = make_record(evil, data=evil, command=evil, name="x", protocol={"frame": evil}, versions={evil: evil})
    record["metrics"]["per_class"] = {evil: 1.0}
    record["metrics"]["floors"] = {evil: {"miou": 1.0}}
    record["seconds"] = {evil: 1.0}
    other = make_record('a" onload="b', data=evil, name="y", command="")
    text = build(tmp_path, record, other)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script>" not in text
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(evil) > 8


def test_runs_that_differ_in_protocol_are_named_and_not_praised(tmp_path):
    records = ablation()
    records[-4]["metrics"]["protocol"]["resolution"] = 320
    text = build(tmp_path, *records)
    page = Page(text)
    assert "These runs do not share one protocol" in page.text
    assert (
        "resolution: 128 (sample-picie-s0, sample-picie-s1, sample-picie-s2, sample-picie-pgg-s0 and 7 more); 320"
        in (page.text)
    )
    assert "Mind that the runs differ in protocol" in page.text
    assert "verdict good" not in text


def test_splits_are_never_mixed(tmp_path):
    page = Page(build(tmp_path, make_record(), make_record("fs4", split="train")))
    assert "sample, train" in page.text
    assert "sample, val" in page.text
    assert page.text.count("1 run of 1 baseline,") == 2


def test_records_without_optional_figures(tmp_path):
    record = make_record(drawn=None, seconds={})
    for key in ("things", "stuff", "majority", "floors", "per_class", "protocol"):
        del record["metrics"][key]
    page = Page(build(tmp_path, record))
    assert "final clustering" not in page.text
    assert "over draws" not in page.text
    assert "There is nothing to pair" in page.text


def test_refined_scores_have_a_column_where_there_are_any(tmp_path):
    plain, refined = make_record("picie", 0, 20.0), make_record("fs4", 0, 26.0)
    assert "refined" not in Page(build(tmp_path, plain)).text.lower()
    refined["metrics"]["refined"] = {"all": {"miou": 27.25, "pixel_accuracy": 50.0}}
    refined["protocol"]["refined"] = "local CRF, 5 mean-field iterations"
    page = Page(build(tmp_path, plain, refined))
    assert "mIoU, many to one mIoU, refined" in page.text
    assert "29.0 27.2 " in page.text
    assert "23.0 – " in page.text
    assert "do not share one protocol" not in page.text
    other = make_record("picie", 1, 20.0)
    other["metrics"]["refined"] = {"all": {"miou": 21.0, "pixel_accuracy": 50.0}}
    other["protocol"]["refined"] = "local CRF, 9 mean-field iterations"
    text = build(tmp_path, plain, refined, other)
    assert "do not share one protocol" in text
    assert "9 mean-field iterations" in text


def test_flip_averaged_scores_have_a_column_where_there_are_any(tmp_path):
    plain, averaged = make_record("picie", 0, 20.0), make_record("fs4", 0, 26.0)
    assert "flip" not in Page(build(tmp_path, plain)).text.lower()
    averaged["metrics"]["flip_averaged"] = {"all": {"miou": 26.75, "pixel_accuracy": 50.0}}
    averaged["protocol"]["flip_averaged"] = "cluster scores averaged over the image and its mirror image"
    text = Page(build(tmp_path, plain, averaged)).text
    assert "mIoU, many to one mIoU, flip-averaged" in text
    assert "29.0 26.8 " in text
    assert "do not share one protocol" not in text


def test_one_data_set_can_be_chosen(tmp_path):
    records = [make_record(), make_record(data="other", name="other-picie")]
    assert "other-picie" not in build(tmp_path, *records, data="sample")
    with pytest.raises(ParamsError, match=r"--data: 'x' has no records; .* has other, sample"):
        build(tmp_path, *records, data="x")


def test_no_records_are_an_error(tmp_path):
    with pytest.raises(InputError, match="no records of baselines; `make baselines` writes them"):
        build(tmp_path, {"name": "single", "metrics": {}, "command": "make repro"})


def test_same_records_give_the_same_bytes(tmp_path):
    assert build(tmp_path, *ablation()) == build(tmp_path, *reversed(ablation()))


def test_the_chart_has_a_place_for_every_run(tmp_path):
    records, _ = read_records(write_records(tmp_path, make_record(seed=0, miou=10.0), make_record(seed=1, miou=14.0)))
    (strip,), floors, end = draw_strips(group_records(records)[0], [20.0])
    assert end == 25
    assert floors == [80.0]
    assert [place for place, _ in strip.runs] == [40.0, 56.0]
    assert [place for place, _ in strip.drawn] == [36.0, 52.0]
    assert strip.mean == 48.0
    assert strip.high - strip.low == pytest.approx(2 * 100 * 8**0.5 / 25)
