"""The generated sample set: street, lake and country scenes with exact masks.

The classes differ by texture and structure. Their colours vary from picture to picture and overlap, so that
clustering colours finds little and features must be learnt.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.scene_canvas import (
    BALLOON,
    BOAT,
    BUILDING,
    CAR,
    FIELD,
    ROAD,
    SKY,
    VEGETATION,
    WATER,
    Canvas,
    reduce_canvas,
)
from pipeline.data.scene_layouts import LAYOUTS
from pipeline.data.scene_light import draw_light, expose, pick_colour
from pipeline.errors import ParamsError
from pipeline.runtime.randomness import generator

CLASSES: tuple[dict[str, Any], ...] = (
    {"id": SKY, "name": "sky", "kind": "stuff"},
    {"id": VEGETATION, "name": "vegetation", "kind": "stuff"},
    {"id": WATER, "name": "water", "kind": "stuff"},
    {"id": ROAD, "name": "road", "kind": "stuff"},
    {"id": BUILDING, "name": "building", "kind": "stuff"},
    {"id": FIELD, "name": "field", "kind": "stuff"},
    {"id": CAR, "name": "car", "kind": "thing"},
    {"id": BOAT, "name": "boat", "kind": "thing"},
    {"id": BALLOON, "name": "balloon", "kind": "thing"},
)
IGNORE_INDEX = 255
SUPERSAMPLING = 2
SMALLEST_SIDE = 32


def render_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one scene and its mask.

    Args:
        rng: Source of everything in the scene.
        height: Rows, pixels.
        width: Columns, pixels.

    Returns:
        Picture (height, width, 3), uint8, and mask (height, width), uint8, of class ids.
    """
    low = pick_colour(rng, "sky_low")
    canvas = Canvas(height * SUPERSAMPLING, width * SUPERSAMPLING, draw_light(rng, low))
    shares = np.array([share for _, share in LAYOUTS])
    paint, _ = LAYOUTS[int(rng.choice(len(LAYOUTS), p=shares))]
    paint(rng, canvas, low)
    image, mask = reduce_canvas(canvas, SUPERSAMPLING)
    image = expose(rng, image, canvas.light)
    return np.round(image * 255).astype(np.uint8), mask


def generate_scenes(root: Path, *, train: int, val: int, height: int, width: int, seed: int) -> None:
    """Write the sample set as an input folder: pictures, masks and class names.

    Files of the same names are overwritten; others that lie in the folder stay.

    Args:
        root: Folder to write to; made if it does not exist.
        train: Number of pictures in the split ``train``.
        val: Number of pictures in the split ``val``.
        height: Rows of each picture, pixels, at least 32.
        width: Columns of each picture, pixels, at least 32.
        seed: Seed of the set, not negative. A picture depends on the seed, its split and its number only.

    Raises:
        ParamsError: If a number lies outside its range.
    """
    limits = {"train": (train, 0), "val": (val, 0), "seed": (seed, 0)}
    limits |= {"height": (height, SMALLEST_SIDE), "width": (width, SMALLEST_SIDE)}
    for key, (value, least) in limits.items():
        if value < least:
            raise ParamsError(f"The sample set's {key} is {value}; set it to {least} or more.")
    for split, count in (("train", train), ("val", val)):
        images, masks = root / "images" / split, root / "masks" / split
        images.mkdir(parents=True, exist_ok=True)
        masks.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = render_scene(generator(seed, f"scenes/{split}", index), height, width)
            Image.fromarray(image).save(images / f"{index:04d}.png", compress_level=6)
            Image.fromarray(mask).save(masks / f"{index:04d}.png", compress_level=6)
    description = {"name": "scenes", "ignore_index": IGNORE_INDEX, "classes": list(CLASSES)}
    (root / "classes.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
