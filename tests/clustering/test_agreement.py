import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pipeline.clustering.agreement import adjusted_rand_index, normalised_mutual_information, relative_entropy

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


@given(LABELS.filter(lambda pairs: len(pairs) > 1))
def test_the_rand_index_is_scikit_learns(pairs):
    first, second = map(np.array, zip(*pairs, strict=True))
    expected = adjusted_rand_score(first, second)
    assert adjusted_rand_index(first, second) == pytest.approx(expected, abs=1e-9)
    assert adjusted_rand_index(second, first) == pytest.approx(expected, abs=1e-9)


def test_the_rand_index_counts_pairs():
    first, second = np.array([0, 0, 0, 1, 1, 2]), np.array([4, 4, 1, 1, 1, 0])
    together = [(first[i] == first[j], second[i] == second[j]) for i in range(6) for j in range(i)]
    both, ones, others = (sum(map(int, found)) for found in zip(*[(a and b, a, b) for a, b in together], strict=True))
    expected = ones * others / len(together)
    assert adjusted_rand_index(first, second) == pytest.approx((both - expected) / ((ones + others) / 2 - expected))


def test_limits_of_the_rand_index():
    rng = np.random.default_rng(0)
    assert abs(adjusted_rand_index(rng.integers(0, 4, 10**5), rng.integers(0, 9, 10**5))) < 1e-3
    assert adjusted_rand_index(np.zeros(5, int), np.zeros(5, int)) == 1.0
    assert adjusted_rand_index(np.arange(5), np.arange(5)[::-1]) == 1.0
    assert adjusted_rand_index(np.zeros(4, int), np.arange(4)) == 0.0
    assert adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
    many = np.repeat([0, 1], 10**6)  # products of pairs beyond 64 bits
    assert adjusted_rand_index(many, 1 - many) == 1.0
