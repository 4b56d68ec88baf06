import sys

import pytest

from benchmarks import scaling
from pipeline.clustering.fitting import IN_MEMORY
from pipeline.evaluation.label_maps import PER_SHARD


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_stage_is_measured_at_all_sizes_and_two_sided(monkeypatch, tmp_path):
    sizes = {"extract": (4, 8), "cluster": (400, 800), "evaluate": (4, 8)}
    measured = []
    small = {stage: (unit, sizes[stage], prepare) for stage, (unit, _, prepare) in scaling.STAGES.items()}
    monkeypatch.setattr(scaling, "STAGES", small)
    monkeypatch.setattr(scaling, "REPEATS", 1)
    monkeypatch.setattr(scaling, "_peak_alone", lambda stage, size: measured.append((stage, size)) or 10.0)
    rows = scaling.measure_rows()
    assert measured == [(stage, size) for stage in sizes for size in reversed(sizes[stage])]
    assert [row.reach for row in rows] == ["1 ± 0.1"] * 6
    assert [row.unit for row in rows] == ["s", "MB"] * 3
    assert all(row.ours > 0 and row.other > 0 for row in rows)
    assert rows[5].what == "evaluate, 8 images: anonymous memory"


@pytest.mark.parametrize("stage", scaling.STAGES)
def test_buffers_of_a_fixed_size_are_full_where_memory_is_compared(stage):
    _, sizes, _ = scaling.STAGES[stage]
    if stage == "cluster":
        assert sizes[-2] * scaling.D * 4 > IN_MEMORY
    else:
        assert sizes[-2] >= PER_SHARD
