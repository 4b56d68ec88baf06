import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.segmentation.losses import (
    NEVER,
    assign_pixels,
    best_of_groups,
    cluster_weights,
    pixel_loss,
    prototype_logits,
    pyramid_loss,
)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nearest(embedding: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    pixels = embedding.double().permute(0, 2, 3, 1)[..., None, :]
    return (pixels - prototypes.double()).square().sum(-1).argmin(-1)


@given(k=st.integers(1, 9), d=st.integers(1, 6), seed=st.integers(0, 1000), scale=st.floats(0.05, 2))
def test_the_largest_score_is_the_nearest_prototype(k, d, seed, scale):
    embedding = F.normalize(rows(2, d, 4, 5, seed=seed), dim=1)
    prototypes = scale * rows(k, d, seed=seed + 1) * torch.linspace(0.2, 1, k)[:, None]
    logits = prototype_logits(embedding, prototypes)
    assert logits.shape == (2, k, 4, 5)
    distances = torch.cdist(embedding.permute(0, 2, 3, 1).flatten(0, 2).double(), prototypes.double()).square()
    assigned = assign_pixels(embedding, prototypes).flatten()
    assert assigned.dtype == torch.int64
    # ties up to rounding may go either way
    assert (distances.gather(1, assigned[:, None])[:, 0] <= distances.min(1).values + 1e-5).all()


def test_short_prototypes_are_not_at_a_disadvantage():
    prototypes = torch.tensor([[0.9, 0.0], [0.3, 0.25]])
    embedding = torch.tensor([0.6, 0.8])[None, :, None, None]
    similarities = embedding[0, :, 0, 0] @ prototypes.T
    assert similarities.argmax() == 0  # the larger inner product, but
    assert nearest(embedding, prototypes).item() == 1
    assert assign_pixels(embedding, prototypes).item() == 1


def test_scores_stay_exact_in_mixed_precision():
    embedding = F.normalize(rows(2, 16, 20, 20), dim=1)
    prototypes = F.normalize(rows(1, 16, seed=1) + 0.05 * rows(8, 16, seed=2), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = prototype_logits(embedding, prototypes)
        assigned = assign_pixels(embedding, prototypes)
    assert logits.dtype == torch.float32
    assert torch.equal(assigned, nearest(embedding, prototypes))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_pixel_loss_is_the_formula(weighted):
    embedding, prototypes = F.normalize(rows(2, 4, 3, 5), dim=1), rows(6, 4, seed=1)
    labels = torch.randint(0, 6, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.7, 0.3]) if weighted else None
    total = norm = 0.0
    for b in range(2):
        for y in range(3):
            for x in range(5):
                scores = (prototypes.double() @ embedding[b, :, y, x].double()).numpy() / 0.5
                label = int(labels[b, y, x])
                weight = float(weights[label]) if weighted else 1.0
                total -= weight * (scores[label] - np.log(np.exp(scores).sum()))
                norm += weight
    loss = pixel_loss(embedding, prototypes, labels, temperature=0.5, weights=weights)
    assert loss.item() == pytest.approx(total / norm, rel=1e-5)


def test_the_pixel_loss_pulls_pixels_to_their_prototype():
    prototypes = torch.eye(3)
    embedding = torch.full((1, 3, 2, 2), 3**-0.5, requires_grad=True)
    labels = torch.tensor([[[0, 1], [2, 0]]])
    pixel_loss(embedding, prototypes, labels, temperature=1.0, weights=None).backward()
    assert torch.equal(embedding.grad.argmin(1), labels)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_cluster_weights_have_mean_1(sizes):
    for kind in ("proportional", "inverse_sqrt"):
        weights = cluster_weights(torch.tensor(sizes), kind)
        assert torch.isfinite(weights).all()
        assert weights.mean().item() == pytest.approx(1.0, rel=1e-4)
    assert cluster_weights(torch.tensor(sizes), "uniform") is None


def test_cluster_weights_follow_the_sizes():
    sizes = torch.tensor([100, 400, 0])
    proportional, inverse = cluster_weights(sizes, "proportional"), cluster_weights(sizes, "inverse_sqrt")
    assert (proportional[1] / proportional[0]).item() == pytest.approx(4.0)
    assert (inverse[0] / inverse[1]).item() == pytest.approx(2.0)
    assert (inverse[2] / inverse[0]).item() == pytest.approx(10.0)  # an empty cluster counts as one pixel


def test_the_pyramid_loss_leaves_out_unlabelled_and_uncertain_cells():
    logits = rows(6, 3).requires_grad_()
    labels = torch.tensor([0, 1, 2, -1, 1, 0])
    margins = torch.tensor([0.5, 0.1, 0.2, 0.9, 0.05, 0.2])
    loss, told = pyramid_loss(logits, labels, margins, 0.2)
    kept = [0, 2, 5]
    torch.testing.assert_close(loss, F.cross_entropy(logits[kept], labels[kept]))
    assert told.item() == pytest.approx((logits[kept].argmax(1) == labels[kept]).float().mean().item())
    loss.backward()
    assert not logits.grad[[1, 3, 4]].any()
    assert logits.grad[kept].abs().sum(1).gt(0).all()


def test_all_labelled_cells_count_without_a_margin_to_reach():
    logits, labels = rows(4, 3), torch.tensor([0, 1, 2, 2])
    loss, _ = pyramid_loss(logits, labels, torch.zeros(4), float("-inf"))
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_without_any_cell_the_pyramid_loss_is_0_and_keeps_the_graph():
    logits = rows(3, 2).requires_grad_()
    loss, told = pyramid_loss(logits, torch.full((3,), -1), torch.ones(3), 0.0)
    assert loss.item() == 0.0
    assert told.item() == 0.0
    loss.backward()
    assert not logits.grad.any()


def test_merged_clusters_have_the_summed_probability_of_their_fine_prototypes():
    embedding, prototypes = F.normalize(rows(2, 4, 3, 5), dim=1), rows(6, 4, seed=1)
    groups = torch.tensor([0, 1, 0, 2, 2, 2])
    labels = torch.randint(0, 3, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    terms = []
    for b in range(2):
        for y in range(3):
            for x in range(5):
                shares = (embedding[b, :, y, x] @ prototypes.T / 0.3).softmax(0)
                terms.append(-shares[groups == labels[b, y, x]].sum().log())
    found = pixel_loss(embedding, prototypes, labels, temperature=0.3, weights=None, groups=groups)
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_groups_of_one_are_the_plain_loss():
    embedding, prototypes = F.normalize(rows(2, 4, 3, 5), dim=1), rows(6, 4, seed=1)
    labels, weights = torch.randint(0, 6, (2, 3, 5)), torch.rand(6)
    settings = {"temperature": 1.0, "weights": weights}
    grouped = pixel_loss(embedding, prototypes, labels, groups=torch.arange(6), **settings)
    torch.testing.assert_close(grouped, pixel_loss(embedding, prototypes, labels, **settings))


def test_the_best_fine_score_counts_and_a_cluster_without_any_never_wins():
    scores = rows(2, 5, 3, 4)
    found = best_of_groups(scores, torch.tensor([1, 3, 1, 0, 0]), 4)
    expected = [scores[:, [3, 4]].amax(1), scores[:, [0, 2]].amax(1), torch.full((2, 3, 4), NEVER), scores[:, 1]]
    assert torch.equal(found, torch.stack(expected, dim=1))
