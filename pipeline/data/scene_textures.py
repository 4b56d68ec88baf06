"""Textures of the stuff classes: each class is known by its structure, whatever its colour."""

import numpy as np

from pipeline.data.scene_canvas import Ground
from pipeline.data.scene_light import Colour, Light
from pipeline.data.scene_noise import Field, make_cells, make_grid_noise, sample_noise


def make_sky(rng: np.random.Generator, height: int, width: int, horizon: float, top: Colour, low: Colour) -> Field:
    """Make a sky: a smooth gradient with soft, flat-lying clouds.

    Args:
        rng: Source of the clouds.
        height: Rows, canvas pixels.
        width: Columns, canvas pixels.
        horizon: Row at which the gradient ends.
        top: Colour (3,) of the zenith.
        low: Colour (3,) of the horizon.

    Returns:
        Picture (height, width, 3), 0 to 1.
    """
    down = np.clip(np.arange(height) / max(horizon, 1.0), 0, 1)[:, None, None] ** rng.uniform(0.7, 1.6)
    sky = top * (1 - down) + low * down
    cell = height * rng.uniform(0.18, 0.32)
    noise = make_grid_noise(rng, height, width, (cell, cell * rng.uniform(1.6, 3.0)), octaves=4)
    cover = rng.uniform(0.45, 0.68)
    density = np.clip((noise - cover) / rng.uniform(0.08, 0.2) + 0.3, 0, 1)[..., None]
    lower_side = np.clip((noise - np.roll(noise, round(cell / 4), axis=0)) * 2.5, -0.25, 0.12)[..., None]
    cloud = np.clip(0.35 * low + 0.65 * rng.uniform(0.55, 0.95) + lower_side, 0, 1)
    return sky + (cloud - sky) * density * rng.uniform(0.3, 0.9)


def make_foliage(rng: np.random.Generator, height: int, width: int, clump: float, colour: Colour, side: int) -> Field:
    """Make foliage: rounded clumps lit from above, cut by dark gaps and covered with leaves.

    Args:
        rng: Source of the clumps.
        height: Rows, canvas pixels.
        width: Columns, canvas pixels.
        clump: Size of a clump, canvas pixels.
        colour: Mean colour (3,).
        side: -1 where the light comes from the left, 1 from the right.

    Returns:
        Picture (height, width, 3), 0 to 1.
    """
    gap, below, tone = make_cells(rng, height, width, clump)
    leaf_gap, _, leaf_tone = make_cells(rng, height, width, clump * 0.3)
    across = np.linspace(-1, 1, width)[None, :] * side
    value = 1.15 - 0.5 * np.clip(gap, 0, 1) ** 2 - 0.4 * below + 0.25 * (tone - 0.5) + 0.08 * across
    # Leaves break the clumps' smooth shading, without which foliage looks like a heap of stones.
    value = value + 0.8 * (leaf_tone - 0.5) - 0.6 * np.clip(leaf_gap - 0.4, 0, 1)
    hue = (tone - 0.5)[..., None] * np.array([0.10, 0.02, -0.06])
    return np.clip(colour * np.clip(value, 0.18, 1.7)[..., None] + hue, 0, 1)


def make_water(rng: np.random.Generator, ground: Ground, unit: float, colour: Colour, sky: Colour) -> Field:
    """Make water: flat ripples that widen towards the viewer, over a mirrored sky.

    Args:
        rng: Source of the ripples.
        ground: The ground plane.
        unit: Canvas pixels per unit of length.
        colour: Colour (3,) of the water from above.
        sky: Colour (3,) mirrored at a flat angle.

    Returns:
        Picture (H, W, 3), 0 to 1; only rows below the horizon carry meaning.
    """
    near, x = ground.grid
    depth = ground.height - ground.horizon
    small, growth = 1.5 * unit, rng.uniform(2.5, 4.5) * unit
    # The wavelength is small + growth * near, so that ripples stay visible up to the far shore.
    phase = depth / growth * np.log(small + growth * near)
    stretch = rng.uniform(4.0, 6.5)
    wave = sample_noise(rng, phase, x / (stretch * (small + growth * near)), octaves=2)
    crest = 1 - np.abs(2 * wave - 1) * 2.2  # thin bright lines along the noise's middle level
    swell = sample_noise(rng, phase / 5, x / (9 * (small + growth * near)))
    value = rng.uniform(0.12, 0.24) * crest + 0.22 * (swell - 0.5)
    mirror = (rng.uniform(0.35, 0.75) * (1 - near) ** 1.5)[..., None]
    base = colour * (1 - mirror) + sky * 0.92 * mirror
    return np.clip(base * (1 + value[..., None]) + 0.25 * np.clip(value - 0.12, 0, 1)[..., None], 0, 1)


