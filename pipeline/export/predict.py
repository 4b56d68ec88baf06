"""`fs4 predict`: label maps of any images with a trained segmenter."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.images import BadImage
from pipeline.data.pictures import picture_of
from pipeline.errors import InputError, PipelineError
from pipeline.export.loading import LoadedSegmenter, read_pixels
from pipeline.export.outputs import PredictionWriter, plain
from pipeline.export.progress import Advance, track
from pipeline.export.sources import ImageFile, list_images
from pipeline.labels.names import Names, load_names, segmentation_by
from pipeline.runtime.artifacts import MANIFEST, create_artifact, open_artifact
from pipeline.runtime.locks import hold
from pipeline.runtime.logs import get_logger
from pipeline.runtime.places import refuse_finished_output
from pipeline.runtime.sparing import Portions, first_line, is_device_full

log = get_logger("predict")
MAKER = "fs4 predict"
PIXELS_AT_ONCE = 2**26  # of the images of a batch as they are on disk: 192 MiB
NAMED = 10  # broken files in the message; all of them are in failed.csv


@dataclass(frozen=True)
class _Read:
    file: ImageFile
    shown: NDArray[np.uint8]  # (H, W, 3)
    scaled: NDArray[np.uint8]  # (C, h, w)


def predict_images(
    arguments: Sequence[str],
    segmenter: LoadedSegmenter,
    out: Path,
    *,
    names: Path | None,
    batch_size: int,
    max_pixels: int,
    overlays: bool,
) -> str:
    """Segment images, and write what `PredictionWriter` says into a folder that appears as a whole.

    Args:
        arguments: Folders, patterns and files.
        segmenter: The model.
        out: The folder to make; an earlier result of this command is replaced.
        names: A names file of the model's clusters.
        batch_size: Images of the same size that are computed together.
        max_pixels: Larger images are not decoded.
        overlays: Whether overlays are written.

    Returns:
        What was done, in one line.

    Raises:
        InputError: `out` holds something else, or there are no images; or, when all others are written, some files
            could not be segmented.
        PipelineError: The device has too little memory for a single window.
        ParamsError: The names file is wrong.
    """
    check_folder(out, MAKER)
    segmentation = segmentation_by(segmenter.artifact)
    if names:
        named = load_names(names, segmenter.k, segmentation)
    else:
        named = Names(segmentation, tuple(f"cluster {cluster}" for cluster in range(segmenter.k)))
    files = list_images(arguments, out)
    failed: list[tuple[ImageFile, str]] = []
    portions = Portions(spare=True)
    with hold(out.with_name(f".{out.name}.lock"), str(out), 0.0), create_artifact(out) as writer:
        writer.notes |= {"made_by": MAKER, "segmentation": segmentation}
        with PredictionWriter(writer.path, named, overlays=overlays) as predictions, track(len(files)) as advance:
            for batch in _batches(_read_ahead(files, segmenter, max_pixels), batch_size, failed, advance):
                for read, clusters in zip(batch, _label(segmenter, batch, portions), strict=True):
                    predictions.add(read.file, read.shown, clusters)
                advance(len(batch))
        if len(failed) == len(files):
            raise InputError(_describe(failed, len(files), "nothing was written"))
        if failed:
            with (writer.path / "failed.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(
                    [("image", "reason"), *((plain(bad.shown), plain(reason)) for bad, reason in failed)]
                )
    if failed:
        raise InputError(_describe(failed, len(files), f"the others are in {out}, the list in {out / 'failed.csv'}"))
    return f"{len(files)} images segmented into {len(named.distinct)} classes in {out}"


def _label(segmenter: LoadedSegmenter, batch: list[_Read], portions: Portions) -> list[NDArray[np.unsignedinteger]]:
    """Label images of the same size after scaling, fewer at a time where the device has too little memory."""

    def work(part: slice) -> list[NDArray[np.unsignedinteger]]:
        scaled = torch.from_numpy(np.stack([read.scaled for read in batch[part]]))
        return segmenter.label_batch(scaled, [read.shown.shape[:2] for read in batch[part]])

    try:
        return [labels for found in portions.run(work, len(batch)) for labels in found]
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        raise PipelineError(
            f"out of memory on the device ({first_line(error)}), with a single image; give a smaller --window than "
            f"{segmenter.window}, or --device cpu"
        ) from None


def check_folder(out: Path, maker: str) -> None:
    """Refuse a folder that was not made by the same command, or lies in a finished output.

    Raises:
        InputError: See above.
    """
    refuse_finished_output(out, "--out")
    if out.is_dir() and not any(out.iterdir()):
        return
    ours = (out / MANIFEST).is_file() and open_artifact(out).manifest.get("made_by") == maker
    if out.exists() and not ours:
        raise InputError(f"--out {out}: exists, and was not made by `{maker}`; choose another folder")


def _read_ahead(
    files: Sequence[ImageFile], segmenter: LoadedSegmenter, max_pixels: int
) -> Iterator[tuple[ImageFile, _Read | str]]:
    """Every image, or why it cannot be used; the next is decoded while the caller works."""

    def read(file: ImageFile) -> _Read | str:
        try:
            pixels = read_pixels(file.path, segmenter.resize, max_pixels, segmenter.bands)
            return _Read(file, picture_of(pixels.transpose(2, 0, 1)), segmenter.scale(pixels))
        except (BadImage, InputError) as error:
            return str(error)

    pool = ThreadPoolExecutor(1)
    try:
        ahead = pool.submit(read, files[0])
        for position, file in enumerate(files):
            done = ahead.result()
            if position + 1 < len(files):
                ahead = pool.submit(read, files[position + 1])
            yield file, done
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(
    images: Iterator[tuple[ImageFile, _Read | str]],
    batch_size: int,
    failed: list[tuple[ImageFile, str]],
    advance: Advance,
) -> Iterator[list[_Read]]:
    """Consecutive images of the same size after scaling; broken ones are noted."""
    batch: list[_Read] = []
    for file, read in images:
        if isinstance(read, str):
            failed.append((file, read))
            advance(1)
            continue
        pixels = sum(other.shown.size // 3 for other in (*batch, read))
        full = len(batch) == batch_size or pixels > PIXELS_AT_ONCE
        if batch and (full or batch[0].scaled.shape != read.scaled.shape):
            yield batch
            batch = []
        batch.append(read)
    if batch:
        yield batch


def _describe(failed: Sequence[tuple[ImageFile, str]], total: int, rest: str) -> str:
    lines = [f"{len(failed)} of {total} images could not be segmented; {rest}"]
    lines += [f"{file.path}: {reason}" for file, reason in failed[:NAMED]]
    lines += ["…"] * (len(failed) > NAMED)
    return "\n  ".join(lines)
