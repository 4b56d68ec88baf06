"""A moving average of the segmenter in training (mean teacher, Tarvainen & Valpola 2017)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from pipeline.segmentation.model import Segmenter


class Teacher:
    """Follows a segmenter slowly, one step of the optimiser at a time.

    Weights are averaged. Statistics of the batch norms are not: the teacher sees the batches itself, so that they fit
    its own weights.

    Args:
        student: The segmenter in training.
        momentum: Share of the old average that a step keeps.
    """

    def __init__(self, student: Segmenter, momentum: float) -> None:
        self.student, self.momentum = student, momentum
        self.segmenter = deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def follow(self, *_: Any) -> None:
        """Take in the student's present weights; the arguments are those of a hook of the optimiser."""
        for average, weight in zip(self.segmenter.parameters(), self.student.parameters(), strict=True):
            average.lerp_(weight, 1 - self.momentum)
