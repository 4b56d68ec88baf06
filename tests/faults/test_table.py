"""The table of `docs/faults.md`."""

from tests.faults.table import PAGE, ROWS, make_table, read_rows, renew


def test_every_row_has_a_test() -> None:
    assert sorted({row.number for row in read_rows()}) == list(ROWS)


def test_the_page_is_current() -> None:
    page = PAGE.read_text("utf-8")
    assert page == renew(page), "run `python -m tests.faults.table`"


def test_cells_cannot_end_early() -> None:
    for line in make_table(read_rows()).splitlines()[1:-1]:
        assert line.replace("\\|", "").count("|") == 5
