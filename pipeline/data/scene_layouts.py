"""The layouts of the sample scenes: which parts stand where."""

from collections.abc import Callable

import numpy as np

from pipeline.data.scene_canvas import SKY, Canvas, Ground
from pipeline.data.scene_ground import paint_cross_road, paint_field, paint_road, paint_water
from pipeline.data.scene_light import Colour, pick_colour
from pipeline.data.scene_noise import make_grid_noise
from pipeline.data.scene_textures import make_sky
from pipeline.data.scene_things import paint_balloon, paint_boat, paint_car_rear, paint_car_side
from pipeline.data.scene_upright import paint_building, paint_street_wall, paint_tree, paint_treeline


def _paint_sky(rng: np.random.Generator, canvas: Canvas, horizon: float, low: Colour, balloons: float) -> None:
    """Paint the sky, and up to three balloons with the given probability."""
    top = pick_colour(rng, "sky_top")
    sky = make_sky(rng, canvas.height, canvas.width, horizon, top, low)
    canvas.paint((0, 0), np.ones(sky.shape[:2], bool), sky, SKY)
    if rng.random() < balloons:
        for width in sorted(rng.uniform(24, 72, int(rng.integers(1, 4)))):
            x = rng.uniform(0.05, 0.95) * canvas.width
            y = rng.uniform(-0.15, 0.6) * max(horizon - width * canvas.unit, 4)
            paint_balloon(rng, canvas, x, y, width * canvas.unit, float(np.clip(0.9 - width / 70, 0, 1)))


def _paint_backdrop(rng: np.random.Generator, canvas: Canvas, base: float, town: float) -> None:
    """Paint what closes the view at the horizon: hills, a wood, and with the given probability a town."""
    unit = canvas.unit
    if rng.random() < 0.6:
        paint_treeline(rng, canvas, base + unit, rng.uniform(8, 22) * unit, 3.5 * unit, 0.9)
    if rng.random() < town:
        x = rng.uniform(-0.1, 0.4) * canvas.width
        while x < canvas.width * rng.uniform(0.6, 1.1):
            width = rng.uniform(14, 34) * unit
            paint_building(rng, canvas, x, base + unit, (rng.uniform(10, 34) * unit, width), 0.6)
            x += width * rng.uniform(0.9, 1.4)
    if rng.random() < 0.6:
        paint_treeline(rng, canvas, base + 2 * unit, rng.uniform(3, 9) * unit, 4 * unit, 0.6)


def _paint_trees(
    rng: np.random.Generator,
    canvas: Canvas,
    ground: Ground,
    count: int,
    nearness: tuple[float, float],
    gap: float,
    spread: float,
) -> None:
    """Paint trees from far to near, between ``gap`` and ``gap + spread`` from the vanishing column."""
    species = [pick_colour(rng, "vegetation") for _ in range(2)]
    for near in np.sort(rng.uniform(*nearness, count)):
        base = ground.horizon + near * (ground.height - ground.horizon)
        away = gap * near + 4 * canvas.unit + rng.random() * spread * max(near, 0.4)
        x = ground.vanishing_x + float(rng.choice([-1, 1])) * away
        height = (14 + 85 * near) * canvas.unit * rng.uniform(0.7, 1.2)
        paint_tree(rng, canvas, x, base, height, species[int(rng.integers(2))], float(0.6 * (1 - near)))


def _paint_traffic(
    rng: np.random.Generator, canvas: Canvas, ground: Ground, half: float, bend: float, offset: float = 0.0
) -> None:
    """Paint cars on a road that runs to the horizon, each in its lane, from far to near."""
    for near in np.sort(rng.uniform(0.25, 0.98, int(rng.integers(2, 5)))):
        lane = (float(rng.choice([-0.5, 0.5])) * half + offset) * near
        x = ground.vanishing_x + bend * near * (1 - near) * 4 + lane
        base = ground.horizon + near * (ground.height - ground.horizon)
        paint_car_rear(rng, canvas, x, base, min(half * 0.95 * near, 64 * canvas.unit), float(0.6 * (1 - near)))


def _draw_ground(rng: np.random.Generator, canvas: Canvas, low: float, high: float) -> Ground:
    """Draw a ground plane whose horizon lies between two shares of the height."""
    horizon = rng.uniform(low, high) * canvas.height
    return Ground(horizon, rng.uniform(0.2, 0.8) * canvas.width, canvas.height, canvas.width)


