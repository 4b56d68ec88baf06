"""A tiny segmenter as a finished folder, and photos for it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.backbones.encoder import build_encoder
from pipeline.data.bands import Bands
from pipeline.data.views import normalise
from pipeline.params import CaeParams, load_params
from pipeline.runtime.artifacts import create_artifact
from pipeline.segmentation.model import Segmenter, build_segmenter, save_segmenter

CAE = load_params(Path(__file__).parents[2] / "params.yaml").train.cae.model_dump()
K = 4
RESIZE = 64


def make_segmenter(bands: Bands | None = None, backbone: str = "resnet18", **cae) -> Segmenter:
    """Random weights, and prototypes that all have pixels of random images."""
    encoder = build_encoder(backbone, 8, seed=1, inputs=asdict(bands) if bands else None)
    settings = CaeParams(**{**CAE, "radius": 1, **cae}).model_dump()
    segmenter = build_segmenter(encoder.architecture, K, settings, start=encoder, seed=1).eval()
    channels = bands.channels if bands else 3
    photos = [make_photo(64, 96, seed, channels) for seed in range(2)]
    images = torch.stack([torch.from_numpy(photo).permute(2, 0, 1) for photo in photos])
    with torch.no_grad():
        pixels = segmenter.embed(normalise(images)).permute(0, 2, 3, 1).flatten(0, 2)
    centre = pixels.mean(0)
    far = (pixels - centre).square().sum(1).argsort(descending=True)
    segmenter.prototypes.copy_(torch.stack([pixels[far[0]], pixels[far[-1]], pixels[far[90]], pixels[far[400]]]))
    return segmenter


def save(segmenter: Segmenter, folder: Path, **notes) -> Path:
    with create_artifact(folder) as writer:
        writer.notes |= {"stage": "train"}
        save_segmenter(segmenter, writer.path, {"k": K, "frame": {"resize": RESIZE}, **notes})
    return folder


def make_bands(channels: int, values: str = "uint16") -> Bands:
    """Channels that each have a scale of their own."""
    scales = np.arange(1, channels + 1)
    low, high = ([0.0] * channels, [255.0] * channels) if values == "uint8" else (100 * scales, 5000 * scales)
    return Bands(values, tuple(map(float, low)), tuple(map(float, high)), (0.5,) * channels, (0.25,) * channels)


def make_photo(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    """uint8 (height, width, channels): a few coloured boxes with noise."""
    rng = np.random.default_rng(seed)
    photo = np.empty((height, width, channels), np.int64)
    photo[:] = rng.integers(0, 256, channels)
    for _ in range(6):
        y, x = rng.integers(0, height), rng.integers(0, width)
        photo[y : y + height // 2, x : x + width // 2] = rng.integers(0, 256, channels)
    return np.clip(photo + rng.normal(0, 15, photo.shape), 0, 255).astype(np.uint8)


def write_photo(path: Path, height: int = 64, width: int = 96, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_photo(height, width, seed)).save(path)
    return path


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return make_segmenter()


@pytest.fixture(scope="session")
def model(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(segmenter, tmp_path_factory.mktemp("model") / "segmenter")
