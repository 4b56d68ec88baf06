"""What covers the ground in the sample scenes: water, fields and roads."""

import numpy as np

from pipeline.data.scene_canvas import FIELD, ROAD, WATER, Canvas, Ground
from pipeline.data.scene_light import Colour, pick_colour
from pipeline.data.scene_noise import Field, Region
from pipeline.data.scene_textures import make_asphalt, make_field, make_water


def _spread_nearness(canvas: Canvas, ground: Ground) -> Field:
    """Give each pixel's nearness, (H, W)."""
    return np.broadcast_to(np.clip(ground.grid[0], 0, 1), (canvas.height, canvas.width))


def paint_water(rng: np.random.Generator, canvas: Canvas, ground: Ground, region: Region, sky: Colour) -> None:
    """Paint water on a region of the ground.

    Args:
        rng: Source of the colour and the ripples.
        canvas: Canvas to paint on.
        ground: The ground plane.
        region: Pixels to paint (H, W), bool, none above the horizon.
        sky: Colour (3,) that the water mirrors.
    """
    picture = make_water(rng, ground, canvas.unit, pick_colour(rng, "water"), sky)
    canvas.paint((0, 0), region, picture, WATER, 0.6 * (1 - _spread_nearness(canvas, ground)))


def paint_field(rng: np.random.Generator, canvas: Canvas, ground: Ground, region: Region) -> None:
    """Paint a field on a region of the ground.

    Args:
        rng: Source of the colour and the rows.
        canvas: Canvas to paint on.
        ground: The ground plane.
        region: Pixels to paint (H, W), bool, none above the horizon.
    """
    picture = make_field(rng, ground, canvas.unit, pick_colour(rng, "field"))
    canvas.paint((0, 0), region, picture, FIELD, 0.8 * (1 - _spread_nearness(canvas, ground)))


def paint_road(
    rng: np.random.Generator, canvas: Canvas, ground: Ground, half: float, bend: float, offset: float = 0.0
) -> None:
    """Paint a road that runs from the viewer to the horizon, with edge lines and a dashed middle line.

    Args:
        rng: Source of the surface and the marks.
        canvas: Canvas to paint on.
        ground: The ground plane.
        half: Half of the width at nearness 1, canvas pixels.
        bend: Sideways swing in the middle distance, canvas pixels.
        offset: Column of the road's middle at nearness 1, relative to the vanishing column.
    """
    near, x = ground.grid  # (H, 1), (1, W)
    middle = offset * near + bend * near * (1 - near) * 4
    across = (x - middle) / np.maximum(half * near, 0.3)  # (H, W), -1 to 1 on the road
    region = (np.abs(across) <= 1) & (near > 0)
    colour = pick_colour(rng, "road")
    surface = make_asphalt(rng, canvas.height, canvas.width, canvas.unit, colour)
    run = np.log(np.maximum(near, 1e-3)) * rng.uniform(3.5, 5.5)
    width = np.maximum(0.035, 0.6 * canvas.unit / np.maximum(half * near, 0.3))
    marks = (np.abs(across) < width) & (run % 1 < 0.55)
    marks |= (np.abs(np.abs(across) - 0.9) < width * 0.8) & (rng.random() < 0.7)
    worn = 0.75 + 0.25 * rng.random()
    paint = np.array([0.9, 0.88, 0.8]) * worn if rng.random() < 0.8 else np.array([0.85, 0.68, 0.2])
    surface = np.where(marks[..., None], paint, surface)
    canvas.paint((0, 0), region, surface, ROAD, 0.7 * (1 - _spread_nearness(canvas, ground)))


def paint_cross_road(rng: np.random.Generator, canvas: Canvas, top: float, bottom: float) -> None:
    """Paint a road that crosses the picture from left to right.

    Args:
        rng: Source of the surface.
        canvas: Canvas to paint on.
        top: Upper row, canvas pixels.
        bottom: Lower row, canvas pixels.
    """
    height = max(round(bottom - top) + 1, 3)  # one more, so that rounding leaves no gap at the lower edge
    surface = make_asphalt(rng, height, canvas.width, canvas.unit, pick_colour(rng, "road"))
    y = np.arange(height)[:, None] / height
    x = np.arange(canvas.width)[None, :] / canvas.unit
    marks = (np.abs(y - 0.5) < 0.8 * canvas.unit / height) & ((x / 16 + rng.random()) % 1 < 0.55)
    if rng.random() < 0.35:
        start = rng.uniform(0.1, 0.8) * canvas.width / canvas.unit
        slanted = x - start + 6 * (y - 0.5)
        marks |= (slanted > 0) & (slanted < 26) & (slanted % 5.2 < 2.6) & (np.abs(y - 0.5) < 0.42)
    surface = np.where(marks[..., None], np.array([0.84, 0.83, 0.78]), surface)
    kerb = np.broadcast_to(y * height < 1.6 * canvas.unit, surface.shape[:2])
    surface = np.where(kerb[..., None], np.array([0.62, 0.61, 0.59]) * (1 - 0.3 * (x % 9 < 1))[..., None], surface)
    canvas.paint((top, 0), np.ones((height, canvas.width), bool), surface, ROAD, 0.1)
