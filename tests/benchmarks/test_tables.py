import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.measuring import Cost, Row

RECORD = {"threads": 1, "processor": "some", "versions": {"torch": "2", "numpy": "1"}}


def record(*rows: Row) -> dict:
    return {**RECORD, "rows": [{**asdict(row), "met": row.met} for row in rows]}


def test_a_target_that_is_missed_stands_out() -> None:
    rows = record(Row("ours", "theirs", 1.5, 3.0, "s", 2.0, ">= 5"), Row("more", "theirs", 1.0, 0.0, "s", 1.0, "<= 2"))
    lines = tables.markdown(rows["rows"]).splitlines()
    assert lines[2] == "| ours | theirs | 1.5 s | 3 s | 2.00 | ≥ 5 | **no** |"
    assert lines[3] == "| more | theirs | 1 s | – | 1.00 | ≤ 2 | yes |"


def test_costs_have_a_table_for_each_data_set() -> None:
    rows = [
        Cost("A", "`train`", 2.5, 0.25, 1.0),
        Cost("A", "`prepare`", 1.0, 0.0, 0.0),
        Cost("B", "all", 9.0, 1.0, 123.4),
    ]
    tables_of_all = tables.markdown([asdict(row) for row in rows]).split("\n\n")
    assert tables_of_all[0] == "A:"
    assert tables_of_all[1].splitlines()[0] == "| stage | 2 cores, h | one GPU, h (estimated) | disk, GB |"
    assert tables_of_all[1].splitlines()[2:] == ["| `train` | 2.5 | 0.25 | 1 |", "| `prepare` | 1 | – | – |"]
    assert tables_of_all[2:] == ["B:", "\n".join([*tables_of_all[1].splitlines()[:2], "| all | 9 | 1 | 123 |"])]


def test_the_tables_are_written_between_their_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "PAGE", page := tmp_path / "speed.md")
    page.write_text(f"before\n{tables.START}\nold\n{tables.END}\nafter\n", "utf-8")
    (tmp_path / "shards.json").write_text(json.dumps(record(Row("a", "b", 1.0, 1.0, "s", 1.0, "<= 2"))), "utf-8")
    tables.write_table()
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{tables.END}\nafter\n")
    assert "### Parquet shards\n\n| measured" in text
    assert "some; 1 thread; torch 2, numpy 1." in text
    assert "old" not in text
    tables.write_table()
    assert page.read_text("utf-8") == text
    page.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match="markers"):
        tables.write_table()


def test_the_page_has_every_part_that_was_recorded() -> None:
    page = (Path(__file__).parents[2] / tables.PAGE).read_text("utf-8")
    for name, title in tables.PARTS.items():
        assert (f"### {title}" in page) == (Path(__file__).parents[2] / tables.RESULTS / f"{name}.json").exists()
