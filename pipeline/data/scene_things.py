"""The things of the sample scenes: cars, boats and balloons."""

import numpy as np

from pipeline.data.scene_canvas import BALLOON, BOAT, CAR, Canvas, draw_ellipse, draw_polygon
from pipeline.data.scene_light import pick_colour
from pipeline.data.scene_noise import Field

TYRE = np.array([0.07, 0.07, 0.08])
METAL = np.array([0.72, 0.73, 0.75])
LAMP_RED = np.array([0.85, 0.12, 0.1])
LAMP_WHITE = np.array([1.0, 0.96, 0.8])


def _shine(height: int, width: int, side: int) -> Field:
    """Give a glossy body's brightness (h, w, 1): bright shoulder, dark sill, lit from one side."""
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None, :] * side
    return (1.12 - 0.5 * y + 0.35 * np.exp(-(((y - 0.42) / 0.07) ** 2)) + 0.12 * x)[..., None]


def paint_car_side(
    rng: np.random.Generator, canvas: Canvas, x: float, base: float, length: float, distance: float
) -> None:
    """Paint a car seen from its side.

    Args:
        rng: Source of the model and the paint.
        canvas: Canvas to paint on.
        x: Column of the middle, canvas pixels.
        base: Row on which the wheels stand.
        length: Length of the car, canvas pixels.
        distance: 0 near to 1 far.
    """
    width, height = max(round(length), 6), max(round(length * rng.uniform(0.36, 0.46)), 4)
    corner = (base - height, x - width / 2)
    nose, back = rng.uniform(0.2, 0.32), rng.uniform(0.8, 0.97)
    body = [(0.0, 0.56), (0.06, 0.48), (nose, 0.43), (nose + 0.14, 0.04), (back - 0.12, 0.02), (back, 0.42)]
    body += [(0.99, 0.5), (1.0, 0.84), (0.0, 0.84)]
    glass = [(nose + 0.05, 0.42), (nose + 0.16, 0.11), (back - 0.14, 0.1), (back - 0.05, 0.42)]
    mirrored = rng.random() < 0.5

    def turn(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(1 - px, py) for px, py in points] if mirrored else points

    shadow = draw_ellipse(height, width, (0.5, 0.97), (0.52, 0.1))
    canvas.shade((base - height + 0.04 * height, x - width / 2), shadow, 0.5)
    colour = np.clip(pick_colour(rng, "paint") * _shine(height, width, canvas.light.side), 0, 1)
    canvas.paint(corner, draw_polygon(height, width, turn(body)), colour, CAR, distance)
    panes = draw_polygon(height, width, turn(glass))
    post = round(width * ((1 - nose - 0.42) if mirrored else nose + 0.36))
    panes[:, post : post + max(width // 28, 1)] = False
    tint = np.linspace(0.75, 0.25, height)[:, None, None] * canvas.light.haze_colour
    canvas.paint(corner, panes, np.broadcast_to(tint, (height, width, 3)), CAR, distance)
    for centre in (0.2, 0.8):
        for radius, hub in ((0.22, TYRE), (0.12, METAL), (0.04, TYRE)):
            wheel = draw_ellipse(height, width, (centre, 0.78), (radius * height / width, radius))
            canvas.paint(corner, wheel, hub, CAR, distance)
    for end, lamp in ((0.03, LAMP_WHITE), (0.97, LAMP_RED)):
        spot = draw_ellipse(height, width, (1 - end if mirrored else end, 0.58), (0.03, 0.06))
        canvas.paint(corner, spot, lamp, CAR, distance)


def paint_car_rear(
    rng: np.random.Generator, canvas: Canvas, x: float, base: float, width: float, distance: float
) -> None:
    """Paint a car seen from behind or in front.

    Args:
        rng: Source of the model and the paint.
        canvas: Canvas to paint on.
        x: Column of the middle, canvas pixels.
        base: Row on which the wheels stand.
        width: Width of the car, canvas pixels.
        distance: 0 near to 1 far.
    """
    w, h = max(round(width), 5), max(round(width * rng.uniform(0.72, 0.95)), 4)
    corner = (base - h, x - w / 2)
    body = [(0.16, 0.4), (0.26, 0.04), (0.74, 0.04), (0.84, 0.4), (0.99, 0.48), (1.0, 0.84), (0.0, 0.84)]
    body += [(0.01, 0.48)]
    shadow = draw_ellipse(h, w, (0.5, 0.97), (0.54, 0.1))
    canvas.shade((base - h + 0.04 * h, x - w / 2), shadow, 0.5)
    for left in (0.06, 0.74):
        tyre = [(left, 0.7), (left + 0.2, 0.7), (left + 0.2, 0.99), (left, 0.99)]
        canvas.paint(corner, draw_polygon(h, w, tyre), TYRE, CAR, distance)
    colour = np.clip(pick_colour(rng, "paint") * _shine(h, w, canvas.light.side), 0, 1)
    canvas.paint(corner, draw_polygon(h, w, body), colour, CAR, distance)
    window = draw_polygon(h, w, [(0.22, 0.39), (0.3, 0.1), (0.7, 0.1), (0.78, 0.39)])
    tint = np.linspace(0.8, 0.2, h)[:, None, None] * canvas.light.haze_colour
    canvas.paint(corner, window, np.broadcast_to(tint, (h, w, 3)), CAR, distance)
    lamp = LAMP_RED if rng.random() < 0.6 else LAMP_WHITE
    for left in (0.05, 0.77):
        spot = draw_polygon(h, w, [(left, 0.5), (left + 0.18, 0.5), (left + 0.18, 0.62), (left, 0.62)])
        canvas.paint(corner, spot, lamp, CAR, distance)
    plate = draw_polygon(h, w, [(0.37, 0.63), (0.63, 0.63), (0.63, 0.74), (0.37, 0.74)])
    canvas.paint(corner, plate, METAL, CAR, distance)
    canvas.paint(corner, draw_polygon(h, w, [(0.0, 0.78), (1, 0.78), (1, 0.84), (0, 0.84)]), TYRE, CAR, distance)


def paint_boat(rng: np.random.Generator, canvas: Canvas, x: float, base: float, length: float, distance: float) -> None:
    """Paint a sailing boat with striped sails, or a motor boat with a cabin.

    Args:
        rng: Source of the model and the paint.
        canvas: Canvas to paint on.
        x: Column of the middle, canvas pixels.
        base: Row of the water line.
        length: Length of the hull, canvas pixels.
        distance: 0 near to 1 far.
    """
    sailing = rng.random() < 0.65
    width, height = (max(round(length), 6), max(round(length * (rng.uniform(1.0, 1.35) if sailing else 0.55)), 5))
    corner = (base - height, x - width / 2)
    rows = np.arange(height)[:, None, None] / height * np.ones((1, width, 1))
    columns = np.arange(width)[None, :, None] / width * np.ones((height, 1, 1))
    deck = 1 - 0.2 * width / height
    shadow = draw_ellipse(max(height // 4, 2), width, (0.5, 0.2), (0.48, 0.7))
    canvas.shade((base - 1, x - width / 2), shadow, 0.62)
    hull = pick_colour(rng, "paint")
    planks = 0.85 + 0.3 * (np.modf((rows - deck) * height / width * 22)[0] > 0.35)
    planks = np.where(rows - deck < 0.25 * (1 - deck), 1.5, planks)
    outline = [(0.0, deck), (1.0, deck - 0.02), (0.86, 1.0), (0.12, 1.0)]
    if sailing:
        cloth, stripe = pick_colour(rng, "paint"), pick_colour(rng, "paint")
        cloth = cloth if rng.random() < 0.5 else np.array([0.93, 0.92, 0.87])
        bands = (np.modf((rows + 0.25 * columns) * rng.uniform(5, 9))[0] < 0.3) & (rng.random() < 0.75)
        sail = np.clip(np.where(bands, stripe, cloth) * (0.72 + 0.6 * columns), 0, 1)
        canvas.paint(
            corner,
            draw_polygon(height, width, [(0.5, 0.03), (0.97, deck - 0.06), (0.5, deck - 0.06)]),
            sail,
            BOAT,
            distance,
        )
        canvas.paint(
            corner,
            draw_polygon(height, width, [(0.44, 0.12), (0.44, deck - 0.06), (0.08, deck - 0.04)]),
            sail * 0.86,
            BOAT,
            distance,
        )
        mast = [(0.45, 0.0), (0.485, 0.0), (0.485, deck), (0.45, deck)]
        canvas.paint(corner, draw_polygon(height, width, mast), np.array([0.3, 0.22, 0.16]), BOAT, distance)
    else:
        wall = pick_colour(rng, "paint") * 0.3 + 0.6
        cabin = [(0.25, 0.1), (0.62, 0.1), (0.72, deck), (0.22, deck)]
        canvas.paint(corner, draw_polygon(height, width, cabin), np.clip(wall, 0, 1), BOAT, distance)
        for left in (0.28, 0.42, 0.55):
            pane = [(left, 0.22), (left + 0.08, 0.22), (left + 0.08, 0.42), (left, 0.42)]
            canvas.paint(corner, draw_polygon(height, width, pane), TYRE + 0.1, BOAT, distance)
        canvas.paint(
            corner,
            draw_polygon(height, width, [(0.2, 0.03), (0.67, 0.03), (0.67, 0.1), (0.2, 0.1)]),
            hull * 0.8,
            BOAT,
            distance,
        )
    canvas.paint(corner, draw_polygon(height, width, outline), np.clip(hull * planks, 0, 1), BOAT, distance)


def paint_balloon(
    rng: np.random.Generator, canvas: Canvas, x: float, top: float, width: float, distance: float
) -> None:
    """Paint a hot-air balloon of coloured gores with its basket.

    Args:
        rng: Source of the colours.
        canvas: Canvas to paint on.
        x: Column of the middle, canvas pixels.
        top: Row of the highest point.
        width: Width of the envelope, canvas pixels.
        distance: 0 near to 1 far.
    """
    w, h = max(round(width), 6), max(round(width * 1.4), 8)
    corner = (top, x - w / 2)
    across = (np.arange(w)[None, :] + 0.5) / w * 2 - 1
    y = (np.arange(h)[:, None] + 0.5) / h
    half = np.where(y < 0.38, np.sqrt(np.clip(1 - ((y - 0.38) / 0.38) ** 2, 0, 1)), 0.0)
    half = np.where(y >= 0.38, 0.16 + 0.84 * np.cos(np.clip((y - 0.38) / 0.44, 0, 1) * np.pi / 2) ** 0.85, half)
    envelope = (np.abs(across) <= half) & (y < 0.82)
    angle = np.arcsin(np.clip(across / np.maximum(half, 0.05), -1, 1))
    gores = np.floor((angle / np.pi + 0.5) * rng.integers(5, 9)).astype(int) % 2
    light, dark = pick_colour(rng, "paint"), pick_colour(rng, "paint")
    contrast = 0.28 if abs(light.mean() - dark.mean()) < 0.2 else 0.0
    colour = np.where((gores == 0)[..., None], light + contrast, dark - contrast / 2)
    belt = (np.abs(y - rng.uniform(0.3, 0.5)) < 0.05) & (rng.random() < 0.6)
    colour = np.where(np.broadcast_to(belt, envelope.shape)[..., None], pick_colour(rng, "paint"), colour)
    glow = (1.02 - 0.38 * across * -canvas.light.side * half - 0.3 * y)[..., None]
    canvas.paint(corner, envelope, np.clip(colour * glow, 0.02, 1), BALLOON, distance)
    ropes = (np.abs(np.abs(across) - 0.12) < 1.3 / w) & (y >= 0.82) & (y < 0.9)
    canvas.paint(corner, ropes, np.array([0.2, 0.17, 0.15]), BALLOON, distance)
    basket = (np.abs(across) < 0.16) & (y >= 0.89)
    canvas.paint(corner, basket, np.array([0.36, 0.25, 0.15]), BALLOON, distance)
