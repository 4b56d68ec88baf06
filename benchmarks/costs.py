"""What large data sets would cost: the rates of this machine, times their numbers of images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Row
from benchmarks.samples import write_photos
from pipeline.data.frames import Frame
from pipeline.data.reading import read_frame
from pipeline.doctor.costs import estimate_costs, measure_rates
from pipeline.params import load_params

SETS = {"COCO-Stuff": (123_287, 118_287), "Cityscapes": (3_475, 2_975), "a million photos": (1_000_000, 1_000_000)}
SOURCE = (480, 640)  # of the JPEG files
FRAME = 160  # side of the square frames
CORES = 2
HOUR, GIGABYTE = 3600.0, 1e9


def measure_rows() -> list[Row]:
    """Hours of processor by stage, on `CORES` idle cores; and gigabytes of disk by what takes them."""
    params = load_params()
    rates = measure_rates(params, (FRAME, FRAME), _decode())
    rows = []
    for name, (images, train) in SETS.items():
        costs = estimate_costs(params, images, train, (FRAME, FRAME), rates)
        total = sum(costs.seconds.values()) / CORES / HOUR
        rows.append(Row(f"{name}, {images:,} images: these five stages", "–", total, 0.0, "h", total))
        for stage, seconds in costs.seconds.items():
            hours = seconds / CORES / HOUR
            rows.append(Row(f"… `{stage}`", "all of them", hours, total, "h", hours / total))
        disk = sum(costs.bytes.values()) / GIGABYTE
        for what, size in costs.bytes.items():
            rows.append(Row(f"… disk: {what}", "all of it", size / GIGABYTE, disk, "GB", size / GIGABYTE / disk))
    return rows


def _decode() -> float:
    """Processor seconds to read and frame a photo."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_photos(Path(folder), 12, *SOURCE, Frame(FRAME, "center"))
        read_frame(table.rows[0], table)
        begin = time.process_time()
        for row in table.rows:
            read_frame(row, table)
        return (time.process_time() - begin) / len(table.rows)