def paint_country_road(rng: np.random.Generator, canvas: Canvas, low: Colour) -> None:
    """Paint a road through fields or along water, with trees, houses and cars.

    Args:
        rng: Source of the layout and its parts.
        canvas: An empty canvas.
        low: Colour (3,) of the sky at the horizon.
    """
    ground = _draw_ground(rng, canvas, 0.1, 0.58)
    _paint_sky(rng, canvas, ground.horizon, low, 0.6)
    _paint_backdrop(rng, canvas, ground.horizon, 0.35)
    near, x = ground.grid
    below = np.broadcast_to(near > 0, (canvas.height, canvas.width))
    paint_field(rng, canvas, ground, below)
    half, bend = rng.uniform(36, 80) * canvas.unit, rng.uniform(-40, 40) * canvas.unit
    if rng.random() < 0.5:
        paint_field(rng, canvas, ground, below & (x > bend * near))
    if rng.random() < 0.35:
        shore = half * near * 1.25 + 6 * canvas.unit
        paint_water(rng, canvas, ground, below & (x * float(rng.choice([-1, 1])) > shore + abs(bend) * near), low)
    paint_road(rng, canvas, ground, half, bend)
    place = 0.06
    if rng.random() < 0.5:
        place = rng.uniform(0.08, 0.25)
        base = ground.horizon + place * (canvas.height - ground.horizon)
        left = rng.random() < 0.5
        size = (rng.uniform(20, 40) * canvas.unit, rng.uniform(28, 60) * canvas.unit)
        away = half * place + abs(bend) * place * (1 - place) * 4 + 5 * canvas.unit
        start = ground.vanishing_x - away - size[1] if left else ground.vanishing_x + away
        paint_building(rng, canvas, start, base, size, 0.4)
    _paint_trees(rng, canvas, ground, int(rng.integers(3, 8)), (place, 0.75), half + abs(bend), canvas.width * 0.7)
    _paint_traffic(rng, canvas, ground, half, bend)


def paint_lake(rng: np.random.Generator, canvas: Canvas, low: Colour) -> None:
    """Paint a lake with boats, a far shore, and sometimes a near shore of field or road.

    Args:
        rng: Source of the layout and its parts.
        canvas: An empty canvas.
        low: Colour (3,) of the sky at the horizon.
    """
    ground = _draw_ground(rng, canvas, 0.1, 0.55)
    _paint_sky(rng, canvas, ground.horizon, low, 0.5)
    _paint_backdrop(rng, canvas, ground.horizon, 0.45)
    below = np.broadcast_to(ground.grid[0] > 0, (canvas.height, canvas.width))
    paint_water(rng, canvas, ground, below, low)
    shore = rng.choice(["none", "field", "road"], p=[0.25, 0.4, 0.35])
    edge = canvas.height * (1.0 if shore == "none" else rng.uniform(0.68, 0.85))
    for near in np.sort(rng.uniform(0.08, 0.75, int(rng.integers(3, 7)))):
        base = ground.horizon + near * (edge - ground.horizon)
        length = (20 + 66 * near) * canvas.unit * rng.uniform(0.8, 1.25)
        paint_boat(rng, canvas, rng.uniform(0, 1) * canvas.width, base, length, float(0.6 * (1 - near)))
    if shore == "field":
        line = edge + 16 * canvas.unit * (make_grid_noise(rng, 1, canvas.width, (1, canvas.width / 3))[0] - 0.5)
        paint_field(rng, canvas, ground, np.arange(canvas.height)[:, None] > line[None, :])
    elif shore == "road":
        paint_cross_road(rng, canvas, edge, canvas.height)
        for _ in range(int(rng.integers(0, 3))):
            base = rng.uniform(edge + 8 * canvas.unit, canvas.height)
            paint_car_side(rng, canvas, rng.uniform(0, 1) * canvas.width, base, rng.uniform(40, 72) * canvas.unit, 0)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            x = canvas.width * float(rng.choice([rng.uniform(-0.05, 0.2), rng.uniform(0.8, 1.05)]))
            height = rng.uniform(45, 110) * canvas.unit
            base = canvas.height * rng.uniform(0.85, 1.1)
            paint_tree(rng, canvas, x, base, height, pick_colour(rng, "vegetation"), 0.0)


def paint_street(rng: np.random.Generator, canvas: Canvas, low: Colour) -> None:
    """Paint a street between two rows of fronts, with traffic and street trees.

    Args:
        rng: Source of the layout and its parts.
        canvas: An empty canvas.
        low: Colour (3,) of the sky at the horizon.
    """
    ground = _draw_ground(rng, canvas, 0.25, 0.6)
    _paint_sky(rng, canvas, ground.horizon, low, 0.45)
    _paint_backdrop(rng, canvas, ground.horizon + 2 * canvas.unit, 0.6)
    below = np.broadcast_to(ground.grid[0] > 0, (canvas.height, canvas.width))
    half = rng.uniform(50, 90) * canvas.unit
    if rng.random() < 0.3:
        paint_water(rng, canvas, ground, below, low)
        lanes, offset = half * 0.5, float(rng.choice([-0.5, 0.5])) * half
    else:
        paint_field(rng, canvas, ground, below)
        lanes, offset = half, 0.0
    paint_road(rng, canvas, ground, lanes, 0.0, offset)
    for side in (-1, 1):
        if rng.random() < 0.8:
            edge = half * rng.uniform(1.05, 1.35)
            paint_street_wall(rng, canvas, ground, side, edge, rng.uniform(60, 170) * canvas.unit)
    _paint_trees(rng, canvas, ground, int(rng.integers(1, 6)), (0.1, 0.6), half, 3 * canvas.unit)
    _paint_traffic(rng, canvas, ground, lanes, 0.0, offset)


