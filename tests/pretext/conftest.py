"""Small batches of views, and one thread for the tiny tensors here.

On a busy machine, threads that wait for each other take ten times as long.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.backbones.backbone import Backbone
from pipeline.backbones.decoder import PyramidDecoder, build_decoder
from pipeline.backbones.encoder import Encoder
from pipeline.backbones.vit import PatchStem, VisionTransformer
from pipeline.data.views import Geometric
from pipeline.params import PretrainParams, parse_params
from pipeline.params.presets import merge_overrides
from pipeline.pretext.batches import ExtraView, ViewBatch
from pipeline.yaml_reader import read_yaml

RAW = read_yaml(Path(__file__).parents[2] / "params.yaml")
WHOLE = (0.0, 0.0, 1.0, 1.0)
Method = TypeVar("Method", bound=nn.Module)


@pytest.fixture(autouse=True, scope="module")
def _single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TinyBackbone(Backbone):
    """A backbone of a few weights with the maps of a real one."""

    widths, strides = (4, 6, 8, 10), (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, stride in ((4, 4, 1), (4, 6, 2), (6, 8, 2), (8, 10, 2))
        )


def tiny_encoder() -> Encoder:
    """An encoder of 8 channels, the same at every call; torch's generator is seeded on the way."""
    torch.manual_seed(0)
    return Encoder(TinyBackbone(), PyramidDecoder(TinyBackbone.widths, 8), {"backbone": "tiny", "channels": 8})


def tiny_vit_encoder() -> Encoder:
    """The same with a vision transformer of width 16, for views of 32 pixels."""
    vit = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    stem = PatchStem(nn.Conv2d(3, 16, 16, 16), nn.Parameter(torch.zeros(1, 1, 16)), nn.Parameter(torch.randn(1, 5, 16)))
    body = VisionTransformer(stem, [vit.Block(16, 2), vit.Block(16, 2)], nn.LayerNorm(16))
    return Encoder(body, build_decoder(body.widths, body.strides, 8), {"backbone": "tiny_vit", "channels": 8})


def crop_of(boxes: list[tuple[float, ...]], flip: list[bool] | None = None) -> Geometric:
    return Geometric(torch.tensor(boxes), torch.tensor(flip or [False] * len(boxes)))


def settings(**changes: Any) -> PretrainParams:
    """Group `pretrain` of the committed file, with changes."""
    return parse_params(merge_overrides(RAW, {"pretrain": changes})).pretrain


def view_batch(
    boxes: list[tuple[float, ...]] | int = 3,
    other_boxes: list[tuple[float, ...]] | None = None,
    *,
    flip: list[bool] | None = None,
    places: int = 16,
    side: int = 32,
    extra: int = 0,
    seed: int = 0,
) -> ViewBatch:
    """Views of noise that are cut by these boxes; extra ones show the upper left quarter on 32 pixels."""
    boxes = [WHOLE] * boxes if isinstance(boxes, int) else boxes
    B, rng = len(boxes), torch.Generator().manual_seed(seed)

    def draw(purpose: str, count: int) -> torch.Tensor:
        own = np.random.default_rng([seed, *purpose.encode()])
        return torch.from_numpy(own.random((B, count))).float()

    return ViewBatch(
        views=(torch.randn(B, 3, side, side, generator=rng), torch.randn(B, 3, side, side, generator=rng)),
        plain=(torch.rand(B, 3, side, side, generator=rng), torch.rand(B, 3, side, side, generator=rng)),
        crops=(crop_of(boxes, flip), crop_of(other_boxes or boxes)),
        places=torch.rand(B, places, 2, generator=rng),
        offsets=torch.zeros(B, places, 2),
        draw=draw,
        extra=tuple(
            ExtraView(
                torch.randn(B, 3, 32, 32, generator=rng),
                crop_of([(0.0, 0.0, 0.5, 0.5)] * B),
                torch.rand(B, places, 2, generator=rng),
                torch.zeros(B, places, 2),
            )
            for _ in range(extra)
        ),
    )


def pooled(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What a backbone says of one image (3, H, W): the mean of its last map, (1, D)."""
    return network(image[None])[-1].mean((2, 3))


def part_copies(model: nn.Module) -> None:
    """Move the slow copies away from what they follow, so that a test can tell them apart."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "slow" in key:
                weight.add_(0.3 * torch.randn(weight.shape, generator=rng))


def sharpened(model: Method) -> Method:
    """A method in evaluation mode that tells images further apart than random weights do, and copies from sources."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(3)
    part_copies(model)
    return model.eval()


def assert_teaches_as(model: nn.Module, found: torch.Tensor, expected: torch.Tensor) -> None:
    """A loss and its gradients are those of a slow reference."""
    assert found.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    one, other = (
        torch.autograd.grad(loss, list(trained.values()), allow_unused=True, materialize_grads=True)
        for loss in (found, expected)
    )
    largest = max(float(grad.abs().max()) for grad in other)
    assert largest > 0
    for key, grad, reference in zip(trained, one, other, strict=True):
        torch.testing.assert_close(grad, reference, rtol=1e-3, atol=1e-4 * largest, msg=key)


def assert_follows(model: nn.Module, copies: dict[str, nn.Module], batch: ViewBatch, momentum: float) -> None:
    """In a step, slow copies keep the share `momentum` of their weights, and take the rest of what they follow.

    Args:
        copies: What is followed, by the name of its copy.
    """
    model.train()
    part_copies(model)
    slow = {key: [weight.clone() for weight in model.get_submodule(key).parameters()] for key in copies}
    model(batch)
    for key, source in copies.items():
        moved = model.get_submodule(key).parameters()
        for weight, before, followed in zip(moved, slow[key], source.parameters(), strict=True):
            torch.testing.assert_close(weight, momentum * before + (1 - momentum) * followed, msg=key)
