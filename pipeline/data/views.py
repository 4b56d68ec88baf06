"""Two random views of a batch of frames, as tensor operations on the whole batch.

Every random number comes from (seed, epoch, image), so that a view can be replayed. Brightness, contrast,
saturation, hue and grayscale are all linear in the colours of a pixel, so each image's chain of them is one 3x4 matrix.
Channels other than RGB have no saturation, hue or gray; brightness and contrast are the same for all of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.runtime.randomness import uniforms

GRAY = (0.299, 0.587, 0.114)
# ImageNet's channel statistics are a convention of the field, not learned from its labels; any fixed ones would do
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
APPLY_JITTER = 0.8
APPLY_GRAY = 0.2
APPLY_BLUR = 0.5
MAX_SHRINK = 1.5  # bilinear sampling starts to alias beyond
BLUR_RADIUS = 4  # pixels; the widest blur has a standard deviation of 2


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Bring colours to the scale that the networks take.

    Args:
        images: (B, C, H, W), uint8 in 0..255 or float in 0..1.

    Returns:
        float32 (B, C, H, W): RGB of about zero mean and unit variance; others in 0..1, which networks of such channels
        standardise themselves, by statistics of the train images.
    """
    if images.dtype == torch.uint8:
        images = images.float() / 255.0
    if images.shape[1] != 3:
        return images.contiguous(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Photometric:
    """Colour changes of a batch, one per image.

    Attributes:
        brightness, contrast, saturation: float32 (B,), factors.
        hue: float32 (B,), a turn of the colour circle, in (-0.5, 0.5).
        gray: bool (B,).
        blur: float32 (B,), standard deviation in pixels; 0 means sharp.
    """

    brightness: torch.Tensor
    contrast: torch.Tensor
    saturation: torch.Tensor
    hue: torch.Tensor
    gray: torch.Tensor
    blur: torch.Tensor


def draw_photometric(
    seed: int, purpose: str, epoch: int, samples: Sequence[int], *, jitter: float, hue: float
) -> Photometric:
    """Draw colour changes for a batch, a function of (seed, purpose, epoch, sample) alone.

    Args:
        jitter: Strength of brightness, contrast and saturation; factors lie in 1 - jitter .. 1 + jitter.
        hue: Strength of the hue turn, in -hue .. hue; each of the four is applied with probability 0.8.
    """
    u = torch.from_numpy(uniforms(seed, purpose, epoch, samples, 11)).float()
    on = u[:, :4] < APPLY_JITTER
    swing = 2 * u[:, 4:8] - 1
    factors = torch.where(on[:, :3], 1 + jitter * swing[:, :3], torch.ones(()))
    return Photometric(
        brightness=factors[:, 0],
        contrast=factors[:, 1],
        saturation=factors[:, 2],
        hue=torch.where(on[:, 3], hue * swing[:, 3], torch.zeros(())),
        gray=u[:, 8] < APPLY_GRAY,
        blur=torch.where(u[:, 9] < APPLY_BLUR, 0.1 + 1.9 * u[:, 10], torch.zeros(())),
    )


def colour_matrices(change: Photometric, mean_colour: torch.Tensor) -> torch.Tensor:
    """The chain brightness, contrast, saturation, hue, gray as one matrix per image.

    Contrast pulls colours towards the mean gray value, which itself is linear in the mean colour. Hue turns the
    chroma plane of YIQ: about what a turn in HSV does, the other way round, but the luma stays instead of the value.

    Args:
        change: What to apply.
        mean_colour: float32 (B, 3), mean colour of each image.

    Returns:
        float32 (B, 3, 4): the last column is added.
    """
    B = mean_colour.shape[0]
    device = mean_colour.device
    luma = torch.tensor(GRAY, device=device)
    identity = torch.eye(3, device=device).expand(B, 3, 3)
    to_gray = luma.expand(3, 3).expand(B, 3, 3)  # every output channel is the luma

    def factor(values: torch.Tensor) -> torch.Tensor:
        return values.to(device)[:, None, None]

    linear = identity * factor(change.brightness)
    gray_level = (mean_colour * change.brightness.to(device)[:, None]) @ luma  # (B,)
    contrast = change.contrast.to(device)
    linear = linear * contrast[:, None, None]
    offset = ((1 - contrast) * gray_level)[:, None].expand(B, 3)
    saturation = factor(change.saturation) * identity + (1 - factor(change.saturation)) * to_gray
    turned = torch.where(change.gray.to(device)[:, None, None], to_gray, _hue_turns(change.hue.to(device)))
    after = turned @ saturation
    return torch.cat([after @ linear, after @ offset[:, :, None]], dim=2)


def apply_photometric(images: torch.Tensor, change: Photometric) -> torch.Tensor:
    """Change the colours of a batch.

    Args:
        images: float32 (B, C, H, W) in 0..1.
        change: One change per image. Where C is not 3, its saturation, hue and gray are left out, and contrast pulls
            the channels towards the mean of all of them.

    Returns:
        float32 (B, C, H, W) in 0..1.
    """
    B, C, H, W = images.shape
    if C != 3:
        bright = images * _each(change.brightness, images)
        mean = bright.mean((1, 2, 3), keepdim=True)
        return _blur((mean + (bright - mean) * _each(change.contrast, images)).clamp_(0, 1), change.blur)
    matrices = colour_matrices(change, images.mean((2, 3)))
    flat = torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], images.reshape(B, 3, H * W))
    return _blur(flat.view(B, 3, H, W).clamp_(0, 1), change.blur)


