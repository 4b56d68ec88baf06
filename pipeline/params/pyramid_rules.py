"""What must hold between the keys that say how pyramid pseudo labels guide the training."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.params.train import TrainParams


def find_pyramid_problems(train: TrainParams, levels: Sequence[int]) -> list[str]:
    """Problems of `train.pgg`, `train.warmup_epochs` and `train.rounds`.

    Args:
        train: Group `train`.
        levels: `extract.levels`.

    Returns:
        One line each with the key, the value and the mend.
    """
    pgg, problems = train.pgg, []
    if len(set(pgg.use)) < len(pgg.use):
        problems.append(f"train.pgg.use: {pgg.use} names a use twice; name each once")
    if pgg.levels != sorted(set(pgg.levels)):
        problems.append(f"train.pgg.levels: {pgg.levels} must ascend without repetition, as in [2, 4]")
    if absent := sorted(set(pgg.levels) - set(levels)):
        problems.append(
            f"train.pgg.levels: {absent[0]} is not in extract.levels {list(levels)}; choose from these, or [] for all"
        )
    used = pgg.levels or levels
    if pgg.level_weights and len(pgg.level_weights) != len(used):
        problems.append(
            f"train.pgg.level_weights: {pgg.level_weights} has {len(pgg.level_weights)} values for the {len(used)} "
            "levels in use; give one per level, or [] for equal ones"
        )
    if train.warmup_epochs and not pgg.has_loss:
        problems.append(
            "train.warmup_epochs: warm-up trains on pyramid labels only, so train.pgg.weight cannot be 0, and "
            "train.pgg.use must have classification or contrast"
        )
    if 0 < train.epochs == train.warmup_epochs and "prior" in pgg.use:
        problems.append(
            f"train.pgg.use: prior acts on the assignment of pixels, and with train.warmup_epochs "
            f"{train.warmup_epochs} of train.epochs {train.epochs} there is none; shorten the warm-up"
        )
    if pgg.recluster_every and not pgg.needs_labels:
        problems.append(
            f"train.pgg.recluster_every: {pgg.recluster_every} makes pyramid labels that nothing uses, as "
            "train.pgg.weight is 0; raise the weight, or set 0"
        )
    if 0 < train.epochs <= pgg.recluster_every:
        problems.append(
            f"train.pgg.recluster_every: {pgg.recluster_every} never comes in train.epochs {train.epochs}; give fewer, "
            "or 0 to keep the labels"
        )
    if train.rounds > 1 and not pgg.needs_labels:
        problems.append(
            f"train.rounds: {train.rounds} rounds differ in their pyramid labels, which nothing uses, as "
            "train.pgg.weight is 0; raise the weight, or set 1"
        )
    return problems
