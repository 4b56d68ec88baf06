import math

import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import apply_geometric, apply_photometric, draw_geometric, draw_photometric, normalise
from pipeline.errors import TrainingError
from pipeline.segmentation.losses import cluster_weights
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.two_views import make_views

BATCH = [4, 0, 2]


def losses_of(toy, images, epoch=0):
    return toy.losses(epoch, BATCH, images[BATCH])


def test_an_epoch_begins_with_prototypes_for_both_views(trainee):
    toy = trainee()
    toy.begin_epoch(0)
    assert toy.prototypes.centroids.shape == (2, 4, 8)
    assert not torch.equal(toy.prototypes.centroids[0], toy.prototypes.centroids[1])
    assert toy.prototypes.centroids.norm(dim=2).max() <= 1 + 1e-5
    assert toy.prototypes.sizes.sum(1).tolist() == [240, 240]
    assert set(toy.monitors.values) == {"effective_rank"}
    assert toy.segmenter.training
    toy.begin_epoch(1)
    assert set(toy.monitors.values) == {"effective_rank", "nmi"}
    assert 0 <= toy.monitors.values["nmi"] <= 1


def test_the_pixel_loss_is_the_mean_within_and_across_views(trainee, images):
    toy = trainee(pgg={"weight": 0.0})
    toy.begin_epoch(0)
    toy.segmenter.eval()
    params, seed = toy.params, toy.params.seed
    with torch.no_grad():
        found = losses_of(toy, images)
        frames = images[BATCH].float() / 255
        crop = draw_geometric(seed, "train crop", 0, BATCH, min_area=params.views.min_area, flip=params.views.flip)
        jitter = {"jitter": params.views.jitter, "hue": params.views.hue}
        one, two = (
            apply_photometric(frames, draw_photometric(seed, f"train colours {v}", 0, BATCH, **jitter)) for v in (1, 2)
        )
        first = toy.segmenter.embed(normalise(apply_geometric(one, crop, (32, 32))))
        second = F.normalize(apply_geometric(toy.segmenter.embed(normalise(two)), crop, (8, 8)), dim=1)
        rows = [e.permute(0, 2, 3, 1).flatten(0, 2) for e in (first, second)]
        labels = [torch.cdist(e, mu).argmin(1) for e, mu in zip(rows, toy.prototypes.centroids, strict=True)]
        terms = [
            F.cross_entropy(rows[e] @ toy.prototypes.centroids[mu].T / params.temperature, labels[mu])
            for e, mu in ((0, 0), (1, 1), (0, 1), (1, 0))
        ]
    torch.testing.assert_close(found["pixel_loss"], torch.stack(terms).mean(), atol=1e-4, rtol=1e-4)
    assert torch.equal(found["loss"], found["pixel_loss"])
    counted = torch.bincount(torch.cat(labels), minlength=4)
    assert (toy.monitors.histogram - counted).abs().sum() <= 4


def test_the_pyramid_loss_is_added_with_its_weight_and_trains_the_heads(trainee, images):
    toy = trainee(pgg={"weight": 0.7})
    toy.begin_epoch(0)
    found = losses_of(toy, images)
    assert set(found) == {"loss", "pixel_loss", "pgg_loss", "pgg_top1_level_1", "pgg_top1_level_2"}
    torch.testing.assert_close(found["loss"], found["pixel_loss"] + 0.7 * found["pgg_loss"])
    found["loss"].backward()
    trained = [*toy.segmenter.parameters(), *toy.guidance.heads.parameters()]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    assert toy.guidance.heads[1].last.weight.grad.abs().sum() > 0


def test_one_view_is_compared_with_its_own_prototypes_only(trainee, images):
    toy = trainee(pgg={"weight": 0.0}, one_view=True)
    toy.begin_epoch(0)
    toy.segmenter.eval()
    with torch.no_grad():
        found = losses_of(toy, images)
        first = toy.segmenter.embed(make_views(images[BATCH], BATCH, 0, toy.params, toy.device).first)
        rows, (prototypes,) = first.permute(0, 2, 3, 1).flatten(0, 2), toy.prototypes.centroids
        expected = F.cross_entropy(rows @ prototypes.T, torch.cdist(rows, prototypes).argmin(1))
    torch.testing.assert_close(found["pixel_loss"], expected, atol=1e-4, rtol=1e-4)
    assert toy.monitors.histogram.sum() == 3 * 64


