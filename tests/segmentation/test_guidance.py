import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.features.pooling import pool_cells
from pipeline.segmentation.guidance import min_margin


def test_the_loss_is_the_mean_over_levels_of_the_cells_that_count(trainee):
    guidance = trainee().guidance
    whole = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    indices = [4, 0, 2]
    loss, told = guidance.loss(whole, indices)
    expected, counted_cells = [], 0
    for level, head in zip(guidance.levels, guidance.heads, strict=True):
        losses, right = [], []
        for row, index in enumerate(indices):
            for cell in range(level.cells**2):
                label, margin = level.labels[index, cell], level.margins[index, cell]
                if label >= 0 and margin >= level.min_margin:
                    logits = head(pool_cells(whole, level.cells)[row, cell][None])
                    losses.append(F.cross_entropy(logits, label[None]))
                    right.append(logits.argmax().item() == label)
        counted_cells += len(losses)
        expected.append(torch.stack(losses).mean())
        assert told[f"pgg_top1_level_{level.cells}"].item() == pytest.approx(np.mean(right))
    assert counted_cells < 3 * 5  # label -1 and small margins are left out
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_heads_follow_the_seed_and_leave_the_global_generator(trainee):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, two, other = (trainee(seed=seed).guidance.heads[1].last.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_margin_cuts_off_the_least_certain_share():
    margins = np.random.default_rng(0).random((50, 4)).astype(np.float32)
    threshold = min_margin(margins, 0.2)
    assert (margins < threshold).mean() == pytest.approx(0.2, abs=0.01)
    assert min_margin(margins, 0.0) == float("-inf")
    assert min_margin(np.zeros(0), 0.2) == float("-inf")
