import pytest

from benchmarks import costs
from pipeline.doctor.costs import Rates
from pipeline.params import load_params

RATES = Rates("cpu", 0.01, 0.02, 0.05, 0.015, 1e-9, 48_000_000, 128)
STAGES = ["prepare", "pretrain", "extract", "cluster", "train", "evaluate"]


def test_every_stage_costs_hours_on_cores_and_on_a_gpu_and_disk(monkeypatch):
    monkeypatch.setattr(costs, "measure_rates", lambda *_: RATES)
    monkeypatch.setattr(costs, "_decode", lambda: 0.01)
    monkeypatch.setattr(costs, "FRAME", 32)
    rows = costs.measure_rows()
    assert len(rows) == 7 * len(costs.SETS)
    assert [row.stage for row in rows[:7]] == [*(f"`{stage}`" for stage in STAGES), "all of these"]
    assert {row.data for row in rows[:7]} == {"COCO-Stuff, 123,287 images"}
    assert all(0 < row.gpu_hours < row.hours for row in rows)
    assert all(row.gigabytes > 0 for row in rows[1:7])
    for name in ("hours", "gpu_hours", "gigabytes"):
        assert getattr(rows[6], name) == pytest.approx(sum(getattr(row, name) for row in rows[:6]))


def test_a_gpu_takes_the_counted_operations_at_the_rate_assumed():
    params = load_params()
    found = costs.estimate_gpu(RATES, params)
    assert found.decode == RATES.decode / costs.HOST_CORES
    # a backward pass does each product twice, but not with regard to the image
    assert 2.5 < found.train / found.forward < 3
    # ResNet-18 takes 1.82 GMAC at 224 px; the decoder adds to that
    lowest = 2 * 1.8e9 * (costs.FRAME / 224) ** 2
    assert lowest < found.forward * costs.SUSTAINED < 3 * lowest
