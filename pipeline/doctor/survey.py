"""What a data folder holds, by its names, and by a bounded sample of its images and masks."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.bands import Bands, BandsCensus
from pipeline.data.classes import ClassList
from pipeline.data.frames import Frame, frame_size, to_frame
from pipeline.data.images import BadImage
from pipeline.data.manifest import OK, ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.data.pixels import count_channels, decode_pixels
from pipeline.data.sources.listing import Findings, SourceImage
from pipeline.data.sources.masks import check_source_mask
from pipeline.data.sources.registry import list_source
from pipeline.data.windows import mark_window
from pipeline.errors import InputError
from pipeline.evaluation.truth import GroundTruth
from pipeline.params import DataParams
from pipeline.runtime.randomness import generator

SAMPLE = 32  # images that are opened
FEW = 8  # masks of a split without a counted pixel, from which on all are suspected


@dataclass
class Survey:
    """What was found.

    Attributes:
        images: All images that the source lists.
        protocol: Name of the protocol; empty for a folder of one's own.
        problems: One line each.
        notes: What may be as it should, likewise.
        sizes: (h, w) of the frames of the sampled images.
        seconds: Mean processor time to read, decode and frame one of them.
        pixels: Counted pixels of the sampled masks, by class name; empty without masks.
        ignored: Ignored pixels of them.
        masks: Masks that were read.
        channels: How many of the sampled files have how many channels.
        bands: Values of channels other than RGB, as the sample has them; None for RGB.
    """

    images: list[SourceImage]
    protocol: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0
    pixels: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    masks: int = 0
    channels: Counter[int] = field(default_factory=Counter)
    bands: Bands | None = None

    def count(self, split: str | None = None) -> tuple[int, int]:
        """Images, and images with masks, of a split or of all."""
        chosen = [image for image in self.images if split in (None, image.split)]
        return len(chosen), sum(image.mask_path is not None for image in chosen)

    @property
    def tiled(self) -> int:
        """Files that are cut into tiles."""
        return len({image.path for image in self.images if image.window})


class _Opened(NamedTuple):
    image: SourceImage
    row: ImageRow
    truth: TruthRow | None


def survey_source(data: DataParams, root: Path) -> Survey:
    """List a source, and open a sample of its images and masks, drawn at random.

    Args:
        data: Group `data`, with the source to look for.
        root: The folder.

    Raises:
        InputError: The folder is not laid out as the source is.
    """
    findings = Findings()
    images, text = list_source(data, root, findings)
    survey = Survey(images, problems=findings.problems, notes=findings.notes)
    order = generator(0, "doctor").permutation(len(images))[:SAMPLE]
    census = None if data.channels == 3 else BandsCensus(data.channels, SAMPLE, 0)
    opened = [found for index in sorted(order) if (found := _open(images[index], data, survey, census))]
    if census is not None and opened:
        try:
            survey.bands = census.finish()
        except InputError as error:
            survey.problems.append(str(error))
    frame = Frame(data.resize, data.crop, data.crop_size)
    table = ImageTable([found.row for found in opened], frame, data.max_pixels, data.min_side)
    survey.sizes = [frame_size(row.width, row.height, frame) for row in table.rows]
    survey.seconds /= max(len(opened), 1)
    _count_classes(survey, table, TruthTable([found.truth for found in opened if found.truth], text, data.ignore_index))
    if not survey.count("train")[0]:
        survey.problems.append("there is no image of split train, from which everything is learned")
    return survey


def _open(image: SourceImage, data: DataParams, survey: Survey, census: BandsCensus | None) -> _Opened | None:
    started = time.thread_time()
    window = image.window
    try:
        content = image.path.read_bytes()
        if channels := count_channels(content):
            survey.channels[channels] += 1
        pixels = decode_pixels(content, channels=data.channels, max_pixels=data.max_pixels, min_side=data.min_side)
        if window:
            pixels = pixels[window.y : window.y + window.height, window.x : window.x + window.width]
        if census is not None:
            census.add(image.image_id, pixels, train=True)
        levels = pixels if census is None else np.zeros(pixels.shape, np.uint8)  # the scale is not known yet
        to_frame(levels, Frame(data.resize, data.crop, data.crop_size))
    except (OSError, BadImage) as error:
        survey.problems.append(f"{image.path}: {error}")
        return None
    survey.seconds += time.thread_time() - started
    height, width = pixels.shape[:2]
    row = ImageRow(image.image_id, image.split, str(image.path), width, height, "", OK)
    truth = None
    if image.mask_path:
        try:
            mask = image.mask_path.read_bytes()
            check_source_mask(image, mask, (width, height))
            marked = mark_window(str(image.mask_path), window)
            truth = TruthRow(image.image_id, image.split, marked, hashlib.sha256(mask).hexdigest())
        except (OSError, InputError) as error:
            survey.problems.append(str(error))
    return _Opened(image, row, truth)


def _count_classes(survey: Survey, table: ImageTable, rows: TruthTable) -> None:
    if not rows.rows:
        return
    try:
        truth = GroundTruth(table, rows, "train", "error")
    except InputError as error:
        survey.problems.append(str(error))
        return
    classes, counts = truth.classes, Counter[int]()
    read: dict[str, list[int]] = defaultdict(list)  # by split, how many pixels of each mask are counted
    survey.protocol = classes.protocol
    for row in rows.rows:
        try:
            values, numbers = np.unique(truth.read(row.image_id), return_counts=True)
        except InputError as error:
            survey.problems.append(str(error))
            continue
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        survey.masks += 1
        read[row.split].append(int(numbers[values != classes.ignore_index].sum()))
    survey.ignored = counts.pop(classes.ignore_index, 0)
    survey.pixels = {name: counts[i] for i, name in enumerate(classes.names)}
    for split, counted in read.items():
        if not any(counted):
            text = (
                f"split {split}: every pixel of the {len(counted)} masks that were read is ignored, and where that "
                f"holds for all masks there is nothing to score; check that they are meant for {_meaning(classes)}"
            )
            sure = len(counted) >= min(FEW, survey.count(split)[1])
            (survey.problems if sure else survey.notes).append(text)


def _meaning(classes: ClassList) -> str:
    if classes.protocol:
        return f"protocol {classes.protocol}"
    return "mask_ids and ignore_index of classes.json, or data.ignore_index"
