"""Row 42: names that a page could take for its own text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults.faulty import make_photos, read_folder
from tests.graph.project import Project

pytestmark = pytest.mark.graph

HOSTILE = ("<script>alert(1)</script>", "=cmd('calc')", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}")


class Page(HTMLParser):
    """Collects the elements and the addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.handlers: set[str] = set()
        self.policy = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attributes}
        self.tags.add(tag)
        self.addresses |= {values[key] for key in ("src", "href", "action", "data", "srcset") if key in values}
        self.handlers |= {key for key in values if key.startswith("on")}
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def assert_harmless(text: str) -> None:
    """Fail if a page runs or fetches anything."""
    page = Page()
    page.feed(text)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert not page.handlers
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses), page.addresses
    assert page.policy.startswith("default-src 'none'")
    assert "script-src" not in page.policy
    assert not re.search(r"@import|url\((?!\s*[\"']?data:)", text)


def test_row_42_hostile_names(project: Project, tmp_path: Path) -> None:
    """Classes, files and a data set that are named like HTML, a template, or a formula of a spreadsheet.

    Escaped everywhere: the report runs nothing and fetches nothing, which its Content-Security-Policy forbids as well,
    and no CSV file has a cell that starts a formula.
    """
    root = make_photos(tmp_path / "photos")
    for number in range(2):
        values = np.repeat(np.arange(4), 16).astype(np.uint8)[:, None].repeat(96, 1)
        Image.fromarray(values).save(root / f"masks/val/{number}.png")
    for part, ending in (("images", ".png"), ("masks", ".png")):
        (root / part / "val/0.png").rename(root / part / f"val/<svg onload=alert(1)>{ending}")
    classes = [{"id": number, "name": name} for number, name in enumerate(HOSTILE)]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "name": HOSTILE[0], "note": HOSTILE[2]}))
    read_folder(project, root)
    project.set_params({"report": {"title": HOSTILE[0]}})
    for stage in ("prepare", "extract", "cluster", "evaluate", "report"):
        project.stage(stage)
    text = (project.root / "data/report/index.html").read_text("utf-8")
    assert_harmless(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    for path in project.root.glob("data/**/*.csv"):
        cells = [cell for line in path.read_text("utf-8").splitlines() for cell in line.split(",")]
        assert not [cell for cell in cells if re.match(r"[=+@\t]|-(?!\d)", cell)]
    project.run("python", "-c", "from pipeline.cli import main; main()", "name")
    names = (project.root / "names.yaml").read_text("utf-8")
    checked = project.run("python", "-c", "from pipeline.cli import main; main()", "name", "--check", "names.yaml")
    assert "9 clusters" in checked
    assert "\n<script>" not in names
