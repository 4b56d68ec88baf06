import re

import pytest
import yaml

from pipeline.errors import InputError, ParamsError
from pipeline.labels.naming import name_clusters
from pipeline.params import ReportParams
from pipeline.report.named_report import write_named_report
from pipeline.report.page import build_report
from tests.report.test_page import Page

PARAMS = ReportParams(title="A title", regions_per_cluster=2, pyramid_images=1)
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def named(project, monkeypatch):
    """Writes a project and a names file; the names are those of the clusters in order."""

    def write(names: tuple[str, ...], **changes):
        described = project(**changes)
        inputs = described.write()
        monkeypatch.chdir(described.root)
        file = described.root / "names.yaml"
        name_clusters(file, force=False, check=None, apply=None, output=None)
        content = yaml.safe_load(file.read_text("utf-8"))
        file.write_text(yaml.safe_dump({**content, "names": dict(enumerate(names))}), "utf-8")
        return inputs, file, described.root / "data/labels/report.html"

    return write


def test_sheets_gallery_and_tables_have_the_names(named):
    inputs, file, out = named(("water", "road", "water", EVIL))
    before = build_report(inputs, PARAMS)
    assert write_named_report(file, out, PARAMS) == f"4 clusters with 3 names in {out}"
    text = out.read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert re.search(r"water \d+\.\d % 0, 2 ", page.text)  # the table of names
    assert len(re.findall(r"water cluster [02] ", page.text)) == 2  # the sheets
    assert re.search(r"\d · (water|road)", page.text)  # the cluster of each class
    assert "Predicted:" in page.text
    # both clusters of one name are one colour, also in the pictures
    assert len(set(re.findall(r'background:(#\w+)"></span>water', text))) == 1
    assert sum(a["src"] != b["src"] for a, b in zip(page.images, Page(before).images, strict=True)) >= 2
    # the graph's page, and the scores, stay as they are
    assert build_report(inputs, PARAMS) == before
    assert "water" not in before
    for row in ("This run: all classes", "This run: majority"):
        figures = rf"{row}.{{60,160}}"
        assert re.search(figures, page.text)[0] == re.search(figures, Page(before).text)[0]


def test_a_name_that_is_a_class_has_its_colour(named):
    _, file, out = named(("road", "b", "c", "d"))
    write_named_report(file, out, PARAMS)
    colours = re.findall(r'background:(#\w+)"></span>road', out.read_text("utf-8"))
    assert len(colours) >= 4  # both legends, the classes, the names
    assert len(set(colours)) == 1


def test_without_masks_names_are_all_there_is(named):
    _, file, out = named(("water", "grass", "water", "sand"), masks=False)
    write_named_report(file, out, PARAMS)
    page = Page(out.read_text("utf-8"))
    assert "The same colour is the same name in all images." in page.text
    assert "Truth:" not in page.text


def test_what_does_not_fit_is_refused(named):
    _, file, out = named(("a", "b", "c", "d"))
    with pytest.raises(InputError, match="lies in the finished output"):
        write_named_report(file, out.parents[1] / "evaluation/page.html", PARAMS)
    with pytest.raises(ParamsError, match=r"let it end in \.html"):
        write_named_report(file, file, PARAMS)
    file.write_text(file.read_text("utf-8").replace("segmentation: ", "segmentation: f"), "utf-8")
    with pytest.raises(ParamsError, match="go back to that run"):
        write_named_report(file, out, PARAMS)
    assert not out.exists()