def test_one_view_costs_one_pass_and_guidance_sees_view_2_all_the_same(trainee, images, monkeypatch):
    passes = []

    def recorded(self, frames):
        passes.append(len(frames))
        return embed(self, frames)

    embed = Segmenter.embed
    monkeypatch.setattr(Segmenter, "embed", recorded)
    for weight, expected in ((0.0, [3]), (0.3, [6])):
        toy = trainee(pgg={"weight": weight}, one_view=True)
        toy.segmenter.eval()
        passes.clear()
        with torch.no_grad():
            found = losses_of(toy, images)
        assert passes == expected
    both = trainee()
    both.segmenter.eval()
    with torch.no_grad():
        torch.testing.assert_close(found["pgg_loss"], losses_of(both, images)["pgg_loss"])


def test_the_distance_of_the_views_is_added_with_its_weight(trainee, images):
    toy = trainee(pgg={"weight": 0.0}, mse_weight=0.5)
    toy.begin_epoch(0)
    found = losses_of(toy, images)
    assert set(found) == {"loss", "pixel_loss", "mse_loss"}
    assert 0 < found["mse_loss"] < 4
    torch.testing.assert_close(found["loss"], found["pixel_loss"] + 0.5 * found["mse_loss"])


def test_a_balanced_assignment_fills_all_clusters(trainee, images):
    toy = trainee(assignment={"method": "balanced"}, cae={"gamma": 0.5})
    toy.prototypes.centroids.copy_(F.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=2))
    losses_of(toy, images)
    shares = toy.monitors.histogram / toy.monitors.histogram.sum()
    assert (shares - 0.25).abs().max() < 0.1
    nearest = trainee(cae={"gamma": 0.5})
    nearest.prototypes.centroids.copy_(toy.prototypes.centroids)
    losses_of(nearest, images)
    assert (nearest.monitors.histogram / nearest.monitors.histogram.sum() - 0.25).abs().max() > 0.15


def test_every_parameter_is_in_the_optimiser_once(trainee):
    toy = trainee()
    groups = toy.optimizer.param_groups
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in [*toy.segmenter.parameters(), *toy.guidance.heads.parameters()])
    assert [group["lr"] for group in groups] == [toy.params.learning_rate, toy.params.head_learning_rate]
    assert toy.learning_rate_factor(0.7) == 1.0


def test_without_guidance_there_are_no_heads(trainee, images):
    toy = trainee(pgg={"weight": 0.0})
    toy.begin_epoch(0)
    assert len(toy.guidance.heads) == 0
    assert set(losses_of(toy, images)) == {"loss", "pixel_loss"}


def test_the_warm_up_trains_on_pyramid_labels_only(trainee, images):
    toy = trainee(warmup_epochs=1)
    toy.begin_epoch(0)
    found = losses_of(toy, images)
    assert "pixel_loss" not in found
    torch.testing.assert_close(found["loss"], toy.params.pgg.weight * found["pgg_loss"])
    row = toy.end_epoch(0, {"loss": 1.0})
    assert "clusters_used" not in row
    toy.begin_epoch(1)
    assert "pixel_loss" in losses_of(toy, images, epoch=1)
    assert "clusters_used" in toy.end_epoch(1, {"loss": 1.0})


