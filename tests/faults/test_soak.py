"""A few cycles of the soak; `make soak` runs two hundred."""

from pathlib import Path

from tests.faults.soak import Use, find_growth, soak


def test_memory_and_files_stay_flat(tmp_path: Path) -> None:
    used = soak(tmp_path, 5)
    assert used[-1].files == used[1].files
    assert used[-1].threads == used[1].threads


def test_growth_is_found() -> None:
    flat = [Use(500_000_000 + (number % 3) * 10**6, 12, 2) for number in range(50)]
    assert not find_growth(flat)
    assert "memory grew" in find_growth([Use(use.bytes + number * 2**20, 12, 2) for number, use in enumerate(flat)])[0]
    assert find_growth([Use(use.bytes, 12 + number, 2) for number, use in enumerate(flat)]) == [
        "files grew from 31 to 61"
    ]