@dataclass(frozen=True)
class Geometric:
    """A random resized crop with mirroring and quarter turns, one per image.

    Attributes:
        boxes: float32 (B, 4), x0, y0, x1, y1 as fractions of the frame.
        flip: bool (B,), the box is mirrored left to right after the crop.
        flip_down: bool (B,), it is mirrored upside down; None: never.
        swap: bool (B,), after both its rows and columns are swapped; None: never. Turns by a quarter are swaps with one
            mirroring.
    """

    boxes: torch.Tensor
    flip: torch.Tensor
    flip_down: torch.Tensor | None = None
    swap: torch.Tensor | None = None

    def switches(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`flip`, `flip_down` and `swap`, bool (B,)."""
        never = torch.zeros_like(self.flip)
        return self.flip, never if self.flip_down is None else self.flip_down, never if self.swap is None else self.swap

    def place(self, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where in the boxes a place of the views lies.

        Args:
            u: float (B, ...), from left to right of the view, 0..1; likewise v downwards.
            v: See `u`; both may be broadcast.

        Returns:
            From left to right, and downwards, of the box, 0..1.
        """
        flip, down, swap = (switch.view(-1, *[1] * (u.ndim - 1)) for switch in self.switches())
        x, y = torch.where(swap, v, u), torch.where(swap, u, v)
        return torch.where(flip, 1 - x, x), torch.where(down, 1 - y, y)

    def view_place(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The inverse of `place`."""
        flip, down, swap = (switch.view(-1, *[1] * (x.ndim - 1)) for switch in self.switches())
        x, y = torch.where(flip, 1 - x, x), torch.where(down, 1 - y, y)
        return torch.where(swap, y, x), torch.where(swap, x, y)


def draw_geometric(
    seed: int,
    purpose: str,
    epoch: int,
    samples: Sequence[int],
    *,
    min_area: float,
    max_area: float = 1.0,
    flip: bool,
    flip_vertical: bool = False,
    rotate: bool = False,
    max_stretch: float = 4 / 3,
) -> Geometric:
    """Draw crops for a batch, a function of (seed, purpose, epoch, sample) alone.

    Args:
        min_area: Smallest share of the frame's area; the share is uniform in min_area..max_area.
        max_area: Largest share, at most 1.
        flip: Mirror left to right with probability 1/2.
        flip_vertical: Mirror upside down with probability 1/2.
        rotate: Turn by 0, 1, 2 or 3 quarters; frames that are not square are stretched by a turn.
        max_stretch: The crop's aspect ratio relative to the frame is log-uniform in 1/max_stretch..max_stretch, but
            never such that the crop would leave the frame.
    """
    u = uniforms(seed, purpose, epoch, samples, 5)
    area = min_area + (max_area - min_area) * u[:, 0]
    stretch = np.clip(np.exp(np.log(max_stretch) * (2 * u[:, 1] - 1)), area, 1 / area)
    width = np.minimum(np.sqrt(area * stretch), 1.0)
    height = np.minimum(area / width, 1.0)
    x0, y0 = (1 - width) * u[:, 2], (1 - height) * u[:, 3]
    boxes = np.stack([x0, y0, x0 + width, y0 + height], axis=1).astype(np.float32)
    mirrored = (u[:, 4] < 0.5) & flip
    if not flip_vertical and not rotate:
        return Geometric(torch.from_numpy(boxes), torch.from_numpy(mirrored))
    # numbers of their own, so that the crops are those of a run without
    turned = uniforms(seed, f"{purpose} turn", epoch, samples, 2)
    quarters = np.floor(4 * turned[:, 1]).astype(np.int64) * rotate
    across = mirrored ^ np.isin(quarters, (1, 2))
    down = ((turned[:, 0] < 0.5) & flip_vertical) ^ np.isin(quarters, (2, 3))
    return Geometric(torch.from_numpy(boxes), *map(torch.from_numpy, (across, down, quarters % 2 == 1)))


def apply_geometric(maps: torch.Tensor, change: Geometric, size: tuple[int, int]) -> torch.Tensor:
    """Crop and resize a batch of images or feature maps.

    Args:
        maps: float (B, C, h, w); maps much larger than `size` are averaged down first.
        change: One crop per image, in fractions, so that it fits maps of any stride.
        size: Output height and width.

    Returns:
        float32 (B, C, *size); gradients flow through.
    """
    B, C, h, w = maps.shape
    maps = maps.float()
    if min(h / size[0], w / size[1]) > MAX_SHRINK:
        smaller = [round(MAX_SHRINK * side) for side in size]
        maps = F.interpolate(maps, smaller, mode="bilinear", antialias=True)
    x0, y0, x1, y1 = change.boxes.unbind(1)
    flip, down, swap = change.switches()
    width, height = torch.where(flip, x0 - x1, x1 - x0), torch.where(down, y0 - y1, y1 - y0)
    affine = torch.zeros(B, 2, 3)
    affine[:, 0, 0], affine[:, 0, 1] = torch.where(swap, 0.0, width), torch.where(swap, width, 0.0)
    affine[:, 1, 0], affine[:, 1, 1] = torch.where(swap, height, 0.0), torch.where(swap, 0.0, height)
    affine[:, 0, 2], affine[:, 1, 2] = x0 + x1 - 1, y0 + y1 - 1
    grid = F.affine_grid(affine.to(maps.device), [B, C, *size], align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _each(factors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return factors.to(images.device)[:, None, None, None]


def _hue_turns(turn: torch.Tensor) -> torch.Tensor:
    """Rotations of the chroma plane by `turn` full circles, as float32 (B, 3, 3) on RGB."""
    to_yiq = torch.tensor([GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)], device=turn.device)
    angle = 2 * torch.pi * turn
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    return torch.linalg.inv(to_yiq) @ rotation @ to_yiq


def _blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with a width per image, as two one-dimensional grouped convolutions over the blurred images."""
    chosen = torch.nonzero(sigma > 0).flatten()
    if not len(chosen):
        return images
    picked = images[chosen.to(images.device)]
    B, C, H, W = picked.shape
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (offsets / sigma[chosen][:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(C, 0).to(images.device)  # (B*C, taps)
    stacked = picked.reshape(1, B * C, H, W)
    stacked = F.pad(stacked, (BLUR_RADIUS,) * 4, mode="replicate")
    stacked = F.conv2d(stacked, kernels[:, None, None, :], groups=B * C)
    stacked = F.conv2d(stacked, kernels[:, None, :, None], groups=B * C)
    return images.index_copy(0, chosen.to(images.device), stacked.view(B, C, H, W))
