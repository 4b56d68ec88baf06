"""Which class each cluster stands for: one assignment for a whole split, made from its confusion matrix."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.errors import ParamsError

UNMATCHED = -1


@dataclass(frozen=True)
class Assignment:
    """The class of every cluster, and the rule that chose it."""

    rule: str
    class_of_cluster: tuple[int, ...]

    def apply(self, matrix: NDArray[np.integer]) -> NDArray[np.int64]:
        """Turn classes by clusters into classes by predicted classes.

        Args:
            matrix: counts of shape (C, K); K is the number of clusters of this assignment. It may come from
                another split than the one that the assignment was made on.

        Returns:
            Counts of shape (C, C + 1), int64; the last column, `void`, holds the pixels of unmatched
            clusters, which no class predicts and which count as errors. The sum equals that of `matrix`.

        Raises:
            ValueError: when the matrix does not fit the assignment.
        """
        counts = _checked(matrix)
        classes, k = counts.shape
        if k != len(self.class_of_cluster) or max(self.class_of_cluster) >= classes:
            raise ValueError(
                f"a matrix of {classes} classes and {k} clusters does not fit the clusters' classes "
                f"{self.class_of_cluster}"
            )
        matched = np.zeros((classes, classes + 1), dtype=np.int64)
        np.add.at(matched.T, self.lookup_table(void=classes), counts.T)
        return matched

    def lookup_table(self, void: int) -> NDArray[np.int64]:
        """Give the class of every cluster as an index array, so that `table[cluster_map]` is the class map.

        Args:
            void: the value of unmatched clusters, for example the `ignore_index` of the data set.

        Returns:
            Class ids of shape (K,), int64.
        """
        table = np.asarray(self.class_of_cluster, dtype=np.int64)
        return np.where(table == UNMATCHED, void, table)


def hungarian(matrix: NDArray[np.integer]) -> Assignment:
    """Match clusters and classes one to one so that the number of matched pixels is largest.

    With K > C the surplus clusters stay unmatched, with K < C the surplus classes do. Every one of the min(C,
    K) pairs is kept, also one that shares no pixel. Ties are broken by the clusters' contents, not by their
    numbers, so that every figure made from the result is the same under any relabelling of the clusters.

    Args:
        matrix: counts of shape (C, K), integers >= 0; exact up to 2^53 pixels per entry.

    Returns:
        The assignment, rule `hungarian`.

    Raises:
        ValueError: when the matrix is not one of counts.

    Source: Kuhn 1955, as solved by `scipy.optimize.linear_sum_assignment`.
    """
    counts = _checked(matrix)
    # Equal columns are interchangeable, so sorting the columns by content leaves nothing to the numbering.
    by_content = np.lexsort(counts[::-1])
    class_ids, columns = linear_sum_assignment(counts[:, by_content], maximize=True)
    class_of_cluster = [UNMATCHED] * counts.shape[1]
    for class_id, column in zip(class_ids.tolist(), by_content[columns].tolist(), strict=True):
        class_of_cluster[column] = class_id
    return Assignment("hungarian", tuple(class_of_cluster))


def majority(matrix: NDArray[np.integer]) -> Assignment:
    """Give every cluster the class that most of its pixels have (many to one).

    Its accuracy is an upper bound of the Hungarian one, and grows with the number of clusters: the two are
    never to be compared. A tie goes to the lower class id; a cluster without pixels stays unmatched.

    Args:
        matrix: counts of shape (C, K), integers >= 0.

    Returns:
        The assignment, rule `majority`.

    Raises:
        ValueError: when the matrix is not one of counts.
    """
    counts = _checked(matrix)
    winners = np.where(counts.any(axis=0), counts.argmax(axis=0), UNMATCHED)
    return Assignment("majority", tuple(winners.tolist()))


def hungarian_then_majority(matrix: NDArray[np.integer]) -> Assignment:
    """Match one to one first, then give every left-over cluster the class that most of its pixels have.

    Every class that can have a cluster of its own has one, and no cluster with pixels stays unmatched. For K <= C
    this is the Hungarian matching; for K > C the figures grow with K as those of `majority` do.

    Args:
        matrix: counts of shape (C, K), integers >= 0.

    Returns:
        The assignment, rule `hungarian+majority`.

    Raises:
        ValueError: when the matrix is not one of counts.
    """
    first, rest = hungarian(matrix).class_of_cluster, majority(matrix).class_of_cluster
    both = tuple(own if own != UNMATCHED else winner for own, winner in zip(first, rest, strict=True))
    return Assignment("hungarian+majority", both)


RULES: dict[str, Callable[[NDArray[np.integer]], Assignment]] = {
    "hungarian": hungarian,
    "majority": majority,
    "hungarian+majority": hungarian_then_majority,
}
_MEANINGS = {
    "hungarian": "one to one, most matched pixels over the whole split; unmatched clusters are errors",
    "majority": "many to one, each cluster is the class that most of its pixels have; not comparable with one to one",
    "hungarian+majority": (
        "one to one as far as there are classes, then each left-over cluster is the class that most of its pixels "
        "have; with more clusters than classes not comparable with one to one"
    ),
}


def match(matrix: NDArray[np.integer], rule: str) -> Assignment:
    """Match clusters with classes by the rule of a name.

    Args:
        matrix: counts of shape (C, K), integers >= 0.
        rule: a key of `RULES`.

    Returns:
        The assignment.

    Raises:
        ParamsError: when there is no such rule.
        ValueError: when the matrix is not one of counts.
    """
    check_rule(rule)
    return RULES[rule](matrix)


def check_rule(rule: str) -> None:
    """Refuse a name that no rule has.

    Raises:
        ParamsError: naming the rules.
    """
    if rule not in RULES:
        raise ParamsError(f"no matching rule is called {rule!r}; the rules are {', '.join(RULES)}")


def describe_rule(rule: str) -> str:
    """Name a rule and say what it does, for `protocol.json`."""
    return f"{rule}: {_MEANINGS[rule]}"


def _checked(matrix: NDArray[np.integer]) -> NDArray[np.int64]:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or 0 in counts.shape or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"expected a (C, K) matrix of counts, not {counts.dtype} of shape {counts.shape}")
    return counts.astype(np.int64)