VARIANTS = [
    {"one_view": True, "pgg": {"weight": 0.0}},
    {"mse_weight": 1.0, "trained": "last"},
    {"assignment": {"method": "balanced", "teacher_momentum": 0.9}, "trained": "decoder"},
    {"clustering": {"warm_start": True, "fine_clusters": 7}},
    {"clustering": {"prototype_momentum": 0.5, "fine_clusters": 7, "merge": "view_confusion"}},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_variant_of_the_loop_learns(trainee, images, changes):
    toy = trainee(learning_rate=1e-3, head_learning_rate=1e-2, **changes)
    toy.begin_epoch(0)
    toy.begin_epoch(1)
    values = []
    for _ in range(12):
        toy.optimizer.zero_grad()
        found = losses_of(toy, images, epoch=1)
        found["loss"].backward()
        toy.optimizer.step()
        values.append(found["pixel_loss"].item())
    assert values[-1] < 0.97 * values[0]
    assert all(map(math.isfinite, values))


@pytest.mark.parametrize("kind", ["uniform", "inverse_sqrt", "proportional"])
@pytest.mark.parametrize("head", ["mlp", "cosine"])
@pytest.mark.parametrize("enabled", [True, False])
def test_every_variant_gives_a_finite_loss_and_row(trainee, images, kind, head, enabled):
    toy = trainee(cluster_weights=kind, pgg={"head": head}, cae={"enabled": enabled})
    # k-means is tested above; here only the step matters
    toy.prototypes.centroids.copy_(F.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=2))
    toy.prototypes.sizes.copy_(torch.tensor([[1, 100, 40, 99], [60, 60, 60, 60]]))
    found = losses_of(toy, images)
    found["loss"].backward()
    toy.optimizer.step()
    values = {key: value.item() for key, value in found.items()}
    assert all(map(math.isfinite, values.values()))
    row = toy.end_epoch(0, values)
    assert ("gamma" in row) == enabled
    assert {"clusters_used", "largest_share", "entropy"} <= set(row)


def test_cluster_weights_change_the_loss(trainee, images):
    values = set()
    for kind in ("uniform", "inverse_sqrt", "proportional"):
        toy = trainee(cluster_weights=kind)
        toy.prototypes.centroids.copy_(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)) / 3)
        toy.prototypes.sizes.copy_(torch.tensor([[1, 100, 40, 99], [1, 100, 40, 99]]))
        values.add(round(losses_of(toy, images)["pixel_loss"].item(), 6))
    assert len(values) == 3
    assert cluster_weights(torch.tensor([1, 100]), "proportional")[1] > 1


def test_the_loss_falls_on_a_batch_that_is_learned_by_heart(trainee, images):
    toy = trainee(learning_rate=1e-3, head_learning_rate=1e-2, pgg={"weight": 1.0})
    toy.begin_epoch(0)
    values = []
    for _ in range(20):
        toy.optimizer.zero_grad()
        found = losses_of(toy, images)
        found["loss"].backward()
        toy.optimizer.step()
        values.append({key: value.item() for key, value in found.items()})
    # images of noise look alike to the pooled embedding, and similarities of unit vectors bound the pixel loss
    for key, share in (("loss", 0.87), ("pixel_loss", 0.85), ("pgg_loss", 0.95)):
        assert values[-1][key] < share * values[0][key]


def test_one_cluster_that_takes_all_stops_the_run_with_advice(trainee, images):
    toy = trainee(max_share=0.95)
    toy.prototypes.centroids[:] = 0.1  # all equal: the first takes every pixel
    losses_of(toy, images)
    with pytest.raises(TrainingError, match=r"epoch 3: .* largest_share 1\.000 is above train\.max_share 0\.95; lower"):
        toy.end_epoch(2, {"loss": 1.0})
    toy = trainee(min_used=0.5)
    toy.prototypes.centroids[:] = 0.1
    losses_of(toy, images)
    with pytest.raises(
        TrainingError, match=r"clusters_used 1 of 4 is below train\.min_used 0\.5; lower train\.learning_"
    ):
        toy.end_epoch(0, {"loss": 1.0})


def test_the_histogram_starts_anew_with_every_epoch(trainee, images):
    toy = trainee()
    toy.begin_epoch(0)
    losses_of(toy, images)
    assert toy.monitors.histogram.sum() == 2 * 3 * 64
    toy.begin_epoch(1)
    assert toy.monitors.histogram.sum() == 0


def test_a_state_comes_back(trainee, images):
    toy, other = trainee(), trainee(seed=5)
    toy.begin_epoch(0)
    losses_of(toy, images)["loss"].backward()
    toy.optimizer.step()
    other.load_state_dict(toy.state_dict())
    other.params = toy.params
    with torch.no_grad():
        one, two = (losses_of(each, images) for each in (toy, other))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert other.end_epoch(0, {}) == toy.end_epoch(0, {})
