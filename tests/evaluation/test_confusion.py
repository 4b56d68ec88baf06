import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix as reference_matrix

from pipeline.evaluation.confusion import confusion_matrix

DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.int64]


def count_slowly(truth, clusters, classes, k, ignore_index):
    matrix = np.zeros((classes, k), dtype=np.int64)
    for t, c in zip(truth.ravel().tolist(), clusters.ravel().tolist(), strict=True):
        if t != ignore_index:
            matrix[t, c] += 1
    return matrix


@given(st.data())
def test_equals_the_slow_count_and_sums_to_the_valid_pixels(data):
    classes, k = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 12))
    ignore_index = data.draw(st.sampled_from([classes, 100, 255]))
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    truth = rng.choice([*range(classes), ignore_index], size=(height, width))
    truth = truth.astype(data.draw(st.sampled_from(DTYPES)))
    clusters = rng.integers(k, size=(height, width)).astype(data.draw(st.sampled_from(DTYPES)))

    matrix = confusion_matrix(truth, clusters, classes=classes, k=k, ignore_index=ignore_index)

    assert matrix.dtype == np.int64
    assert matrix.shape == (classes, k)
    assert matrix.sum() == np.count_nonzero(truth != ignore_index)
    np.testing.assert_array_equal(matrix, count_slowly(truth, clusters, classes, k, ignore_index))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("k", [27, 300])
def test_equals_scikit_learn_on_more_than_one_chunk(dtype, k):
    rng = np.random.default_rng(0)
    truth = rng.integers(27, size=(3, 170, 500)).astype(dtype)
    clusters = rng.integers(k, size=truth.shape)

    matrix = confusion_matrix(truth, clusters, classes=27, k=k, ignore_index=255)

    expected = reference_matrix(truth.ravel(), clusters.ravel(), labels=range(max(27, k)))
    np.testing.assert_array_equal(matrix, expected[:27, :k])


def test_surplus_clusters_are_counted_too():
    truth = np.array([0, 0, 1, 1], dtype=np.uint8)
    clusters = np.array([0, 6, 1, 6])

    matrix = confusion_matrix(truth, clusters, classes=2, k=7, ignore_index=255)

    assert matrix.sum() == 4
    assert matrix[:, 6].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_an_image_that_is_ignored_altogether_adds_nothing(dtype):
    truth = np.full((4, 4), 255, dtype=dtype)

    matrix = confusion_matrix(truth, np.zeros((4, 4), dtype=np.int64), classes=3, k=2, ignore_index=255)

    assert not matrix.any()


def test_an_empty_image_adds_nothing():
    empty = np.zeros((0, 4), dtype=np.uint8)

    assert not confusion_matrix(empty, empty, classes=3, k=2, ignore_index=255).any()


def test_the_order_of_images_does_not_matter():
    rng = np.random.default_rng(1)
    images = [(rng.integers(4, size=(5, 5)), rng.integers(6, size=(5, 5))) for _ in range(7)]

    def total(order):
        counts = [confusion_matrix(t, c, classes=4, k=6, ignore_index=255) for t, c in order]
        return sum(counts)

    np.testing.assert_array_equal(total(images), total(images[::-1]))
    joint = confusion_matrix(
        np.stack([t for t, _ in images]), np.stack([c for _, c in images]), classes=4, k=6, ignore_index=255
    )
    np.testing.assert_array_equal(total(images), joint)


def test_negative_ignore_index_and_views_are_fine():
    truth = np.array([[-1, 0, 1], [1, -1, 0]])
    clusters = np.array([[0, 0, 1], [1, 1, 0]])

    matrix = confusion_matrix(truth.T, clusters.T, classes=2, k=2, ignore_index=-1)

    assert matrix.tolist() == [[2, 0], [0, 2]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ids", "named"), [([0, 3, 1, 9], "3, 9"), ([0, 1, 2, 3], "3")])
def test_unknown_ground_truth_ids_are_named(dtype, ids, named):
    truth = np.array(ids, dtype=dtype)

    with pytest.raises(ValueError, match=f"ground truth ids {named} lie outside 0..2 .*ignore_index 255"):
        confusion_matrix(truth, np.zeros(4, dtype=np.uint8), classes=3, k=2, ignore_index=255)


def test_a_negative_ground_truth_id_is_named():
    with pytest.raises(ValueError, match="ids -1 lie outside"):
        confusion_matrix(np.array([-1, 0]), np.array([0, 0]), classes=2, k=2, ignore_index=255)


def test_many_unknown_ids_are_counted_not_listed():
    with pytest.raises(ValueError, match="12 and 240 more lie outside"):
        confusion_matrix(np.arange(253, dtype=np.uint8), np.zeros(253, np.uint8), classes=3, k=2, ignore_index=255)


@pytest.mark.parametrize(("ids", "named"), [([0, 2, 7], "2, 7"), ([0, -1, 1], "-1")])
def test_cluster_ids_outside_the_range_are_named_even_where_ignored(ids, named):
    truth = np.full(3, 255, dtype=np.uint8)

    with pytest.raises(ValueError, match=f"cluster ids {named} lie outside 0..1"):
        confusion_matrix(truth, np.array(ids), classes=3, k=2, ignore_index=255)


@pytest.mark.parametrize(
    ("truth", "clusters", "ignore_index", "message"),
    [
        (np.zeros(3, int), np.zeros(4, int), 255, "shape"),
        (np.zeros(3), np.zeros(3, int), 255, "truth must hold integers"),
        (np.zeros(3, int), np.zeros(3, bool), 255, "clusters must hold integers"),
        (np.zeros(3, int), np.zeros(3, int), 1, "one of the 3 classes"),
    ],
)
def test_unusable_arguments_are_refused(truth, clusters, ignore_index, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(truth, clusters, classes=3, k=2, ignore_index=ignore_index)
