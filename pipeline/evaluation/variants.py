"""Figures of refined and of flip-averaged label maps, which stand beside the headline and change nothing in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.classes import ClassList
from pipeline.evaluation.matching import Assignment
from pipeline.evaluation.metrics import per_class_iou, score
from pipeline.params import EvaluateParams, RefineParams


@dataclass
class VariantCounts:
    """What further label maps of a split are scored by, all made in one way.

    Attributes:
        matrix: Their confusion matrix (C, K), at first of zeros.
        changed: How many pixels have another cluster than before.
        pixels: Of how many.
    """

    matrix: NDArray[np.int64]
    changed: int = 0
    pixels: int = 0

    def add(self, matrix: NDArray[np.int64], changed: NDArray[np.bool_]) -> None:
        """Add one image: its counts (C, K), and which pixels (h, w) have another cluster than before."""
        self.matrix = self.matrix + matrix
        self.changed += int(np.count_nonzero(changed))
        self.pixels += changed.size

    def figures(self, assignment: Assignment, classes: ClassList) -> dict[str, Any]:
        """Score under the headline's match, so that nothing but the label maps differs from it.

        Args:
            assignment: The headline's.
            classes: The classes.

        Returns:
            A group of `metrics.json`: `all`, `things` and `stuff` as there, `per_class`, and `changed`, the percent of
            pixels that have another cluster than before.

        Raises:
            InputError: No pixel was added.
        """
        matched = assignment.apply(self.matrix)
        ious = zip(classes.names, per_class_iou(matched), strict=True)
        return {
            **score(matched, classes.kinds),
            "per_class": {name: float(iou) for name, iou in ious if np.isfinite(iou)},
            "changed": 100.0 * self.changed / self.pixels,
        }


def describe_variants(params: EvaluateParams) -> dict[str, str]:
    """The variants that are asked for, `refined` and `flip_averaged`, and what `protocol.json` says of each."""
    notes = {"refined": describe_refinement(params.refine)} if params.refine.iterations else {}
    if params.flip:
        notes["flip_averaged"] = (
            "cluster scores averaged over the image and its mirror image, left to right; under the headline's match; "
            "the headline itself is not averaged"
        )
    return notes


def score_variants(
    counts: Mapping[str, VariantCounts], assignment: Assignment, classes: ClassList, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """The groups of `metrics.json` of the variants that are asked for; `refined` names its `parameters` as well.

    Args:
        counts: The variants by name.
        assignment: The headline's.
        classes: The classes.
        params: Group `evaluate`.
    """
    groups = {name: counts[name].figures(assignment, classes) for name in describe_variants(params)}
    if "refined" in groups:
        groups["refined"]["parameters"] = params.refine.model_dump()
    return groups


def describe_refinement(params: RefineParams) -> str:
    """Say what refinement did, for `protocol.json`."""
    side = 2 * params.radius + 1
    return (
        f"local CRF, {params.iterations} mean-field iterations, windows of {side} x {side} pixels {params.dilation} "
        f"apart, weights {params.colour_weight:g} (place {params.place_sigma:g} px, colour {params.colour_sigma:g} of "
        f"255) and {params.place_weight:g} (place), temperature {params.temperature:g}; under the "
        "headline's match; the headline itself is not refined"
    )
