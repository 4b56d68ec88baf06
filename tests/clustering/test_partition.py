from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pipeline.clustering.partition import adjusted_rand_index, normalised_mutual_information
from pipeline.errors import InputError

MATRICES = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 6)).filter(np.any)
)


def unfold(matrix):
    """The labels of every pixel that a matrix counts."""
    rows, columns = np.indices(matrix.shape).reshape(2, -1)
    return np.repeat(rows, matrix.ravel()), np.repeat(columns, matrix.ravel())


@given(MATRICES)
def test_both_equal_scikit_learn(matrix):
    truth, clusters = unfold(matrix)

    nmi = normalised_mutual_information(matrix)
    assert 0 <= nmi <= 1
    assert nmi == pytest.approx(normalized_mutual_info_score(truth, clusters), abs=1e-9)
    assert adjusted_rand_index(matrix) == pytest.approx(adjusted_rand_score(truth, clusters), abs=1e-12)


@given(MATRICES, st.data())
def test_neither_depends_on_the_numbers_of_the_clusters(matrix, data):
    shuffled = matrix[:, data.draw(st.permutations(range(matrix.shape[1])))]

    assert adjusted_rand_index(shuffled) == adjusted_rand_index(matrix)
    assert normalised_mutual_information(shuffled) == pytest.approx(normalised_mutual_information(matrix), abs=1e-12)


@pytest.mark.parametrize("figure", [normalised_mutual_information, adjusted_rand_index])
def test_the_same_partition_is_1_and_an_independent_one_0(figure):
    assert figure(np.diag([5, 7, 9])) == pytest.approx(1, abs=1e-12)
    assert figure(np.array([[4]])) == 1
    assert figure(np.full((2, 2), 10**6)) == pytest.approx(0, abs=1e-6)
    assert figure(np.array([[4], [2]])) == 0  # collapse into one cluster


def test_counts_whose_pairs_do_not_fit_64_bits_stay_exact():
    small = np.array([[30, 5, 1], [2, 40, 9]])
    factor = 2**52
    n = [[value * factor for value in row] for row in small.tolist()]
    pairs = [sum(v * (v - 1) // 2 for v in sizes) for sizes in (chain(*n), map(sum, n), map(sum, zip(*n, strict=True)))]
    total = sum(map(sum, n))
    every = total * (total - 1) // 2
    expected = 2 * (pairs[0] * every - pairs[1] * pairs[2]) / ((pairs[1] + pairs[2]) * every - 2 * pairs[1] * pairs[2])

    assert adjusted_rand_index(small * factor) == expected
    assert normalised_mutual_information(small * factor) == pytest.approx(normalised_mutual_information(small))


@pytest.mark.parametrize("figure", [normalised_mutual_information, adjusted_rand_index])
def test_what_cannot_be_compared_is_refused(figure):
    with pytest.raises(InputError, match="nothing to evaluate"):
        figure(np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="matrix of counts"):
        figure(np.ones((2, 2)))
