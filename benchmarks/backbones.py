"""Counts and times the backbones with their decoders on one thread: `python -m benchmarks.backbones`."""

from __future__ import annotations

import time

import torch

from pipeline.backbones.encoder import BACKBONES, PATCHES, Encoder, build_encoder

CHANNELS = 128
SIDES = (128, 320)
BATCH = 2
REPEATS = 3


def measure(encoder: Encoder, side: int, *, backward: bool) -> float:
    """Milliseconds of processor time per image, of the fastest of some calls after one to warm up.

    Args:
        encoder: Backbone and decoder.
        side: Side of the square images in pixels.
        backward: Whether the gradients of all weights are computed as well.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, side, side, generator=rng).contiguous(memory_format=torch.channels_last)
    taken = []
    for _ in range(REPEATS + 1):
        begin = time.process_time()  # other programs on the machine do not count
        with torch.set_grad_enabled(backward):
            total = encoder(images).square().mean()
        if backward:
            total.backward()
        taken.append(time.process_time() - begin)
    return min(taken[1:]) / BATCH * 1000


def main() -> None:
    """Print the table of docs/backbones.md."""
    torch.set_num_threads(1)
    sizes = [f"{side} px{what}" for side in SIDES for what in ("", ", training")]
    print("| backbone | parameters | decoder | strides of its maps | channels | " + " | ".join(sizes) + " |")
    print("|---|---|---|---|---|" + "---|" * len(sizes))
    for name in (*BACKBONES, *PATCHES):
        encoder = build_encoder(name, CHANNELS, seed=0).to(memory_format=torch.channels_last)
        weights = [
            f"{sum(weight.numel() for weight in part.parameters()) / 1e6:.1f} M"
            for part in (encoder.backbone, encoder.decoder)
        ]
        maps = [", ".join(map(str, values)) for values in (encoder.backbone.strides, encoder.backbone.widths)]
        times = [f"{measure(encoder, side, backward=backward):.0f}" for side in SIDES for backward in (False, True)]
        print("| " + " | ".join([f"`{name}`", *weights, *maps, *times]) + " |")


if __name__ == "__main__":
    main()