def make_asphalt(rng: np.random.Generator, height: int, width: int, unit: float, colour: Colour) -> Field:
    """Make a road's surface: fine dark and bright grit with smooth worn patches.

    Args:
        rng: Source of the grit.
        height: Rows, canvas pixels.
        width: Columns, canvas pixels.
        unit: Canvas pixels per unit of length.
        colour: Mean colour (3,).

    Returns:
        Picture (height, width, 3), 0 to 1.
    """
    grit = make_grid_noise(rng, height, width, (1.1 * unit, 1.1 * unit)) - 0.5
    grit = np.sign(grit) * np.abs(2 * grit) ** 1.5
    patches = make_grid_noise(rng, height, width, (16 * unit, 24 * unit), octaves=2) - 0.5
    value = 1 + rng.uniform(0.3, 0.5) * grit + 0.22 * patches
    return np.clip(colour * value[..., None], 0, 1)


def make_field(rng: np.random.Generator, ground: Ground, unit: float, colour: Colour) -> Field:
    """Make a field: crop rows or furrows that run towards a vanishing point.

    Args:
        rng: Source of the rows.
        ground: The ground plane; the rows meet to the left or right of its vanishing point.
        unit: Canvas pixels per unit of length.
        colour: Mean colour (3,).

    Returns:
        Picture (H, W, 3), 0 to 1; only rows below the horizon carry meaning.
    """
    near, x = ground.grid
    shifted = x + rng.uniform(-0.9, 0.9) * ground.width * (1 - near)
    spacing = rng.uniform(6.0, 11.0) * unit
    # Rows converge, but never to less than a third of their spacing, so that they show far away as well.
    phase = shifted / (spacing * (0.34 + 0.66 * near))
    wobble = sample_noise(rng, near * 14, phase / 3) - 0.5
    ridge = np.sin(2 * np.pi * phase + 1.5 * wobble)
    tufts = sample_noise(rng, near * 60 / (0.4 + near), phase * 3.0) - 0.5
    value = 1 + rng.uniform(0.24, 0.36) * ridge + 0.5 * tufts * (ridge > -0.3)
    hue = np.clip(ridge, 0, 1)[..., None] * rng.uniform(-0.05, 0.05, 3)
    return np.clip(colour * value[..., None] + hue, 0, 1)


def make_facade(rng: np.random.Generator, across: Field, down: Field, colour: Colour, light: Light) -> Field:
    """Make a facade: courses of brick and a grid of framed windows.

    Args:
        rng: Source of the measures.
        across: Horizontal place on the wall in units of length, (h, w).
        down: Place below the eaves in units of length, (h, w).
        colour: Colour (3,) of the wall.
        light: The light; at dusk some windows are lit.

    Returns:
        Picture (h, w, 3), 0 to 1.
    """
    course_height = rng.uniform(2.4, 3.4)
    course = np.floor(down / course_height)
    along = across / (course_height * 2.2) + 0.5 * (course % 2)
    joint = (down / course_height % 1 < 0.3) | (along % 1 < 0.16)
    brick_tone = np.modf(np.abs(np.sin(np.floor(along) * 12.9898 + course * 78.233)) * 437.585)[0]
    mortar = rng.choice([0.68, 0.76, 1.26])
    wall = colour * np.where(joint, mortar, 0.9 + 0.24 * brick_tone)[..., None]

    period_x, period_y = rng.uniform(8, 13), rng.uniform(10, 15)
    share_x, share_y = rng.uniform(0.4, 0.6), rng.uniform(0.5, 0.66)
    cell_x, cell_y = across / period_x % 1, down / period_y % 1
    off_x, off_y = np.abs(cell_x - 0.5) / (share_x / 2), np.abs(cell_y - 0.52) / (share_y / 2)
    frame, pane = (off_x < 1) & (off_y < 1), (off_x < 0.72) & (off_y < 0.78)
    bars = (off_x < 0.14) | (np.abs(cell_y - 0.45) < 0.03)
    number = np.floor(across / period_x) * 7.13 + np.floor(down / period_y) * 3.71
    tone = np.modf(np.abs(np.sin(number * 12.9898)) * 437.585)[0]
    lamp = (tone < (0.45 if light.dusk else 0.06))[..., None]
    glass = light.haze_colour * (0.25 + 0.35 * tone * (1.2 - cell_y))[..., None]
    glass = np.where(lamp, np.array([1.0, 0.86, 0.5]), glass)
    trim = np.clip(colour * rng.choice([0.6, 1.45]) + 0.06, 0, 1)
    wall = np.where(frame[..., None], trim, wall)
    return np.clip(np.where((pane & ~bars)[..., None], glass, wall), 0, 1)
