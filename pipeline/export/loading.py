"""A trained segmenter, ready for images of any size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.bands import Bands
from pipeline.data.images import BadImage
from pipeline.data.pixels import decode_pixels
from pipeline.data.views import normalise
from pipeline.errors import InputError, ParamsError
from pipeline.export.enlarging import Labeller
from pipeline.export.sliding import iterate_strips
from pipeline.params import STRIDE, Precision
from pipeline.runtime.artifacts import Artifact, open_artifact
from pipeline.runtime.device import autocast, copy_to
from pipeline.segmentation.model import Segmenter
from pipeline.segmentation.model import load_segmenter as load_network

MAX_PIXELS = 100_000_000
SMALLEST_WINDOW = 512
LARGEST = 2**15  # pixels of a window, or of the short side of an image
LONGEST = 3  # a window holds every frame of training, which is at most this many times as long as wide


class LoadedSegmenter:
    """Labels images of any size with the clusters of a segmenter.

    An image is brought to the scale of the training, both sides rounded to multiples of 32, scored in windows that
    overlap, and the scores are enlarged bilinearly to the image's own pixels.

    Attributes:
        network: From normalised images (B, C, H, W) to scores (B, K, H/4, W/4), in evaluation mode.
        artifact: The folder that it was loaded from.
        k: Number of clusters K.
        bands: What images of other channels than RGB hold, and how they are scaled to levels; None for RGB.
        resize: Short side in pixels to which images are brought; 0: they stay as they are.
        window: Side of a window in pixels.
    """

    def __init__(
        self,
        network: Segmenter,
        artifact: Artifact,
        *,
        bands: Bands | None = None,
        resize: int,
        window: int = 0,
        device: torch.device,
        precision: Precision = "auto",
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()
        self.artifact = artifact
        self.k = network.k
        self.bands = bands
        self.resize = resize
        self.window = window or max(SMALLEST_WINDOW, math.ceil(LONGEST * resize / STRIDE) * STRIDE)
        self._device, self._precision = device, precision

    def label(self, image: str | Path | Image.Image | np.ndarray) -> NDArray[np.unsignedinteger]:
        """Label every pixel of an image.

        Args:
            image: A file, a picture, or an array: uint8 (H, W, 3), or (H, W, C) of the channels and the type that the
                training images had.

        Returns:
            (H, W), clusters 0..K-1 in the smallest unsigned type.

        Raises:
            InputError: The file is missing or no image, or the image is of other channels or another type.
        """
        pixels = self._pixels(image)
        return self.label_batch(torch.from_numpy(self.scale(pixels))[None], [pixels.shape[:2]])[0]

    def scale(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring levels (H, W, C) to the scale of the training, antialiased; uint8 (C, h, w), multiples of 32."""
        h, w = scaled_size(pixels.shape[1], pixels.shape[0], self.resize)

        def resized(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.asarray(Image.fromarray(np.ascontiguousarray(levels)).resize((w, h), Image.Resampling.BILINEAR))

        if pixels.shape[2] == 3:
            return np.ascontiguousarray(resized(pixels).transpose(2, 0, 1))
        return np.stack([resized(pixels[..., channel]) for channel in range(pixels.shape[2])])

    @torch.inference_mode()
    def label_batch(self, scaled: torch.Tensor, sizes: list[tuple[int, int]]) -> list[NDArray[np.unsignedinteger]]:
        """Label images that have the same size after scaling.

        Args:
            scaled: uint8 (B, C, h, w), from `scale`.
            sizes: H and W of each image before.

        Returns:
            As `label`, for each image.
        """
        labellers: list[Labeller] = []
        overlap = min(max(self.window // 4 // STRIDE, 1) * STRIDE, self.window - STRIDE)
        for strip in iterate_strips(self._score, scaled, window=self.window, overlap=overlap):
            if not labellers:
                rows = scaled.shape[2] * strip.shape[3] // scaled.shape[3]
                labellers = [Labeller(rows, size, self.k) for size in sizes]
            for labeller, scores in zip(labellers, strip, strict=True):
                labeller.add(scores)
        return [labeller.labels for labeller in labellers]

    def _score(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(self._device, self._precision):
            embedding = self.network.embed(normalise(copy_to(self._device, images)))
        return self.network.scores(embedding).float()

    def _pixels(self, image: str | Path | Image.Image | np.ndarray) -> NDArray[np.uint8]:
        if isinstance(image, str | Path):
            try:
                return read_pixels(Path(image), self.resize, MAX_PIXELS, self.bands)
            except BadImage as error:
                raise InputError(f"{image}: {error}") from None
        if isinstance(image, Image.Image):
            image = np.asarray(image if self.bands else image.convert("RGB"))
        values, channels = (self.bands.values, self.bands.channels) if self.bands else ("uint8", 3)
        pixels = image[..., None] if image.ndim == 2 and channels == 1 else image
        if pixels.dtype != values or pixels.ndim != 3 or pixels.shape[2] != channels or 0 in pixels.shape:
            raise InputError(f"expected an image {values} (H, W, {channels}), not {image.dtype} {image.shape}")
        return self.bands.scale(pixels) if self.bands else pixels


def load_segmenter(
    folder: str | Path = "data/segmenter",
    *,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    resize: int | None = None,
    window: int = 0,
) -> LoadedSegmenter:
    """Load a trained segmenter, such as `data/segmenter` or a copy of it.

    Args:
        folder: The output of stage `train`; its digests are checked.
        device: auto (CUDA, then MPS, then the CPU), cpu, mps, cuda or cuda:N.
        precision: auto, fp32 or bf16, of the network.
        resize: Short side in pixels to which images are brought, 0 for as they are; None for that of the training.
        window: Side of the windows in pixels, a multiple of 32; 0: 512, or more if images of the training were larger.

    Raises:
        InputError: The folder is no such output, or damaged, or does not say how large its images were.
        ParamsError: An argument has no use here.
    """
    artifact = open_artifact(Path(folder))
    sidecar = artifact.json("segmenter.json")
    try:
        network = load_network(artifact)
        inputs = network.architecture["encoder"].get("inputs")
        bands = Bands.from_notes(inputs) if inputs else None
        resize = int(sidecar["frame"]["resize"]) if resize is None else resize
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, KeyError) and error.args == ("frame",):
            raise InputError(
                f"{artifact.path}: does not note the size of its training images; give it as --resize, in pixels"
            ) from None
        raise InputError(
            f"{artifact.path / 'segmenter.json'}: not the side-car of a segmenter ({error!r}); rebuild it with "
            "`dvc repro train`"
        ) from None
    if not 0 <= resize <= LARGEST or not 0 <= window <= LARGEST or window % STRIDE:
        raise ParamsError(
            f"resize {resize}, window {window}: give numbers from 0 to {LARGEST}, and a window in multiples of 32"
        )
    place = _device(device)
    return LoadedSegmenter(
        network, artifact, bands=bands, resize=resize, window=window, device=place, precision=precision
    )


def read_pixels(path: Path, resize: int, max_pixels: int, bands: Bands | None) -> NDArray[np.uint8]:
    """Read an image file.

    Args:
        path: The file.
        resize: Short side to which it will be brought, or 0.
        max_pixels: Bound on the image, and on what it will become: a thin strip may grow a lot.
        bands: What it must hold, and how that becomes levels; None for RGB.

    Returns:
        uint8 (H, W, C), C being 3 for RGB.

    Raises:
        BadImage: The bytes are no image, or one that is too large, or of other channels or another type of values.
        InputError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    channels = bands.channels if bands else 3
    pixels = decode_pixels(data, channels=channels, max_pixels=max_pixels, min_side=1)
    h, w = scaled_size(pixels.shape[1], pixels.shape[0], resize)
    if h * w > max(max_pixels, pixels.shape[0] * pixels.shape[1]):
        raise BadImage(f"too long ({pixels.shape[1]} x {pixels.shape[0]} would become {w} x {h})")
    if bands and pixels.dtype != bands.values:
        raise BadImage(f"{pixels.dtype} values, but those of the training images are {bands.values}; convert it")
    return bands.scale(pixels) if bands else pixels


def scaled_size(width: int, height: int, resize: int) -> tuple[int, int]:
    """h and w of an image at the scale of the training: its short side is `resize`, both are multiples of 32."""
    factor = resize / min(width, height) if resize else 1.0
    h, w = (max(STRIDE, round(side * factor / STRIDE) * STRIDE) for side in (height, width))
    return h, w


def _device(name: str | torch.device) -> torch.device:
    from pipeline.params import RunParams
    from pipeline.runtime.device import resolve_device

    if isinstance(name, torch.device):
        return name
    unused = {"processes": 1, "workers": 0, "cache_mb": 0, "checkpoint_steps": 0, "lock_timeout": 0.0}
    off = {"keep_features": False, "keep_features_gb": 0.0, "spare_memory": False}
    settings: dict[str, Any] = {**off, "device": name, "threads": torch.get_num_threads(), **unused}
    try:
        return resolve_device(RunParams(**settings))
    except ValueError:
        raise ParamsError(f"device: {name!r} is none; give auto, cpu, mps, cuda or cuda:N") from None
