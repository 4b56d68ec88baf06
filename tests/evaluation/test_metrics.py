import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics import JaccardIndex

from pipeline.errors import InputError
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import hungarian, majority
from pipeline.evaluation.metrics import (
    absent_classes,
    classes_counted,
    cluster_statistics,
    per_class_iou,
    score,
    score_restricted,
)


def matched_matrix(truth, clusters, classes, k, ignore_index=255):
    matrix = confusion_matrix(truth, clusters, classes=classes, k=k, ignore_index=ignore_index)
    return hungarian(matrix).apply(matrix)


def random_split(seed, classes, k, shape=(8, 8)):
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=shape), rng.integers(k, size=shape)


@given(st.integers(0, 2**32), st.integers(2, 6))
def test_iou_equals_torchmetrics(seed, classes):
    truth, prediction = random_split(seed, classes, classes)
    truth[0, :3] = 255
    matrix = confusion_matrix(truth, prediction, classes=classes, k=classes, ignore_index=255)
    unmatched = np.pad(matrix, ((0, 0), (0, 1)))

    def torchmetrics_iou(average):
        metric = JaccardIndex("multiclass", num_classes=classes, ignore_index=255, average=average)
        return metric(torch.from_numpy(prediction), torch.from_numpy(truth)).numpy()

    iou = per_class_iou(unmatched)
    np.testing.assert_allclose(np.nan_to_num(iou), 100 * torchmetrics_iou("none"), atol=1e-4)
    assert score(unmatched, None)["all"]["miou"] == pytest.approx(100 * torchmetrics_iou("macro"), abs=1e-4)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 7), st.data())
def test_every_figure_is_invariant_under_any_relabelling_of_the_clusters(seed, classes, k, data):
    truth, clusters = random_split(seed, classes, k, shape=(4, 4))
    relabel = np.array(data.draw(st.permutations(range(k))))
    kinds = data.draw(st.lists(st.sampled_from(["thing", "stuff"]), min_size=classes, max_size=classes))

    figures = score(matched_matrix(truth, clusters, classes, k), kinds)
    relabelled = score(matched_matrix(truth, relabel[clusters], classes, k), kinds)

    assert relabelled == figures


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 9))
def test_surplus_clusters_never_raise_accuracy_above_the_many_to_one_bound(seed, classes, k):
    truth, clusters = random_split(seed, classes, k)
    matrix = confusion_matrix(truth, clusters, classes=classes, k=k, ignore_index=255)

    one_to_one = score(hungarian(matrix).apply(matrix), None)["all"]["pixel_accuracy"]
    many_to_one = score(majority(matrix).apply(matrix), None)["all"]["pixel_accuracy"]

    assert one_to_one <= many_to_one <= 100


def test_half_the_pixels_in_surplus_clusters_are_half_wrong():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    clusters = np.array([0, 0, 2, 2, 1, 1, 3, 3])

    figures = score(matched_matrix(truth, clusters, 2, 4), None)["all"]

    assert figures == {"miou": 50, "miou_present": 50, "pixel_accuracy": 50, "mean_accuracy": 50}


def test_void_is_not_a_class_of_the_mean():
    matched = np.array([[8, 0, 2], [0, 10, 0]])

    assert score(matched, None)["all"]["miou"] == pytest.approx((80 + 100) / 2)
    assert classes_counted(matched) == 2


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_identity_gives_100(seed, classes):
    truth, _ = random_split(seed, classes, 1)

    figures = score(matched_matrix(truth, truth, classes, classes), ["thing"] * classes)

    assert set(figures["all"].values()) == {100.0}
    assert figures["things"] == figures["all"]


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_a_collapse_into_one_cluster_gives_the_largest_class_share(seed, classes):
    truth, _ = random_split(seed, classes, 1)
    collapsed = np.full_like(truth, 2)

    figures = score(matched_matrix(truth, collapsed, classes, 5), None)["all"]

    largest = np.bincount(truth.ravel()).max() / truth.size
    assert figures["pixel_accuracy"] == pytest.approx(100 * largest)
    # The other classes have IoU 0, whether or not an unused cluster is matched with them.
    assert figures["miou"] == pytest.approx(100 * largest / len(np.unique(truth)))


def test_an_image_that_is_ignored_altogether_changes_no_figure():
    truth, clusters = random_split(0, 4, 4)
    ignored = np.full_like(truth, 255)

    together = matched_matrix(np.stack([truth, ignored]), np.stack([clusters, clusters]), 4, 4)

    assert score(together, None) == score(matched_matrix(truth, clusters, 4, 4), None)


def test_figures_are_of_the_split_and_no_mean_over_images():
    # An image of 90 right pixels and one of 10 wrong ones: 90 %, not the 50 % of an average over images.
    truth = np.array([0] * 90 + [1] * 10)
    prediction = np.zeros(100, dtype=np.int64)

    assert score(matched_matrix(truth, prediction, 2, 2), None)["all"]["pixel_accuracy"] == 90


def test_mean_accuracy_is_recall_and_no_precision():
    matched = np.array([[6, 2, 0], [0, 2, 0]])

    assert score(matched, None)["all"]["mean_accuracy"] == pytest.approx((75 + 100) / 2)


