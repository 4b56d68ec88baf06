from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import ParamsError
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import (
    RULES,
    Assignment,
    describe_rule,
    hungarian,
    hungarian_then_majority,
    majority,
    match,
)


@st.composite
def matrices(draw, most=5, largest=6):
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    return draw(arrays(np.int64, shape, elements=st.integers(0, largest)))


def hits(assignment, matrix):
    return int(np.trace(assignment.apply(matrix)))


def best_hits_by_brute_force(matrix):
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows = range(wide.shape[0])
    return max(
        sum(wide[r, c] for r, c in zip(rows, columns, strict=True))
        for columns in permutations(range(wide.shape[1]), wide.shape[0])
    )


@given(matrices())
def test_hungarian_is_the_best_one_to_one_matching(matrix):
    assignment = hungarian(matrix)
    matched = [c for c in assignment.class_of_cluster if c >= 0]

    assert assignment.rule == "hungarian"
    assert len(assignment.class_of_cluster) == matrix.shape[1]
    assert len(set(matched)) == len(matched) == min(matrix.shape)
    assert hits(assignment, matrix) == best_hits_by_brute_force(matrix)


@pytest.mark.parametrize("rule", RULES.values())
@given(matrix=matrices(), data=st.data())
def test_the_matched_matrix_is_the_same_under_any_relabelling_of_the_clusters(rule, matrix, data):
    # Small counts, so that most examples have ties.
    shuffled = matrix[:, data.draw(st.permutations(range(matrix.shape[1])))]

    np.testing.assert_array_equal(rule(matrix).apply(matrix), rule(shuffled).apply(shuffled))


def test_a_tie_is_broken_by_content_and_not_by_cluster_number():
    # Class 0 has no pixel, so that any of the clusters 0 and 1 may be matched with it; only one has pixels.
    matrix = np.array([[0, 0, 0], [0, 1, 2]])

    results = [hungarian(matrix[:, order]).apply(matrix[:, order]).tolist() for order in permutations(range(3))]

    assert all(result == results[0] for result in results)


@given(matrices())
def test_surplus_clusters_never_raise_accuracy_above_the_many_to_one_bound(matrix):
    assert hits(hungarian(matrix), matrix) <= hits(majority(matrix), matrix)
    assert hits(majority(matrix), matrix) == matrix.max(axis=0).sum()


@pytest.mark.parametrize("rule", RULES.values())
@given(matrix=matrices())
def test_applying_keeps_every_pixel_in_its_row(rule, matrix):
    matched = rule(matrix).apply(matrix)

    assert matched.dtype == np.int64
    assert matched.shape == (len(matrix), len(matrix) + 1)
    np.testing.assert_array_equal(matched.sum(axis=1), matrix.sum(axis=1))


def test_pixels_of_surplus_clusters_are_void_and_wrong():
    matrix = np.array([[5, 0, 4], [0, 5, 4]])

    assignment = hungarian(matrix)

    assert assignment.class_of_cluster == (0, 1, -1)
    assert assignment.apply(matrix).tolist() == [[5, 0, 4], [0, 5, 4]]


def test_with_fewer_clusters_than_classes_a_class_has_no_prediction():
    matrix = np.array([[5, 0], [0, 5], [3, 3]])

    matched = hungarian(matrix).apply(matrix)

    assert matched.tolist() == [[5, 0, 0, 0], [0, 5, 0, 0], [3, 3, 0, 0]]


def test_hungarian_maximises_pixels_over_the_whole_matrix_and_is_no_argmax():
    matrix = np.array([[10, 9], [9, 1]])

    assert hungarian(matrix).class_of_cluster == (1, 0)
    assert majority(matrix).class_of_cluster == (0, 0)


def test_majority_leaves_an_unused_cluster_unmatched_and_breaks_ties_by_class_id():
    assert majority(np.array([[2, 0, 1], [2, 0, 3]])).class_of_cluster == (0, -1, 1)


@given(st.data())
def test_the_class_map_with_surplus_clusters_agrees_with_the_matched_matrix(data):
    classes, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    truth, clusters = rng.integers(classes, size=(6, 6)), rng.integers(k, size=(6, 6))
    matrix = confusion_matrix(truth, clusters, classes=classes, k=k, ignore_index=255)
    assignment = hungarian(matrix)

    class_map = assignment.lookup_table(void=classes)[clusters]

    drawn = confusion_matrix(truth, class_map, classes=classes, k=classes + 1, ignore_index=255)
    np.testing.assert_array_equal(drawn, assignment.apply(matrix))


def test_an_assignment_made_on_one_split_applies_to_another():
    fixed = hungarian(np.array([[0, 9], [9, 0]]))

    assert fixed.apply(np.array([[1, 2], [3, 4]])).tolist() == [[2, 1, 0], [4, 3, 0]]


def test_counts_beyond_int32_stay_exact():
    many = 2**40
    matrix = np.array([[0, many + 1], [many, 1]])

    assert hungarian(matrix).apply(matrix).tolist() == [[many + 1, 0, 0], [1, many, 0]]


@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.array([1, 2]), np.array([[1, -1]]), np.zeros((2, 0), int)])
def test_what_is_no_matrix_of_counts_is_refused(matrix):
    with pytest.raises(ValueError, match="matrix of counts"):
        hungarian(matrix)


@pytest.mark.parametrize("class_of_cluster", [(0, 1, -1), (0, 2)])
def test_an_assignment_that_does_not_fit_is_refused(class_of_cluster):
    with pytest.raises(ValueError, match="does not fit"):
        Assignment("hungarian", class_of_cluster).apply(np.ones((2, 2), dtype=np.int64))


def test_left_over_clusters_get_their_most_frequent_class_and_empty_ones_none():
    matrix = np.array([[9, 0, 4, 1, 0], [0, 8, 1, 2, 0]])

    assert hungarian_then_majority(matrix).class_of_cluster == (0, 1, 0, 1, -1)


@given(matrices())
def test_both_rules_in_turn_lie_between_each_of_them(matrix):
    one, both, many = (hits(match(matrix, rule), matrix) for rule in ("hungarian", "hungarian+majority", "majority"))

    assert one <= both <= many
    if matrix.shape[1] <= matrix.shape[0]:
        assert match(matrix, "hungarian+majority").class_of_cluster == hungarian(matrix).class_of_cluster


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_found_by_the_name_that_its_assignment_tells(rule):
    assert match(np.eye(2, dtype=int), rule).rule == rule
    assert describe_rule(rule).startswith(f"{rule}: ")


def test_an_unknown_rule_is_refused_with_the_names_of_the_others():
    with pytest.raises(ParamsError, match=r"'argmax'; the rules are hungarian, majority, hungarian\+majority"):
        match(np.eye(2, dtype=int), "argmax")
