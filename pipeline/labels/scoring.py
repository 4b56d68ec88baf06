"""Figures of predictions that are classes already, so that nothing is matched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.classes import ClassList
from pipeline.errors import InputError
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.matching import Assignment
from pipeline.evaluation.metrics import per_class_iou, score
from pipeline.labels.pixels import Batches, Encode

Scores = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def count_predictions(
    batches: Batches,
    encode: Encode,
    probes: Mapping[str, Scores],
    read_mask: Callable[[int], np.ndarray],
    classes: ClassList,
) -> dict[str, np.ndarray]:
    """Confusion matrices of several predictions from one map, in one pass over the images.

    Args:
        batches: Indices and uint8 images (B, 3, H, W).
        encode: From such images to a map, float32 (B, D, h, w).
        probes: By name, from a map to class scores (B, C, h, w); these are brought to (H, W) bilinearly and compared.
        read_mask: Class ids (H, W) of an index.
        classes: The C classes.

    Returns:
        int64 (C, C) by name; rows are ground truth classes, columns predicted ones.
    """
    count = len(classes.names)
    matrices = {name: np.zeros((count, count), np.int64) for name in probes}
    for indices, frames in batches:
        map_ = encode(frames)
        masks = [read_mask(index) for index in indices]
        for name, scores in probes.items():
            full = F.interpolate(scores(map_).float(), frames.shape[-2:], mode="bilinear", align_corners=False)
            for mask, labels in zip(masks, full.argmax(1).cpu().numpy(), strict=True):
                matrices[name] += confusion_matrix(
                    mask, labels, classes=count, k=count, ignore_index=classes.ignore_index
                )
    return matrices


def score_classes(matrix: np.ndarray, classes: ClassList) -> dict[str, Any]:
    """Figures of one matrix in percent: sections as in `metrics.json`, and IoU per class.

    Args:
        matrix: int64 (C, C), as `count_predictions` gives it.
        classes: The C classes.

    Raises:
        InputError: The matrix holds no pixel.
    """
    if not matrix.any():
        raise InputError(
            f"every scored pixel has the ignored id {classes.ignore_index}; check the masks of the scored split"
        )
    matched = Assignment("none", tuple(range(len(classes.names)))).apply(matrix)
    ious = zip(classes.names, per_class_iou(matched), strict=True)
    return {
        **score(matched, classes.kinds),
        "per_class": {name: float(iou) for name, iou in ious if np.isfinite(iou)},
    }