def paint_town_front(rng: np.random.Generator, canvas: Canvas, low: Colour) -> None:
    """Paint a row of houses across the picture behind a road or a canal.

    Args:
        rng: Source of the layout and its parts.
        canvas: An empty canvas.
        low: Colour (3,) of the sky at the horizon.
    """
    ground = _draw_ground(rng, canvas, 0.45, 0.7)
    unit, foot = canvas.unit, ground.horizon
    _paint_sky(rng, canvas, foot * 0.8, low, 0.5)
    _paint_backdrop(rng, canvas, foot, 0.3)
    x = rng.uniform(-0.1, 0.3) * canvas.width
    tall = rng.uniform(0.4, 1.0) * foot
    while x < canvas.width:
        width = rng.uniform(22, 55) * unit
        if rng.random() < 0.85:
            paint_building(rng, canvas, x, foot, (tall * rng.uniform(0.55, 1.1), width), 0.2)
        x += width * rng.uniform(1.0, 1.15)
    species = pick_colour(rng, "vegetation")
    for _ in range(int(rng.integers(0, 4))):
        x, height = rng.random() * canvas.width, rng.uniform(24, 60) * unit
        paint_tree(rng, canvas, x, foot + 2 * unit, height, species, 0.15)
    canal = rng.random() < 0.5
    middle = foot + (canvas.height - foot) * rng.uniform(0.35, 0.6)
    first = middle if canal else foot
    if canal:
        below = np.broadcast_to(ground.grid[0] > 0, (canvas.height, canvas.width))
        paint_water(rng, canvas, ground, below, low)
        for near in np.sort(rng.uniform(0.3, 1.0, int(rng.integers(2, 5)))):
            base = foot + near * (middle - foot)
            paint_boat(rng, canvas, rng.random() * canvas.width, base, rng.uniform(36, 72) * unit, 0.15)
    paint_cross_road(rng, canvas, first, canvas.height)
    for near in np.sort(rng.uniform(0.15, 1.0, int(rng.integers(1, 4)))):
        base = first + near * (canvas.height - first)
        paint_car_side(rng, canvas, rng.random() * canvas.width, base, rng.uniform(38, 72) * unit, 0.05)


def paint_farmland(rng: np.random.Generator, canvas: Canvas, low: Colour) -> None:
    """Paint fields, woods and ponds seen from a rise, with the horizon high or out of the picture.

    Args:
        rng: Source of the layout and its parts.
        canvas: An empty canvas.
        low: Colour (3,) of the sky at the horizon.
    """
    ground = _draw_ground(rng, canvas, -0.1, 0.4)
    _paint_sky(rng, canvas, max(ground.horizon, 1.0), low, 0.6)
    _paint_backdrop(rng, canvas, ground.horizon, 0.2)
    near, x = ground.grid
    paint_field(rng, canvas, ground, np.broadcast_to(near > 0, (canvas.height, canvas.width)))
    paint_field(rng, canvas, ground, (near > 0) & (x > rng.uniform(-30, 30) * canvas.unit * near))
    pond = make_grid_noise(rng, canvas.height, canvas.width, (canvas.height / 5, canvas.width / 3))
    paint_water(rng, canvas, ground, (near > 0.12) & (pond > rng.uniform(0.5, 0.7)), low)
    if rng.random() < 0.6:
        top = max(ground.horizon, 0) + rng.uniform(0.15, 0.6) * (canvas.height - max(ground.horizon, 0))
        paint_cross_road(rng, canvas, top, top + rng.uniform(10, 20) * canvas.unit)
        paint_car_side(rng, canvas, rng.random() * canvas.width, top + 9 * canvas.unit, 20 * canvas.unit, 0.2)
    for line in np.sort(rng.uniform(0.2, 1.0, int(rng.integers(0, 3)))):
        base = ground.horizon + line * (canvas.height - ground.horizon)
        paint_treeline(rng, canvas, base, (6 + 20 * line) * canvas.unit, (4 + 5 * line) * canvas.unit, 0.6 * (1 - line))
    _paint_trees(rng, canvas, ground, int(rng.integers(4, 9)), (0.08, 0.95), 0.0, canvas.width * 0.7)


Layout = Callable[[np.random.Generator, Canvas, Colour], None]

# Layouts and their probabilities, which sum to 1.
LAYOUTS: tuple[tuple[Layout, float], ...] = (
    (paint_country_road, 0.24),
    (paint_lake, 0.24),
    (paint_street, 0.22),
    (paint_town_front, 0.18),
    (paint_farmland, 0.12),
)
