"""The canvas on which a sample scene and its mask are painted together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.data.scene_light import Colour, Light
from pipeline.data.scene_noise import Field, Region

SKY, VEGETATION, WATER, ROAD, BUILDING, FIELD, CAR, BOAT, BALLOON = range(9)
N_CLASSES = 9


@dataclass(frozen=True)
class Ground:
    """The ground plane of a scene, in perspective.

    Attributes:
        horizon: Row of the horizon, canvas pixels.
        vanishing_x: Column at which lines that run away from the viewer meet, canvas pixels.
        height: Rows of the canvas.
        width: Columns of the canvas.
    """

    horizon: float
    vanishing_x: float
    height: int
    width: int

    def nearness(self, row: Field | float) -> Field:
        """Give how near a row of the ground is.

        Args:
            row: Rows, canvas pixels.

        Returns:
            0 at the horizon (and above) to 1 at the lower edge; proportional to the size of things there.
        """
        return np.clip((np.asarray(row, float) - self.horizon) / (self.height - self.horizon), 0.0, None)

    @property
    def grid(self) -> tuple[Field, Field]:
        """Nearness (H, 1) of each row, and column minus vanishing column (1, W) in canvas pixels."""
        rows = self.nearness(np.arange(self.height, dtype=np.float64) + 0.5)[:, None]
        return rows, np.arange(self.width, dtype=np.float64)[None, :] + 0.5 - self.vanishing_x


class Canvas:
    """A picture and its mask, painted from back to front."""

    def __init__(self, height: int, width: int, light: Light) -> None:
        self.height = height
        self.width = width
        self.light = light
        # Lengths of the scene are told in units of 1/128 of the picture's height.
        self.unit = height / 128
        self.image: Field = np.zeros((height, width, 3))
        self.mask = np.zeros((height, width), np.uint8)

    def paint(
        self,
        corner: tuple[float, float],
        region: Region,
        colour: Colour | Field,
        class_id: int,
        distance: float | Field = 0.0,
    ) -> None:
        """Paint a region over what lies there; what falls outside the canvas is cut off.

        Args:
            corner: Row and column of the region's upper left corner, canvas pixels.
            region: Pixels to paint (h, w), bool.
            colour: One colour (3,) or a picture (h, w, 3), 0 to 1.
            class_id: Class of the painted pixels.
            distance: 0 near to 1 far, a number or (h, w); sets how much haze covers the paint.
        """
        here, there = self._overlap(corner, region)
        region = region[there]
        fade = self.light.haze * (distance[there][..., None] if isinstance(distance, np.ndarray) else distance)
        paint = colour if colour.ndim == 1 else colour[there]
        paint = paint * (1 - fade) + self.light.haze_colour * fade  # (h, w, 3) or (3,)
        np.copyto(self.image[here], paint, where=region[..., None])
        self.mask[here][region] = class_id

    def shade(self, corner: tuple[float, float], region: Region, factor: float) -> None:
        """Darken a region, such as under a car, and leave its classes.

        Args:
            corner: Row and column of the region's upper left corner, canvas pixels.
            region: Pixels to darken (h, w), bool.
            factor: Factor on the colours, 0 to 1.
        """
        here, there = self._overlap(corner, region)
        self.image[here][region[there]] *= factor

    def _overlap(self, corner: tuple[float, float], region: Region) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Give the slices of the canvas and of the region in which they overlap."""
        here, there = [], []
        for start, size, limit in zip(corner, region.shape, (self.height, self.width), strict=True):
            begin = round(start)
            first, last = min(max(begin, 0), limit), min(max(begin + size, 0), limit)
            here.append(slice(first, last))
            there.append(slice(first - begin, max(last - begin, first - begin)))
        return (here[0], here[1]), (there[0], there[1])


def draw_polygon(height: int, width: int, points: list[tuple[float, float]]) -> Region:
    """Draw a filled polygon.

    Args:
        height: Rows of the region, pixels.
        width: Columns of the region, pixels.
        points: Corners as (x, y) shares of the region's width and height.

    Returns:
        Region (height, width), bool.
    """
    picture = Image.new("1", (width, height))
    ImageDraw.Draw(picture).polygon([(x * (width - 1), y * (height - 1)) for x, y in points], fill=1)
    return np.array(picture)


def draw_ellipse(height: int, width: int, centre: tuple[float, float], radii: tuple[float, float]) -> Region:
    """Draw a filled ellipse.

    Args:
        height: Rows of the region, pixels.
        width: Columns of the region, pixels.
        centre: Centre as (x, y) shares of the region's width and height.
        radii: Half axes, horizontal and vertical, as shares of the width and height.

    Returns:
        Region (height, width), bool.
    """
    y = ((np.arange(height) + 0.5) / height - centre[1]) / radii[1]
    x = ((np.arange(width) + 0.5) / width - centre[0]) / radii[0]
    return y[:, None] ** 2 + x[None, :] ** 2 <= 1


def reduce_canvas(canvas: Canvas, factor: int) -> tuple[Field, NDArray[np.uint8]]:
    """Shrink a canvas: colours by their mean, classes by majority.

    Args:
        canvas: Canvas whose sides are multiples of ``factor``.
        factor: Canvas pixels per picture pixel along each side.

    Returns:
        Picture (H, W, 3), float64, and mask (H, W), uint8; a tie goes to the class of the higher id.
    """
    parts = [(slice(y, None, factor), slice(x, None, factor)) for y in range(factor) for x in range(factor)]
    image = sum((canvas.image[part] for part in parts[1:]), canvas.image[parts[0]]) / factor**2
    most = np.zeros(image.shape[:2], np.uint8)
    winner = np.zeros(image.shape[:2], np.uint8)
    for class_id in range(N_CLASSES):
        votes = np.zeros_like(most)
        for part in parts:
            votes += canvas.mask[part] == class_id
        ahead = (votes >= most) & (votes > 0)
        winner[ahead] = class_id
        most = np.maximum(most, votes)
    return image, winner
