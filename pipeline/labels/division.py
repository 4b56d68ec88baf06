"""Which labelled images are learnt from, and which are scored."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.errors import InputError
from pipeline.evaluation.truth import GroundTruth
from pipeline.runtime.randomness import generator

SET_ASIDE = 0.2  # of the labelled train images, where no other split has masks


@dataclass(frozen=True)
class Division:
    """Labelled images that share no row.

    Attributes:
        truth: The masks.
        learnt: Images of split train.
        scored: Images that are only scored.
        split: What the scored images are, in words.
    """

    truth: GroundTruth
    learnt: list[ImageRow]
    scored: list[ImageRow]
    split: str


def divide_labelled(table: ImageTable, truth: GroundTruth | None, seed: int) -> Division:
    """Learn from the labelled train images, score those of the scored split.

    Args:
        table: All images.
        truth: The masks and the scored split. Where that is train, a fifth of its images is set aside for scoring.
        seed: Chooses the images set aside.

    Returns:
        Both lists, each in the table's order and not empty.

    Raises:
        InputError: There are no masks, or too few of split train, or train is one of several scored splits.
    """
    if truth is None:
        raise InputError("no masks were found, and this stage learns from them; see data/raw/README.md for their place")
    learnt = [row for row in table.select("train") if truth.has(row.image_id)]
    if not learnt:
        raise InputError(
            "split train has no masks to learn from; put some into masks/train beside images/train, or switch the "
            "stage off in group optional"
        )
    if truth.split != "train":
        if "train" in truth.splits:
            raise InputError(
                f"split {truth.split!r} would be learnt from and scored at once; in group probe or finetune name "
                "splits other than train, or train alone, a part of which is then set aside"
            )
        scored = [row for row in table.select(None) if row.split in truth.splits and truth.has(row.image_id)]
        return Division(truth, learnt, scored, truth.split)
    if len(learnt) < 2:
        raise InputError("one labelled image cannot be both learnt from and scored; label a second one")
    count = max(1, round(SET_ASIDE * len(learnt)))
    aside = set(generator(seed, "labels/aside").choice(len(learnt), count, replace=False).tolist())
    return Division(
        truth,
        [row for place, row in enumerate(learnt) if place not in aside],
        [row for place, row in enumerate(learnt) if place in aside],
        f"{count} images of train, set aside",
    )
