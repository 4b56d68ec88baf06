"""What large data sets would cost: the rates of this machine, and for a GPU counted operations, times their images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import Cost
from benchmarks.samples import write_photos
from pipeline.data.frames import Frame
from pipeline.data.reading import read_frame
from pipeline.doctor.costs import Rates, build_networks, estimate_costs, measure_rates
from pipeline.params import Params, load_params

SETS = {"COCO-Stuff": (123_287, 118_287), "Cityscapes": (3_475, 2_975), "a million photos": (1_000_000, 1_000_000)}
SOURCE = (480, 640)  # of the JPEG files
FRAME = 160  # side of the square frames
CORES = 2
# The GPU is assumed, not measured: a fifth of the 312 TFLOP/s that an A100 is said to reach in dense bfloat16, in
# batches that fill it, and beside it cores like this one for decoding and k-means.
SUSTAINED = 0.2 * 312e12  # FLOP/s
HOST_CORES = 8
HOUR, GIGABYTE = 3600.0, 1e9


def measure_rows() -> list[Cost]:
    """Hours and gigabytes by stage, and of all, for each data set."""
    params = load_params()
    rates = measure_rates(params, (FRAME, FRAME), _decode())
    on_gpu = estimate_gpu(rates, params)
    rows = []
    for name, (images, train) in SETS.items():
        on_cores = estimate_costs(params, images, train, (FRAME, FRAME), rates)
        gpu_seconds = estimate_costs(params, images, train, (FRAME, FRAME), on_gpu).seconds
        title = f"{name}, {images:,} images"
        stages = [
            Cost(
                title,
                f"`{stage}`",
                seconds / CORES / HOUR,
                gpu_seconds[stage] / HOUR,
                sum(on_cores.bytes[stage].values()) / GIGABYTE,
            )
            for stage, seconds in on_cores.seconds.items()
        ]
        hours, gpu_hours = sum(row.hours for row in stages), sum(row.gpu_hours for row in stages)
        rows += [*stages, Cost(title, "all of these", hours, gpu_hours, sum(row.gigabytes for row in stages))]
    return rows


def estimate_gpu(rates: Rates, params: Params) -> Rates:
    """Rates of a host with one GPU: the networks' operations at `SUSTAINED`, and `HOST_CORES` cores for the rest.

    Counted are matrix products and convolutions; what else a network does is within the share that is not reached.
    """
    encoder, segmenter = build_networks(params)
    view, frame = params.pretrain.view_size, FRAME
    return replace(
        rates,
        device="a GPU, estimated",
        decode=rates.decode / HOST_CORES,
        distance=rates.distance / HOST_CORES,
        pretext=_count(encoder, params.data.channels, view, True) / SUSTAINED,
        train=_count(segmenter.embed, params.data.channels, frame, True) / SUSTAINED,
        forward=_count(segmenter.embed, params.data.channels, frame, False) / SUSTAINED,
    )


def _count(network: Callable[[torch.Tensor], torch.Tensor], channels: int, side: int, grad: bool) -> float:
    """Floating-point operations for one image, of two in a batch."""
    images = torch.rand(2, channels, side, side)
    with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
        total = network(images).float().square().mean()
        if grad:
            total.backward()
    return counter.get_total_flops() / len(images)


def _decode() -> float:
    """Processor seconds to read and frame a photo."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_photos(Path(folder), 12, *SOURCE, Frame(FRAME, "center"))
        read_frame(table.rows[0], table)
        begin = time.process_time()
        for row in table.rows:
            read_frame(row, table)
        return (time.process_time() - begin) / len(table.rows)
