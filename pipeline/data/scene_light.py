"""Colours, light and weather of the sample scenes.

The palettes of the classes overlap on purpose: a colour alone must not name its class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.scene_noise import Field

Colour = NDArray[np.float64]

# Red, green, blue in 0 to 255.
PALETTES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "sky_top": (
        (70, 120, 190), (120, 160, 205), (150, 158, 168), (196, 200, 205), (60, 72, 110), (104, 92, 116),
        (80, 95, 100), (110, 150, 150), (190, 150, 120), (55, 60, 72),
    ),
    "sky_low": (
        (180, 205, 225), (210, 214, 216), (235, 225, 205), (238, 170, 110), (225, 140, 120), (150, 165, 175),
        (160, 180, 165), (205, 180, 140), (110, 115, 130), (190, 166, 170),
    ),
    "vegetation": (
        (70, 112, 52), (48, 82, 50), (110, 130, 56), (168, 146, 60), (176, 104, 48), (150, 70, 52),
        (88, 112, 96), (112, 98, 60), (148, 158, 104), (54, 66, 50), (84, 124, 60), (60, 96, 60),
    ),
    "water": (
        (58, 100, 150), (96, 128, 150), (128, 136, 142), (70, 110, 92), (118, 106, 80), (62, 70, 84),
        (150, 168, 178), (170, 140, 120), (96, 122, 70), (90, 140, 150), (180, 174, 160),
    ),
    "road": (
        (92, 92, 96), (128, 126, 124), (150, 136, 116), (120, 98, 82), (74, 78, 92), (166, 160, 154),
        (138, 100, 90), (100, 110, 100), (176, 160, 130), (96, 104, 124),
    ),
    "building": (
        (150, 84, 66), (176, 170, 160), (210, 200, 180), (120, 104, 92), (104, 110, 118), (196, 160, 104),
        (140, 152, 164), (112, 128, 104), (170, 120, 110), (90, 74, 68), (150, 168, 150), (104, 124, 156),
    ),
    "field": (
        (110, 140, 66), (186, 162, 88), (132, 100, 70), (152, 132, 104), (84, 108, 62), (128, 116, 150),
        (176, 168, 130), (104, 96, 88), (162, 116, 80), (140, 150, 140), (96, 120, 126),
    ),
    "roof": ((140, 70, 54), (84, 78, 80), (110, 92, 84), (70, 84, 96), (150, 110, 84), (92, 104, 90)),
    "paint": (
        (190, 50, 46), (40, 80, 150), (232, 230, 224), (44, 46, 52), (214, 176, 52), (60, 120, 80),
        (150, 152, 156), (220, 120, 50), (110, 60, 110), (130, 100, 80),
    ),
}  # fmt: skip


def pick_colour(rng: np.random.Generator, palette: str, jitter: float = 0.04) -> Colour:
    """Pick a colour of a palette and shift it a little.

    Args:
        rng: Source of the choice.
        palette: A key of ``PALETTES``.
        jitter: Standard deviation of the shift of each channel, as a share of full scale.

    Returns:
        Colour (3,), float64, in [0, 1].
    """
    colours = PALETTES[palette]
    colour = np.array(colours[int(rng.integers(len(colours)))]) / 255
    return np.clip(colour * rng.uniform(0.85, 1.15) + rng.normal(0, jitter, 3), 0.03, 0.97)


@dataclass(frozen=True)
class Light:
    """Light and weather of one scene.

    Attributes:
        side: -1 where the sun stands on the left, 1 on the right.
        haze: Share of the haze colour at the greatest distance, 0 to 1.
        haze_colour: Colour (3,) that distance fades to.
        gain: Factors (3,) of the three channels: exposure and colour cast.
        contrast: Factor on the deviation from mid-grey.
        saturation: Factor on the deviation from each pixel's own grey.
        dusk: Whether lamps are lit.
        grain: Standard deviation of the sensor noise, as a share of full scale.
    """

    side: int
    haze: float
    haze_colour: Colour
    gain: Colour
    contrast: float
    saturation: float
    dusk: bool
    grain: float


def draw_light(rng: np.random.Generator, sky_low: Colour) -> Light:
    """Draw the light and weather of a scene: clear, overcast, haze or dusk, with a warm or cold cast.

    Args:
        rng: Source of the draw.
        sky_low: Colour (3,) of the sky at the horizon, which haze fades to.

    Returns:
        The light.
    """
    weather = rng.choice(["clear", "overcast", "haze", "dusk"], p=[0.4, 0.2, 0.2, 0.2])
    haze = {"clear": 0.25, "overcast": 0.35, "haze": 0.75, "dusk": 0.4}[weather]
    exposure = {"clear": 1.05, "overcast": 0.95, "haze": 1.0, "dusk": 0.66}[weather]
    warmth = rng.normal(0, 0.07)
    return Light(
        side=int(rng.choice([-1, 1])),
        haze=haze * rng.uniform(0.7, 1.1),
        haze_colour=sky_low,
        gain=exposure * rng.uniform(0.88, 1.14) * np.array([1 + warmth, 1 + rng.normal(0, 0.025), 1 - warmth]),
        contrast=rng.uniform(0.8, 1.15),
        saturation=rng.uniform(0.35, 0.75) if weather in ("overcast", "haze") else rng.uniform(0.6, 1.15),
        dusk=bool(weather == "dusk"),
        grain=rng.uniform(0.004, 0.012),
    )


def expose(rng: np.random.Generator, image: Field, light: Light) -> Field:
    """Put the light's cast, contrast and grain on a finished picture.

    Args:
        rng: Source of the grain.
        image: Picture (H, W, 3), float64, 0 to 1.
        light: The light.

    Returns:
        Picture (H, W, 3), float64, in [0, 1].
    """
    grey = image.mean(axis=2, keepdims=True)  # (H, W, 1)
    image = grey + light.saturation * (image - grey)
    image = (0.5 + light.contrast * (image - 0.5)) * light.gain
    return np.clip(image + rng.normal(0, light.grain, image.shape), 0, 1)
