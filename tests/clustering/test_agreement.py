import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import normalized_mutual_info_score

from pipeline.clustering.agreement import normalised_mutual_information, relative_entropy

LABELS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=60)


@given(LABELS)
def test_it_is_scikit_learns(pairs):
    first, second = map(np.array, zip(*pairs, strict=True))
    expected = normalized_mutual_info_score(first, second)
    assert normalised_mutual_information(first, second) == pytest.approx(expected, abs=1e-9)
    assert normalised_mutual_information(second, first) == pytest.approx(expected, abs=1e-9)


def test_names_and_shapes_do_not_matter():
    labels = np.random.default_rng(0).integers(0, 5, (4, 6))
    renamed = np.array([7, 2, 9, 0, 4])[labels]
    assert normalised_mutual_information(labels, renamed) == pytest.approx(1.0)


def test_limits():
    rng = np.random.default_rng(0)
    assert normalised_mutual_information(rng.integers(0, 4, 10**5), rng.integers(0, 4, 10**5)) < 1e-3
    assert normalised_mutual_information(np.zeros(5, int), np.zeros(5, int)) == 1.0
    assert normalised_mutual_information(np.zeros(4, int), np.arange(4)) == 0.0
    small = np.array([250, 3, 250], np.uint8)
    assert normalised_mutual_information(small, small) == pytest.approx(1.0)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=20).filter(any))
def test_entropy_is_scipys_over_the_logarithm_of_the_length(counts):
    expected = entropy(counts) / np.log(len(counts))
    assert relative_entropy(np.array(counts)) == pytest.approx(expected, abs=1e-9)


def test_entropy_is_1_when_flat_and_0_when_all_fall_together():
    assert relative_entropy(np.array([5, 5, 5])) == pytest.approx(1.0)
    assert relative_entropy(np.array([0, 9, 0])) == 0.0