def test_classes_absent_from_the_ground_truth_are_in_one_mean_only():
    # Class 2 is predicted and never true, class 3 neither.
    matched = np.array([[8, 0, 2, 0, 0], [0, 10, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])

    figures = score(matched, None)["all"]

    assert figures["miou"] == pytest.approx((80 + 100 + 0) / 3)
    assert figures["miou_present"] == pytest.approx((80 + 100) / 2)
    assert figures["mean_accuracy"] == pytest.approx((80 + 100) / 2)
    assert classes_counted(matched) == 3
    assert absent_classes(matched) == (2, 3)
    np.testing.assert_array_equal(per_class_iou(matched), [80, 100, 0, np.nan])


def test_a_class_without_a_cluster_has_iou_0():
    matched = hungarian(np.array([[5], [3]])).apply(np.array([[5], [3]]))

    assert per_class_iou(matched).tolist() == [pytest.approx(62.5), 0]


def test_things_and_stuff_select_rows_with_predictions_over_all_classes():
    matched = np.array([[4, 4, 0, 2], [1, 9, 0, 0], [0, 0, 20, 0]])
    iou = [400 / 11, 900 / 14, 100]

    figures = score(matched, ["thing", "stuff", "thing"])

    assert figures["things"]["pixel_accuracy"] == pytest.approx(100 * 24 / 30)
    assert figures["things"]["mean_accuracy"] == pytest.approx((40 + 100) / 2)
    assert figures["things"]["miou"] == pytest.approx((iou[0] + iou[2]) / 2)
    assert figures["stuff"]["pixel_accuracy"] == pytest.approx(90)
    assert figures["stuff"]["miou"] == pytest.approx(iou[1])
    assert figures["all"]["miou"] == pytest.approx(sum(iou) / 3)


def test_restricted_figures_leave_out_what_is_taken_for_the_other_kind_but_not_void():
    matched = np.array([[4, 4, 1, 2], [1, 9, 0, 0], [0, 5, 20, 0]])

    figures = score_restricted(matched, ["thing", "stuff", "thing"])

    assert figures["things"]["pixel_accuracy"] == pytest.approx(100 * 24 / 27)
    assert figures["things"]["mean_accuracy"] == pytest.approx(100 * (4 / 7 + 1) / 2)
    assert figures["things"]["miou"] == pytest.approx(100 * (4 / 7 + 20 / 21) / 2)
    assert set(figures["stuff"].values()) == {100.0}
    assert score_restricted(matched, None) == {}


def test_a_kind_whose_pixels_are_all_taken_for_the_other_has_no_restricted_figures():
    assert set(score_restricted(np.array([[0, 3, 0], [0, 5, 0]]), ["thing", "stuff"])) == {"stuff"}


def test_sections_without_kinds_or_pixels_are_left_out():
    # The one thing class is predicted but has no ground truth pixel: its accuracy is undefined.
    matched = np.array([[0, 0, 0], [3, 5, 0]])

    assert set(score(matched, None)) == {"all"}
    assert set(score(matched, ["thing", "stuff"])) == {"all", "stuff"}


def test_counts_beyond_int32_do_not_overflow():
    many = 2**33
    matched = np.array([[3 * many, many, 0], [0, 4 * many, 0]])

    figures = score(matched, None)["all"]

    assert figures["pixel_accuracy"] == 87.5
    assert figures["miou"] == pytest.approx((75 + 80) / 2)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 6))
def test_figures_are_finite_numbers_that_json_can_hold(seed, classes, k):
    truth, clusters = random_split(seed, classes, k, shape=(2, 2))

    figures = score(matched_matrix(truth, clusters, classes, k), None)

    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert all(0 <= value <= 100 for value in figures["all"].values())


def test_a_split_without_a_valid_pixel_is_an_error():
    with pytest.raises(InputError, match="nothing to evaluate: every pixel of every mask is ignored"):
        score(np.zeros((3, 4), dtype=np.int64), None)


@pytest.mark.parametrize("matched", [np.ones((3, 3), int), np.ones((3, 4)), -np.ones((3, 4), int)])
def test_what_is_no_matched_matrix_is_refused(matched):
    with pytest.raises(ValueError, match=r"expected \(C, C \+ 1\) counts"):
        score(matched, None)


@pytest.mark.parametrize("kinds", [["thing"], ["thing", "things"]])
def test_kinds_that_do_not_fit_the_classes_are_refused(kinds):
    with pytest.raises(ValueError, match="kinds"):
        score(np.ones((2, 3), dtype=np.int64), kinds)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4, 4, 4, 4], {"k": 4, "used": 4, "largest_share": 25, "entropy": 1}),
        ([8, 8, 0, 0], {"k": 4, "used": 2, "largest_share": 50, "entropy": 0.5}),
        ([0, 7, 0], {"k": 3, "used": 1, "largest_share": 100, "entropy": 0}),
        ([7], {"k": 1, "used": 1, "largest_share": 100, "entropy": 0}),
        ([3 * 2**40, 2**40], {"k": 2, "used": 2, "largest_share": 75, "entropy": 0.8112781}),
    ],
)
def test_cluster_statistics(sizes, expected):
    assert cluster_statistics(np.array(sizes)) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_entropy_stays_in_its_range(sizes):
    assert 0 <= cluster_statistics(np.array(sizes))["entropy"] <= 1


def test_cluster_statistics_without_pixels_are_an_error():
    with pytest.raises(InputError, match="nothing to evaluate: no pixel"):
        cluster_statistics(np.zeros(3, dtype=np.int64))
