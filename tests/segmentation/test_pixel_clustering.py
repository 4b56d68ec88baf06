from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.clustering.kmeans import assign
from pipeline.errors import TrainingError
from pipeline.params import load_params
from pipeline.segmentation.pixel_clustering import PixelSample, check_finite, fit_prototypes

TRAIN = load_params(Path(__file__).parents[2] / "params.yaml").train
K = 3


def sample(images: int, pixels_per_cluster: int, seed: int = 0, purpose: str = "p", epoch: int = 0) -> PixelSample:
    params = TRAIN.clustering.model_copy(update={"pixels_per_cluster": pixels_per_cluster})
    return PixelSample(images, K, params, seed, purpose, epoch)


def numbered(images: int, height: int = 6, width: int = 5) -> torch.Tensor:
    """Each pixel says its image and its place."""
    place = torch.arange(height * width).reshape(1, 1, height, width).expand(images, 1, height, width)
    image = torch.arange(images)[:, None, None, None].expand(images, 1, height, width)
    return torch.cat([image, place], dim=1).float()


def test_every_image_gives_the_same_number_of_its_own_pixels():
    taken = sample(4, 8)  # 24 pixels of 4 images
    maps = numbered(4)
    taken.add([2, 0], maps[[2, 0]])
    taken.add([3, 1], maps[[3, 1]])
    points = taken.points()
    assert points.shape == (24, 2)
    assert points.dtype == np.float32
    assert points[:, 0].tolist() == sorted([0, 1, 2, 3] * 6)
    for image in range(4):
        places = points[points[:, 0] == image, 1]
        assert len(set(places)) == 6
        assert set(places) <= set(range(30))


def test_the_pixels_depend_on_seed_purpose_epoch_and_image_only():
    maps = numbered(4)

    def points(batches: list[list[int]], **settings) -> list:
        taken = sample(4, 8, **settings)
        for batch in batches:
            taken.add(batch, maps[batch])
        return taken.points().tolist()

    first = points([[0, 1, 2, 3]])
    assert points([[3], [1, 0], [2]]) == first
    for other in ({"seed": 1}, {"purpose": "q"}, {"epoch": 1}):
        assert points([[0, 1, 2, 3]], **other) != first


def test_small_images_give_all_that_they_have_and_numbers_are_rounded_up():
    small = sample(2, 1000)
    small.add([0, 1], numbered(2))
    assert len(small.points()) == 60
    assert sample(100, 1).per_image == 1
    assert sample(2, 1).per_image == 2


def test_a_sample_carries_no_gradient_and_float32():
    taken = sample(1, 4)
    taken.add([0], numbered(1).bfloat16().requires_grad_())
    assert taken.points().dtype == np.float32


def clouds() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat(np.arange(3), 50)]
    rows = centres + 0.1 * rng.standard_normal((150, 3))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_prototypes_are_plain_means_of_their_pixels():
    points = clouds()
    fit = fit_prototypes(points, 3, iterations=20, restarts=3, seed=0)
    labels = assign(points, fit.centroids, spherical=False).labels
    assert sorted(np.bincount(labels)) == [50, 50, 50]
    means = np.stack([points[labels == cluster].mean(0) for cluster in range(3)])
    np.testing.assert_allclose(fit.centroids, means, atol=1e-5)
    assert (np.linalg.norm(fit.centroids, axis=1) < 0.999).all()
    np.testing.assert_array_equal(fit.sizes, [50, 50, 50])
    assert len(fit.restart_inertia) == 3
    assert fit.inertia == min(fit.restart_inertia)


def test_prototypes_follow_seed_and_start():
    points = clouds()
    one, two = (fit_prototypes(points, 3, iterations=5, restarts=2, seed=4).centroids for _ in range(2))
    np.testing.assert_array_equal(one, two)
    started = fit_prototypes(points, 3, iterations=5, restarts=1, seed=9, start=one[[2, 0, 1]])
    np.testing.assert_allclose(started.centroids, one[[2, 0, 1]], atol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_end_the_run_with_advice(wrong):
    points = np.ones((4, 2), np.float32)
    check_finite(points, "epoch 2")
    points[2, 1] = wrong
    with pytest.raises(TrainingError, match=r"^epoch 2: some embeddings are not finite numbers; lower train\.learning"):
        check_finite(points, "epoch 2")
