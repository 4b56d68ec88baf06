"""What rises from the ground in the sample scenes: woods, trees and buildings."""

import numpy as np
from scipy import ndimage

from pipeline.data.scene_canvas import BUILDING, VEGETATION, Canvas, Ground, draw_polygon
from pipeline.data.scene_light import Colour, pick_colour
from pipeline.data.scene_noise import make_grid_noise
from pipeline.data.scene_textures import make_facade, make_foliage


def paint_treeline(
    rng: np.random.Generator, canvas: Canvas, base: float, height: float, clump: float, distance: float
) -> None:
    """Paint a wood or a wooded ridge across the whole picture.

    Args:
        rng: Source of the outline and the foliage.
        canvas: Canvas to paint on.
        base: Row on which the wood stands, canvas pixels.
        height: Mean height of the outline, canvas pixels.
        clump: Size of a clump of leaves, canvas pixels.
        distance: 0 near to 1 far.
    """
    rows = max(round(height * 1.6), 3)
    hill = make_grid_noise(rng, 1, canvas.width, (1, canvas.width * rng.uniform(0.25, 0.6)))[0]
    crowns = make_grid_noise(rng, 1, canvas.width, (1, clump * 1.6), octaves=2)[0]
    outline = height * (0.45 + 0.8 * hill) + clump * 0.9 * crowns
    region = np.arange(rows)[:, None] >= rows - outline[None, :]
    colour = make_foliage(rng, rows, canvas.width, clump, pick_colour(rng, "vegetation"), canvas.light.side)
    canvas.paint((base - rows, 0), region, colour, VEGETATION, distance)


def paint_tree(
    rng: np.random.Generator, canvas: Canvas, x: float, base: float, height: float, colour: Colour, distance: float
) -> None:
    """Paint a broad-leaved tree, a conifer, a poplar or a bush.

    Args:
        rng: Source of the kind and the outline.
        canvas: Canvas to paint on.
        x: Column of the trunk, canvas pixels.
        base: Row on which the tree stands.
        height: Height of the tree, canvas pixels.
        colour: Colour (3,) of the leaves.
        distance: 0 near to 1 far.
    """
    kind = rng.choice(["broad", "conifer", "poplar", "bush"], p=[0.5, 0.2, 0.1, 0.2])
    height = height * (0.45 if kind == "bush" else 1.0)
    slender = {"broad": 0.85, "conifer": 0.5, "poplar": 0.36, "bush": 1.7}[kind] * rng.uniform(0.85, 1.15)
    bare = {"broad": 0.25, "conifer": 0.1, "poplar": 0.1, "bush": 0.0}[kind]
    h, w = max(round(height * (1 - bare)), 4), max(round(height * slender), 4)
    if bare:
        trunk = np.ones((max(round(height * bare * 1.6), 1), max(round(height * 0.06), 1)), bool)
        canvas.paint(
            (base - trunk.shape[0], x - trunk.shape[1] / 2), trunk, np.array([0.24, 0.18, 0.13]), VEGETATION, distance
        )
    y = (np.arange(h)[:, None] + 0.5) / h * 2 - 1
    across = (np.arange(w)[None, :] + 0.5) / w * 2 - 1
    ragged = make_grid_noise(rng, h, w, (max(h * 0.24, 2), max(w * 0.24, 2)), octaves=3) - 0.5
    if kind == "conifer":
        tiers = 0.16 * ((y + 1) * 3.2 % 1)
        region = np.abs(across) + 0.35 * ragged < (y + 1) / 2 * 0.8 + tiers
    else:
        region = y**2 + across**2 + 1.3 * ragged < 0.8
    clump = float(np.clip(height * 0.13, 4.0 * canvas.unit, 11.0 * canvas.unit))
    colour = np.clip(colour + rng.normal(0, 0.025, 3), 0.05, 0.9)
    canvas.paint(
        (base - height, x - w / 2),
        region,
        make_foliage(rng, h, w, clump, colour, canvas.light.side),
        VEGETATION,
        distance,
    )


