"""What must hold between the keys that say which backbone there is, and what it starts from."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.params.pretrain import PretrainParams
from pipeline.params.types import NO_CHECKPOINT


def find_backbone_problems(pretrain: PretrainParams, source: str) -> list[str]:
    """Problems of `pretrain.backbone`, `pretrain.checkpoint` and what depends on them.

    Args:
        pretrain: Group `pretrain`.
        source: `extract.source`.

    Returns:
        One line each with the key, the value and the mend.
    """
    problems = []
    backbone, checkpoint = pretrain.backbone, pretrain.checkpoint
    if backbone.startswith("vit") and source in ("res4", "res5"):
        problems.append(f"extract.source: {source} is no map of {backbone}, which has one only; give last or decoder")
    place = Path(os.path.normpath(checkpoint))
    leaves = not place.is_absolute() and place.parts[:1] == (os.pardir,)
    if leaves or checkpoint.startswith("~") or not checkpoint.strip():
        problems.append(
            f"pretrain.checkpoint: {checkpoint!r} is neither absolute nor inside the project; give the absolute path "
            "of the file"
        )
    if pretrain.method == "checkpoint" and checkpoint == NO_CHECKPOINT:
        problems.append(
            f"pretrain.method: checkpoint takes its weights from pretrain.checkpoint, and {NO_CHECKPOINT} stands for "
            "none; give the path of a file of weights"
        )
    if pretrain.method == "none" and checkpoint != NO_CHECKPOINT:
        problems.append(
            f"pretrain.checkpoint: {checkpoint} is not read by pretrain.method none, the control with random weights; "
            f"set the method to checkpoint, or pretrain.checkpoint to {NO_CHECKPOINT}"
        )
    if pretrain.allow_supervised_init and checkpoint == NO_CHECKPOINT:
        problems.append(
            "pretrain.allow_supervised_init: true is about the weights of pretrain.checkpoint, and there are none; set "
            "false"
        )
    return problems
