from itertools import permutations

import numpy as np
import pytest
import torch

from pipeline.features.pooling import pool_cells
from pipeline.params import PggParams
from pipeline.segmentation.regrouping import group_cells, pool_embeddings, rename_labels

PGG = PggParams(k=3, restarts=3, iterations=20, max_points_per_centroid=2048, seed=0)


def test_the_cells_of_all_images_are_pooled():
    frames = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batches = [([3, 0], frames[[3, 0]]), ([1, 2, 4], frames[[1, 2, 4]])]
    pooled = pool_embeddings(batches, lambda images: images.float(), [1, 2, 4], 5)
    assert [vectors.shape for vectors in pooled] == [(5, 1, 3), (5, 4, 3), (5, 16, 3)]
    for vectors, cells in zip(pooled, [1, 2, 4], strict=True):
        np.testing.assert_allclose(vectors, pool_cells(frames.float(), cells).numpy(), rtol=1e-6)


def blobs(seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]) + 4.0  # a common offset hides the directions
    truth = rng.integers(0, 3, (20, 4))
    return (centres[truth] + 0.02 * rng.standard_normal((20, 4, 4))).astype(np.float32), truth


def test_groups_are_found_whatever_the_cells_have_in_common():
    vectors, truth = blobs()
    labels, margins = group_cells(vectors, 3, PGG, 0)
    np.testing.assert_array_equal(rename_labels(labels, truth, 3), truth)
    assert labels.dtype == np.int64
    assert margins.dtype == np.float32
    assert margins.min() > 0.5


def test_the_margin_is_the_gap_between_the_two_nearest_cosines():
    vectors = np.random.default_rng(0).standard_normal((30, 4, 5)).astype(np.float32)
    labels, margins = group_cells(vectors, 3, PGG, 0)
    rows = vectors.astype(np.float64).reshape(-1, 5)
    rows = rows - rows.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[labels.ravel() == j].mean(0) for j in range(3)])
    cosines = np.sort(rows @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, axis=1)
    # Lloyd's last step moves the centroids a little after the labels were given
    np.testing.assert_allclose(margins.ravel(), cosines[:, -1] - cosines[:, -2], atol=0.05)


def test_a_cell_on_the_mean_has_no_label_and_few_cells_make_few_groups():
    vectors, _ = blobs()
    vectors[0, 0] = np.delete(vectors.reshape(-1, 4), 0, axis=0).astype(np.float64).mean(0)
    for _ in range(20):
        vectors[0, 0] = vectors.reshape(-1, 4).astype(np.float64).mean(0)
    labels, margins = group_cells(vectors, 3, PGG, 0)
    assert (labels[0, 0], margins[0, 0]) == (-1, 0)
    assert (labels.ravel()[1:] >= 0).all()
    few, _ = group_cells(np.random.default_rng(0).standard_normal((6, 1, 5)).astype(np.float32), 27, PGG, 0)
    assert set(few.ravel()) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
def test_the_names_share_as_many_cells_as_any_permutation_allows(seed):
    rng = np.random.default_rng(seed)
    old, new = rng.integers(-1, 4, 40), rng.integers(-1, 4, 40)
    renamed = rename_labels(new, old, 4)
    agree = max(sum((new >= 0) & (old >= 0) & (np.array(p)[new] == old)) for p in permutations(range(4)))
    assert ((renamed == old) & (new >= 0) & (old >= 0)).sum() == agree
    pairs = set(zip(new.tolist(), renamed.tolist(), strict=True))
    assert len(pairs) == len(set(new.tolist())) == len(set(renamed.tolist()))
    assert (renamed[new < 0] == -1).all()


def test_the_same_groups_keep_their_names():
    old = np.random.default_rng(0).integers(0, 5, (10, 4))
    np.testing.assert_array_equal(rename_labels((old + 2) % 5, old, 5), old)
