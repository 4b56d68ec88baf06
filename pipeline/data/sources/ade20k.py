"""ADE20K, scene parsing benchmark of 150 classes (Zhou et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.sources.listing import Findings, MaskFiles, SourceImage, first_folder, pair_masks, require_files
from pipeline.data.sources.protocol import Protocol, number_classes

LAYOUT = "images/{training,validation}/*.jpg, annotations/{training,validation}/*.png (also below ADEChallengeData2016)"
_CLASSES = (
    "wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, "
    "table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, "
    "armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, "
    "chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, "
    "case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, "
    "book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, "
    "hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane, "
    "dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, "
    "fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, "
    "minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, "
    "screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, "
    "monitor, bulletin board, shower, radiator, glass, clock, flag"
)

ADE20K = Protocol(
    name="ade20k-150",
    classes=tuple(_CLASSES.split(", ")),
    kinds=None,  # the benchmark does not divide its classes into things and stuff
    mask_ids=number_classes(1, 150, ignored=(0,)),
    note="150 classes by the first of their names; 0 (other) is ignored",
)


def recognises(root: Path) -> bool:
    """Whether a folder looks like this download, be it a part: images or annotations of any split.

    Images of `validation` alone count only beside annotations or below `ADEChallengeData2016`, as people name splits of
    their own so.
    """
    place = _inner(root)
    images, annotated = place / "images", mask_folder(root) is not None
    if not images.is_dir():
        return annotated
    named = annotated or place != root
    return (images / "training").is_dir() or (named and (images / "validation").is_dir())


def mask_folder(root: Path) -> Path | None:
    """The first folder of annotations in the download; None: it has none."""
    return first_folder(_inner(root) / "annotations", "training", "validation")


def list_images(root: Path, id_lists: str = "all", findings: Findings | None = None) -> list[SourceImage]:
    """List the training images as train and the validation images as val, with their masks.

    Args:
        root: The folder that holds `images` and `annotations`, or the one above it.
        id_lists: Not used.
        findings: Gets images without a mask, see `pair_masks`.

    Raises:
        InputError: The training images are missing, or an image lacks its mask.
    """
    place = _inner(root)
    found = []
    for split, name in (("train", "training"), ("val", "validation")):
        folder = place / "images" / name
        if split == "train" or folder.is_dir():
            images = require_files(folder, "*.jpg", ".jpg", LAYOUT)
            found += pair_masks(split, images, MaskFiles(place / "annotations" / name, "*.png", ".png"), findings)
    return found


def _inner(root: Path) -> Path:
    inner = root / "ADEChallengeData2016"
    return inner if inner.is_dir() else root
