import itertools
import statistics

import numpy as np
import pytest

from pipeline.evaluation.draws import count_draws, score_draws

NAMES, KINDS = ("sky", "sea", "sun"), ("stuff", "stuff", "thing")


def best_by_hand(matrix):
    """mIoU and accuracy under the assignment with most matched pixels, by trying all."""
    C = len(matrix)
    order = max(itertools.permutations(range(C)), key=lambda p: sum(matrix[c][p[c]] for c in range(C)))
    hits = [matrix[c][order[c]] for c in range(C)]
    ious = [100 * hits[c] / (sum(matrix[c]) + sum(row[order[c]] for row in matrix) - hits[c]) for c in range(C)]
    return sum(ious) / C, 100 * sum(hits) / sum(map(sum, matrix)), ious


def test_every_draw_has_its_own_matching_and_the_summary_is_their_mean_and_spread():
    rng = np.random.default_rng(0)
    matrices = np.stack([rng.permutation(np.eye(3, dtype=np.int64) * 50, axis=1) for _ in range(4)])
    matrices += rng.integers(0, 20, matrices.shape)
    summary, listing = score_draws(matrices, matrices, NAMES, KINDS)
    expected = [best_by_hand(matrix.tolist()) for matrix in matrices]
    for entry, (miou, accuracy, ious) in zip(listing, expected, strict=True):
        assert entry["all"]["miou"] == pytest.approx(miou)
        assert entry["all"]["pixel_accuracy"] == pytest.approx(accuracy)
        assert list(entry["per_class"].values()) == pytest.approx(ious)
    for name, values in {
        "miou": [miou for miou, _, _ in expected],
        "pixel_accuracy": [accuracy for _, accuracy, _ in expected],
        "stuff_miou": [sum(ious[:2]) / 2 for _, _, ious in expected],
        "things_miou": [ious[2] for _, _, ious in expected],
    }.items():
        assert summary[f"{name}_mean"] == pytest.approx(statistics.mean(values))
        assert summary[f"{name}_sd"] == pytest.approx(statistics.stdev(values))
    assert summary["count"] == 4


def test_one_draw_has_no_spread_and_no_kinds_no_sections():
    matrices = np.eye(3, dtype=np.int64)[None]
    summary, _ = score_draws(matrices, matrices, NAMES, None)
    assert summary == {"count": 1, "miou_mean": 100.0, "pixel_accuracy_mean": 100.0}


def test_no_draws_are_no_figures():
    nothing = count_draws(np.zeros((2, 2), np.uint8), [], classes=3, k=5, ignore_index=255)
    assert nothing.shape == (0, 3, 5)
    assert score_draws(nothing, nothing, NAMES, KINDS) == ({}, [])


def test_counts_of_an_image_leave_ignored_pixels_out():
    truth = np.array([[0, 1, 255]], np.uint8)
    counts = count_draws(truth, [np.array([[1, 1, 0]]), np.array([[0, 1, 1]])], classes=2, k=2, ignore_index=255)
    assert counts.tolist() == [[[0, 1], [0, 1]], [[1, 0], [0, 1]]]
