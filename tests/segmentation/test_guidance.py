import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.features.pooling import pool_cells
from pipeline.params import PggParams
from pipeline.segmentation.cell_contrast import cell_contrast_loss
from pipeline.segmentation.guidance import PyramidGuidance, min_margin
from pipeline.segmentation.view_cells import whole_frames

WHOLE = F.normalize(torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
BATCH = [4, 0, 2]
GROUPING = PggParams(k=[5, 5], restarts=2, iterations=10, max_points_per_centroid=100, seed=0)


@pytest.fixture
def guidance(params, pyramid):
    def make(seed=1, **pgg):
        return PyramidGuidance(pyramid, 8, params(pgg=pgg).pgg, seed)

    return make


def contrast(guide, position):
    level = guide.levels[position]
    labels, margins = level.labels[BATCH].flatten(), level.margins[BATCH].flatten()
    cells = pool_cells(WHOLE, level.cells).flatten(0, 1)
    return cell_contrast_loss(cells, labels, margins, level.min_margin, guide.params.temperature)


def test_contrast_needs_no_heads_and_adds_to_classification(guidance):
    alone, heads = guidance(use=["contrast"]), guidance()
    assert not list(alone.parameters())
    loss, told = alone.loss(WHOLE, BATCH)
    expected = [contrast(alone, position) for position in (0, 1)]
    torch.testing.assert_close(loss, torch.stack([one for one, _ in expected]).mean())
    assert told == {f"pgg_nearest_level_{n}": right for n, (_, right) in zip((1, 2), expected, strict=True)}
    both, told = guidance(use=["classification", "contrast"]).loss(WHOLE, BATCH)
    torch.testing.assert_close(both, loss + heads.loss(WHOLE, BATCH)[0])
    assert set(told) == {f"pgg_{kind}_level_{n}" for kind in ("top1", "nearest") for n in (1, 2)}


def test_levels_are_weighted(guidance):
    loss, _ = guidance(use=["contrast"], levels=[1, 2], level_weights=[3.0, 1.0]).loss(WHOLE, BATCH)
    first, second = (contrast(guidance(use=["contrast"]), position)[0] for position in (0, 1))
    torch.testing.assert_close(loss, (3 * first + second) / 4)


def test_a_level_that_is_not_named_is_left_out(guidance):
    guide = guidance(levels=[2])
    assert [level.cells for level in guide.levels] == [2]
    assert [head.last.out_features for head in guide.heads] == [3]
    assert set(guide.loss(WHOLE, BATCH)[1]) == {"pgg_top1_level_2"}
    assert [level.cells for level in guidance().levels] == [1, 2]


def test_without_weight_only_prior_and_strata_remain(guidance):
    assert guidance(weight=0.0).levels == []
    guide = guidance(weight=0.0, use=["classification", "prior"])
    assert len(guide.levels) == 2
    assert len(guide.heads) == 0
    assert guide.pixel_label_counts == [2, 3]


def test_pixels_have_the_labels_of_their_cells_where_a_use_asks_for_them(guidance):
    assert guidance().pixel_labels(BATCH, whole_frames(3), (4, 4)) == []
    guide = guidance(use=["strata"])
    image, cells = guide.pixel_labels(BATCH, whole_frames(3), (4, 4))
    assert torch.equal(image, guide.levels[0].labels[BATCH][:, :, None].expand(3, 4, 4))
    assert torch.equal(cells[:, ::2, ::2].flatten(1), guide.levels[1].labels[BATCH])


def regroup(guide, images, seed=0, epoch=1):
    batches = [([5, 0, 1], images[[5, 0, 1]]), ([2, 3, 4], images[[2, 3, 4]])]
    weight = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    guide.regroup(batches, lambda frames: F.conv2d(normalise(frames), weight, stride=4), GROUPING, (seed, epoch))


def test_labels_are_made_anew_and_keep_their_names(guidance, images):
    guide, before = guidance(), guidance().levels
    regroup(guide, images)
    for old, new in zip(before, guide.levels, strict=True):
        assert (new.cells, new.k) == (old.cells, old.k)
        assert set(new.labels.flatten().tolist()) == set(range(new.k))
        assert new.min_margin == pytest.approx(np.quantile(new.margins.numpy(), 0.2))
        changed = (new.labels != old.labels).float().mean().item()
        assert guide.changed[f"pgg_changed_level_{new.cells}"] == pytest.approx(changed)
    found = guide.levels
    regroup(guide, images)
    assert set(guide.changed.values()) == {0.0}  # the same groups come again under the same names
    assert all(torch.equal(one.labels, two.labels) for one, two in zip(found, guide.levels, strict=True))


def test_new_labels_come_back_with_the_state(guidance, images):
    guide = guidance(use=["classification", "prior"])
    assert guide.state_dict()["_extra_state"] == {"levels": [], "changed": {}}
    regroup(guide, images)
    other = guidance(seed=7, use=["classification", "prior"])
    other.load_state_dict(guide.state_dict())
    assert torch.equal(other.loss(WHOLE, BATCH)[0], guide.loss(WHOLE, BATCH)[0])
    assert other.changed == guide.changed
    assert [level.min_margin for level in other.levels] == [level.min_margin for level in guide.levels]


def test_heads_are_renewed_in_place(guidance):
    guide = guidance()
    held = list(guide.heads.parameters())
    before = [p.clone() for p in held]
    guide.renew_heads(2)
    assert all(one is two for one, two in zip(held, guide.heads.parameters(), strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(held, before, strict=True))
    guide.renew_heads(1)
    assert all(torch.equal(one, two) for one, two in zip(held, before, strict=True))


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
