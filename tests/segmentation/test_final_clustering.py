from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.clustering.kmeans import assign
from pipeline.data.views import normalise
from pipeline.errors import TrainingError
from pipeline.segmentation.final_clustering import cluster_finally, save_draws
from pipeline.segmentation.merging import ward_groups
from pipeline.segmentation.pixel_clustering import PixelSample

ALL = [0, 1, 2, 3, 4, 5]


@pytest.fixture
def finish(trainee):
    def run(**clustering) -> SimpleNamespace:
        toy = trainee(clustering=clustering)
        found = cluster_finally(
            toy.segmenter, toy.params, guidance=toy.guidance, sizes=toy.sizes, load=toy.load, device=toy.device
        )
        return SimpleNamespace(found=found, segmenter=toy.segmenter, params=toy.params)

    return run


def pixels(result, images, purpose: str) -> np.ndarray:
    params = result.params
    sample = PixelSample(6, params.k, params.clustering, params.seed, purpose, params.epochs)
    with torch.no_grad():
        sample.add(ALL, result.segmenter.embed(normalise(images)))
    return sample.points()


def test_the_best_draw_on_held_pixels_is_taken(finish, images):
    result = finish(final_draws=4)
    found, statistics = result.found, result.found.statistics
    assert found.prototypes.shape == (4, 4, 8)
    assert len({tuple(map(tuple, draw)) for draw in found.prototypes.round(6).tolist()}) == 4
    held = pixels(result, images, "held pixels")
    inertia = [np.square(held[:, None] - draw).sum(2).min(1).sum() for draw in found.prototypes]
    np.testing.assert_allclose(statistics["held_inertia"], inertia, rtol=1e-3)
    assert statistics["draw"] == int(np.argmin(inertia))
    np.testing.assert_array_equal(result.segmenter.prototypes, found.prototypes[statistics["draw"]])
    assert result.segmenter.groups.tolist() == [0, 1, 2, 3]
    assert sum(statistics["sizes"]) == statistics["pixels_fitted"] == 240


def test_each_draw_depends_on_its_number_only(finish):
    one, three = finish(final_draws=1).found, finish(final_draws=3).found
    np.testing.assert_array_equal(one.prototypes[0], three.prototypes[0])
    assert one.statistics["draw"] == 0


def test_draws_are_written_in_order(finish, tmp_path):
    found = finish(final_draws=2, fine_clusters=6).found
    save_draws(found, tmp_path)
    tensors = load_file(tmp_path / "final_draws.safetensors")
    assert set(tensors) == {"prototypes", "groups"}
    assert tensors["prototypes"].dtype == torch.float32
    assert tensors["groups"].dtype == torch.int64
    np.testing.assert_array_equal(tensors["prototypes"], found.prototypes)
    np.testing.assert_array_equal(tensors["groups"], found.groups)


def test_fine_prototypes_are_kept_with_their_groups(finish, images):
    result = finish(final_draws=2, fine_clusters=9)
    best = result.found.statistics["draw"]
    for draw, (prototypes, groups) in enumerate(zip(result.found.prototypes, result.found.groups, strict=True)):
        points = pixels(result, images, f"final pixels {draw}")
        sizes = np.bincount(assign(points, prototypes, spherical=False).labels, minlength=9)
        np.testing.assert_array_equal(groups, ward_groups(prototypes, sizes, 4))
        if draw == best:
            assert result.found.statistics["sizes"] == np.bincount(groups, weights=sizes).tolist()
    np.testing.assert_array_equal(result.segmenter.groups, result.found.groups[best])
    with torch.no_grad():
        assert result.segmenter(normalise(images)).shape == (6, 4, 8, 8)


def test_fine_prototypes_may_be_grouped_by_what_views_confuse(finish):
    one, two = (finish(final_draws=2, fine_clusters=9, merge="view_confusion").found for _ in range(2))
    np.testing.assert_array_equal(one.groups, two.groups)
    assert one.groups.min() == 0
    assert one.groups.max() == 3
    assert not np.array_equal(one.groups, finish(final_draws=2, fine_clusters=9).found.groups)


def test_broken_embeddings_end_the_run(trainee):
    toy = trainee()
    with torch.no_grad():
        toy.segmenter.embedding.gamma.fill_(float("nan"))
    with pytest.raises(TrainingError, match="final clustering: some embeddings are not finite"):
        cluster_finally(
            toy.segmenter, toy.params, guidance=toy.guidance, sizes=toy.sizes, load=toy.load, device=toy.device
        )
