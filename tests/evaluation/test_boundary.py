import math

import numpy as np
import pytest

from pipeline.errors import ParamsError
from pipeline.evaluation.boundary import BoundaryCounts


def slow_outline(labels, ignored):
    h, w = labels.shape
    outline = set()
    for y in range(h):
        for x in range(w):
            for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                inside = 0 <= b < h and 0 <= a < w
                if inside and not ignored[y, x] and not ignored[b, a] and labels[b, a] != labels[y, x]:
                    outline.add((y, x))
    return outline


def slow_f1(images, classes, tolerance, ignore_index):
    f1 = []
    for class_id in range(classes):
        sums = np.zeros(4)
        for truth, predicted in images:
            ignored = truth == ignore_index
            reach = max(1.0, tolerance * math.hypot(*truth.shape))
            t, p = (
                [place for place in slow_outline(labels, ignored) if labels[place] == class_id]
                for labels in (truth, predicted)
            )
            near = [
                sum(any(math.dist(a, b) <= reach for b in others) for a in these) for these, others in ((t, p), (p, t))
            ]
            sums += [len(t), near[0], len(p), near[1]]
        if not sums[0] + sums[2]:
            f1.append(np.nan)
            continue
        recall, precision = (sums[i + 1] / sums[i] if sums[i] else 0.0 for i in (0, 2))
        f1.append(100 * 2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return f1


def blobs(seed, shape=(24, 30), classes=4):
    """Coarse random regions."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(classes, size=(shape[0] // 6, shape[1] // 6))
    return coarse.repeat(6, axis=0).repeat(6, axis=1)


@pytest.mark.parametrize("tolerance", [0.0075, 0.06, 0.2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_equals_a_slow_count_over_several_images(tolerance, dtype):
    images = []
    for seed in range(3):
        truth, predicted = blobs(seed), np.roll(blobs(seed + seed % 2), 1, axis=1)
        truth[5:9, 8:15] = 255
        images.append((truth.astype(dtype), predicted.astype(dtype)))  # class 3 is the void of the prediction
    counts = BoundaryCounts(3, tolerance)
    for image in images:
        image[0][image[0] == 3] = 255
        counts.add(*image, ignore_index=255)

    np.testing.assert_allclose(counts.f1(), slow_f1(images, 3, tolerance, 255))


def halves(at):
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[:, at:] = 1
    return labels


def test_the_same_segmentation_is_100_and_one_off_by_more_than_the_tolerance_0():
    for at, expected in ((20, 100), (21, 100), (26, 0)):
        counts = BoundaryCounts(3)
        counts.add(halves(20), halves(at), ignore_index=255)
        np.testing.assert_array_equal(counts.f1(), [expected, expected, np.nan])


def test_a_wider_tolerance_forgives_more():
    counts = BoundaryCounts(2, tolerance=6 / math.hypot(40, 40) + 1e-9)
    counts.add(halves(20), halves(26), ignore_index=255)
    assert counts.f1().tolist() == [100, 100]


def test_the_edge_of_what_is_ignored_is_no_boundary():
    truth = halves(20)
    truth[:, 15:25] = 255
    counts = BoundaryCounts(2)
    counts.add(truth, halves(20), ignore_index=255)
    assert np.isnan(counts.f1()).all()


def test_a_boundary_that_is_only_in_one_of_both_is_0():
    counts = BoundaryCounts(2)
    counts.add(halves(20), np.zeros((40, 40), int), ignore_index=255)
    assert counts.f1().tolist() == [0, 0]


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1, float("nan")])
def test_a_tolerance_that_is_no_share_is_refused(tolerance):
    with pytest.raises(ParamsError, match="share of the diagonal"):
        BoundaryCounts(2, tolerance)


def test_the_figures_leave_out_classes_without_a_boundary():
    counts = BoundaryCounts(3)
    assert counts.figures(("sky", "sea", "sun")) == {"tolerance": 0.0075, "per_class": {}}
    labels = np.repeat([[0, 0, 1, 1]], 4, axis=0)
    counts.add(labels, labels, 255)
    figures = counts.figures(("sky", "sea", "sun"))
    assert figures == {"tolerance": 0.0075, "per_class": {"sky": 100.0, "sea": 100.0}, "f1": 100.0}
    assert counts.describe().startswith("tolerance 0.75 % of each image's diagonal")
