"""Contact sheets: what each cluster looks like, shown by its largest compact regions in distinct images."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError
from pipeline.evaluation.label_maps import LabelMap
from pipeline.evaluation.palette import boundaries
from pipeline.report.inputs import ReportInputs
from pipeline.report.pictures import photo_uri

SURVEYED_IMAGES = 2000  # finding regions costs some milliseconds an image, and more would not look different
_TILE_SIDES = (48, 128)  # pixels
_TILE_PIXELS = 5_000_000  # of all sheets together: tiles shrink where there are many clusters
_CONTEXT = 1.35  # side of a crop by the longer side of its region
_SMALLEST_CROP = 0.3  # of the frame's short side, so that a small region keeps its surroundings
_DIMMED = 0.4


@dataclass(frozen=True, order=True)
class Region:
    """A place inside a region: how far the nearest border is, and where.

    The order prefers large, compact regions, and the earlier image where two are alike.
    """

    radius: float
    order: int  # minus the position of the image
    image_id: str
    y: int
    x: int


@dataclass
class Survey:
    """What was seen in the label maps.

    Attributes:
        images_of_cluster: In how many images each cluster occurs, (K,).
        regions: The best regions of each cluster, best first, each from another image.
        images: Number of label maps.
        surveyed: Number of label maps in which regions were looked for.
    """

    images_of_cluster: NDArray[np.int64]
    regions: list[list[Region]]
    images: int
    surveyed: int


@dataclass(frozen=True)
class Tile:
    """One region as a picture."""

    image_id: str
    uri: str


@dataclass
class Sheet:
    """The contact sheet of one cluster.

    Attributes:
        cluster: Its id.
        images: In how many images it occurs.
        tiles: Its regions, best first.
    """

    cluster: int
    images: int
    tiles: list[Tile] = field(default_factory=list)


def survey_label_maps(maps: Iterable[LabelMap], *, count: int, clusters: int, regions: int) -> Survey:
    """Find the regions that show each cluster best.

    A region is judged by its largest inscribed circle, which is wide in large and compact regions and narrow
    in specks and streaks. Every label map is counted; regions are taken from at most 2000 of them, evenly
    spaced.

    Args:
        maps: The label maps; each is decoded and let go.
        count: How many there are.
        clusters: Number of clusters K.
        regions: How many regions to keep of each cluster.

    Returns:
        The survey.

    Raises:
        InputError: A label map holds an id that is no cluster.
    """
    from scipy import ndimage

    step = max(1, math.ceil(count / SURVEYED_IMAGES))
    seen = np.zeros(clusters, dtype=np.int64)
    best: list[list[Region]] = [[] for _ in range(clusters)]
    surveyed = position = 0
    for position, label_map in enumerate(maps, start=1):
        labels = label_map.decode()
        present = np.unique(labels)
        if present[-1] >= clusters:
            raise InputError(
                f"the label map of {label_map.image_id} holds cluster {present[-1]}, but there are {clusters} "
                "clusters; run `dvc repro` so that all folders come from the same training"
            )
        seen[present] += 1
        if (position - 1) % step:
            continue
        surveyed += 1
        inside = ndimage.distance_transform_edt(np.pad(~boundaries(labels), 1))[1:-1, 1:-1]
        places = ndimage.maximum_position(inside, labels, present)
        for cluster, (y, x) in zip(present.tolist(), places, strict=True):
            region = Region(float(inside[y, x]), -position, label_map.image_id, int(y), int(x))
            keep = heapq.heappush if len(best[cluster]) < regions else heapq.heappushpop
            keep(best[cluster], region)
    return Survey(seen, [sorted(heap, reverse=True) for heap in best], position, surveyed)


def draw_sheets(survey: Survey, inputs: ReportInputs) -> list[Sheet]:
    """Cut the surveyed regions out of their images.

    Args:
        survey: Where the regions are.
        inputs: Gives the label maps and frames of the images that are needed, one at a time.

    Returns:
        One sheet per cluster, by cluster id.

    Raises:
        InputError: A label map and its image differ in size.
    """
    wanted: dict[str, list[tuple[int, int, Region]]] = {}
    for cluster, regions in enumerate(survey.regions):
        for rank, region in enumerate(regions):
            wanted.setdefault(region.image_id, []).append((cluster, rank, region))
    side = _tile_side(sum(map(len, survey.regions)))
    tiles: dict[tuple[int, int], Tile] = {}
    for label_map in inputs.label_maps(only=wanted.keys()):
        labels = label_map.decode()
        image = inputs.load_frame(label_map.image_id)
        if image.shape[:2] != labels.shape:
            raise InputError(
                f"{label_map.image_id}: the frame is {image.shape[:2]} pixels, its label map {labels.shape}; run "
                "`dvc repro` so that all folders come from the same images"
            )
        for cluster, rank, region in wanted[label_map.image_id]:
            tile = cut_region(image, labels, region.y, region.x, side)
            tiles[cluster, rank] = Tile(label_map.image_id, photo_uri(tile, side))
    return [
        Sheet(
            cluster=cluster,
            images=int(survey.images_of_cluster[cluster]),
            tiles=[tiles[cluster, rank] for rank in range(len(regions))],
        )
        for cluster, regions in enumerate(survey.regions)
    ]


def cut_region(image: NDArray[np.uint8], labels: NDArray[np.integer], y: int, x: int, side: int) -> NDArray[np.uint8]:
    """Show one region with some of its surroundings, these dimmed.

    Args:
        image: RGB frame of shape (H, W, 3), uint8.
        labels: Cluster ids of shape (H, W).
        y: Row of a pixel in the region.
        x: Column of that pixel.
        side: Side of the result in pixels.

    Returns:
        RGB image of shape (side, side, 3), uint8. The region is the connected component around the pixel.
    """
    from scipy import ndimage

    components, _ = ndimage.label(labels == labels[y, x])
    region = components == components[y, x]
    rows, columns = ndimage.find_objects(region.astype(np.uint8))[0]
    short = min(labels.shape)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    crop = round(min(max(_CONTEXT * extent, _SMALLEST_CROP * short), short))
    # A region that is wider than the crop is shown around its thickest place, another one around its middle.
    fits = extent <= crop
    middle = ((rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2) if fits else (y, x)
    top, left = (
        min(max(centre - crop // 2, 0), length - crop) for centre, length in zip(middle, labels.shape, strict=True)
    )
    window = (slice(top, top + crop), slice(left, left + crop))
    size = (side, side)
    photo = np.asarray(Image.fromarray(image[window]).resize(size, Image.Resampling.BICUBIC))
    mask = Image.fromarray(region[window].astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    shown = np.asarray(mask) >= 128  # (side, side)
    grey = photo.mean(axis=2, keepdims=True) * 0.7 + photo * 0.3  # (side, side, 3)
    tile = np.where(shown[..., None], photo, np.round(_DIMMED * grey).astype(np.uint8))
    tile[boundaries(shown) & ~shown] = 255
    return tile


def _tile_side(tiles: int) -> int:
    smallest, largest = _TILE_SIDES
    return min(max(math.isqrt(_TILE_PIXELS // max(tiles, 1)), smallest), largest)