def paint_building(
    rng: np.random.Generator, canvas: Canvas, x: float, base: float, size: tuple[float, float], distance: float
) -> None:
    """Paint a house or block seen from the front, with a flat or a pitched roof.

    Args:
        rng: Source of the measures and colours.
        canvas: Canvas to paint on.
        x: Column of the left edge, canvas pixels.
        base: Row on which it stands.
        size: Height and width of the wall, canvas pixels.
        distance: 0 near to 1 far.
    """
    height, width = (max(round(side), 4) for side in size)
    # Distant facades keep at least 0.6 of the near scale: smaller windows would vanish in the picture.
    scale = canvas.unit * float(np.clip(1.15 - 0.7 * distance, 0.6, 1.15))
    across = np.broadcast_to(np.arange(width)[None, :] / scale, (height, width))
    down = np.broadcast_to(np.arange(height)[:, None] / scale, (height, width))
    wall = make_facade(rng, across, down, pick_colour(rng, "building"), canvas.light)
    edge = np.linspace(-0.1, 0.1, width)[None, :, None] * canvas.light.side
    canvas.paint(
        (base - height, x), np.ones((height, width), bool), np.clip(wall * (1 + edge), 0, 1), BUILDING, distance
    )
    tiles = pick_colour(rng, "roof")
    if rng.random() < 0.55:
        rise = max(round(min(width * 0.35, 20 * canvas.unit) * rng.uniform(0.6, 1.0)), 3)
        eaves = max(round(width * 0.06), 1)
        span = width + 2 * eaves
        rows, columns = np.arange(rise)[:, None] / scale, np.arange(span)[None, :] / scale
        course = np.floor(rows / 2.6)
        tile = 0.8 + 0.35 * (rows / 2.6 % 1) - 0.3 * ((columns / 3.4 + 0.5 * (course % 2)) % 1 < 0.25)
        ridge = 0.5 if rng.random() < 0.4 else 0.2
        region = draw_polygon(rise, span, [(0, 1), (ridge, 0), (1 - ridge, 0), (1, 1)])
        canvas.paint(
            (base - height - rise, x - eaves), region, np.clip(tiles * tile[..., None], 0, 1), BUILDING, distance
        )
    else:
        parapet = np.ones((max(round(2.5 * scale), 1), width), bool)
        canvas.paint((base - height - parapet.shape[0], x), parapet, tiles, BUILDING, distance)


def paint_street_wall(
    rng: np.random.Generator, canvas: Canvas, ground: Ground, side: int, edge: float, height: float
) -> None:
    """Paint the fronts along one side of a street that runs away from the viewer.

    Args:
        rng: Source of the houses.
        canvas: Canvas to paint on.
        ground: The ground plane.
        side: -1 for the left side, 1 for the right.
        edge: Distance of the fronts from the vanishing column at nearness 1, canvas pixels.
        height: Height of the fronts above the horizon at nearness 1, canvas pixels.
    """
    x = np.arange(canvas.width) + 0.5 - ground.vanishing_x
    near = np.where(x * side > 0, np.abs(x) / edge, 0.0)[None, :]  # (1, W)
    safe = np.maximum(near, 1e-3)
    ends = np.sort(rng.uniform(0.12, 0.9, int(rng.integers(2, 4))))[::-1]
    starts = np.concatenate([[9.0], ends])
    rows = np.arange(canvas.height)[:, None] + 0.5 - ground.horizon
    foot = near * (canvas.height - ground.horizon)
    for start, end in zip(starts, [*ends, 0.07], strict=True):
        top = height * rng.uniform(0.7, 1.25)
        region = (near <= start) & (near > end) & (rows < foot) & (rows > -near * top)
        if not region.any():
            continue
        box = ndimage.find_objects(region.astype(np.uint8))[0]
        # Depth runs with the logarithm of nearness, which keeps far windows wide enough to be seen.
        along = np.broadcast_to(42 * np.log(safe), region.shape)[box]
        down = ((rows / np.maximum(safe, 0.25) + top) / canvas.unit * 0.7)[box]
        colour = make_facade(rng, along, down, pick_colour(rng, "building"), canvas.light)
        lit = 1.08 if side != canvas.light.side else 0.8
        fade = np.broadcast_to(np.clip(0.8 - near, 0, 1), region.shape)[box]
        corner = (box[0].start, box[1].start)
        canvas.paint(corner, region[box], np.clip(colour * lit, 0, 1), BUILDING, fade)
