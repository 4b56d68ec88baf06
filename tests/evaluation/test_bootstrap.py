import numpy as np
import pytest

from pipeline.evaluation import bootstrap
from pipeline.evaluation.bootstrap import ImageCounts, bootstrap_intervals
from pipeline.evaluation.matching import hungarian
from pipeline.evaluation.metrics import score
from pipeline.runtime.randomness import generator


def random_images(images=12, classes=3, k=5):
    rng = np.random.default_rng(0)
    # sparse, as most images have few of the classes
    return rng.integers(0, 50, (images, classes, k)) * rng.integers(0, 2, (images, classes, k))


def collect(matrices):
    counts = ImageCounts(matrices.shape[1])
    for number, matrix in enumerate(matrices):
        counts.add(matrix, image=str(number))
    return counts


def test_the_kept_entries_sum_to_the_matrix_of_the_split():
    matrices = random_images()
    counts = collect(matrices)

    assert len(counts) == 12
    np.testing.assert_array_equal(counts.total(range(5)), matrices.sum(axis=0))


def test_columns_may_be_any_ids():
    counts = ImageCounts(2)
    counts.add(np.array([[4, 0], [1, 2]]), np.array([7, 300]), image="a")
    counts.add(np.array([[5], [0]]), np.array([9]), image="b")

    assert counts.total([7, 9, 300]).tolist() == [[4, 5, 0], [1, 0, 2]]


def test_tiles_of_an_image_are_drawn_together():
    matrices = random_images(12)
    whole, tiles = matrices.reshape(4, 3, *matrices.shape[1:]).sum(axis=1), ImageCounts(3)
    for number, matrix in enumerate(matrices):
        tiles.add(matrix, image=f"{number // 3}.tif")

    assert (len(tiles), tiles.tiles) == (4, 12)
    np.testing.assert_array_equal(tiles.total(range(5)), matrices.sum(axis=0))
    assignment = hungarian(matrices.sum(axis=0))
    expected = collect(whole).reduce(assignment, range(5))
    np.testing.assert_array_equal(tiles.reduce(assignment, range(5)), expected)
    assert bootstrap_intervals(expected, 0)["images"] == 4


def test_an_image_is_reduced_to_hits_truth_and_predictions():
    matrices = random_images()
    counts = collect(matrices)
    assignment = hungarian(matrices.sum(axis=0))

    sums = counts.reduce(assignment, range(5))

    for matrix, (hits, truth, predicted) in zip(matrices, sums, strict=True):
        matched = assignment.apply(matrix)
        assert hits.tolist() == np.diagonal(matched).tolist()
        assert truth.tolist() == matched.sum(axis=1).tolist()
        assert predicted.tolist() == matched.sum(axis=0)[:-1].tolist()


def test_intervals_equal_a_slow_resampling_under_the_match_of_the_whole_split(monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 70)  # more than one block
    matrices = random_images()
    matrices = np.concatenate([matrices, np.zeros_like(matrices[:1])])  # an ignored image is not drawn
    assignment = hungarian(matrices.sum(axis=0))
    rng = generator(3, "bootstrap")
    times = np.concatenate([rng.multinomial(12, np.full(12, 1 / 12), size=size) for size in (64, 6)])
    drawn = [score(assignment.apply(np.tensordot(row, matrices[:12], 1)), None)["all"] for row in times]

    found = bootstrap_intervals(collect(matrices).reduce(assignment, range(5)), seed=3)

    assert (found["images"], found["resamples"]) == (12, 70)
    for name in ("miou", "pixel_accuracy"):
        expected = np.percentile([figures[name] for figures in drawn], [2.5, 97.5])
        assert [found[f"{name}_low"], found[f"{name}_high"]] == pytest.approx(expected.tolist())


def test_intervals_are_those_of_the_seed():
    matrices = random_images()
    sums = collect(matrices).reduce(hungarian(matrices.sum(axis=0)), range(5))

    assert bootstrap_intervals(sums, 0) == bootstrap_intervals(sums, 0)
    assert bootstrap_intervals(sums, 0) != bootstrap_intervals(sums, 1)


def test_images_that_are_alike_leave_no_room_and_more_images_less():
    alike = np.tile(np.array([[[6, 2], [1, 7]]]), (5, 1, 1))
    found = bootstrap_intervals(collect(alike).reduce(hungarian(alike[0]), range(2)), 0)
    assert found["miou_low"] == found["miou_high"] == pytest.approx(100 * (6 / 9 + 7 / 10) / 2)

    few, many = random_images(10), np.tile(random_images(10), (20, 1, 1))
    assignment = hungarian(few.sum(axis=0))
    widths = [
        found["pixel_accuracy_high"] - found["pixel_accuracy_low"]
        for found in (bootstrap_intervals(collect(m).reduce(assignment, range(5)), 0) for m in (few, many))
    ]
    assert widths[1] < widths[0] / 3


def test_one_image_has_no_interval():
    assert bootstrap_intervals(collect(random_images(1)).reduce(hungarian(random_images(1)[0]), range(5)), 0) == {}


def test_large_counts_stay_exact():
    huge = np.array([[[2**40 + 1, 0], [0, 2**40]]] * 3)
    found = bootstrap_intervals(collect(huge).reduce(hungarian(huge[0]), range(2)), 0)
    assert found["pixel_accuracy_low"] == found["miou_high"] == 100
