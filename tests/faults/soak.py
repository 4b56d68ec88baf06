"""Trains and evaluates again and again in one process: `python -m tests.faults.soak --cycles 200 --out FILE`.

Memory, open files and threads must not grow once the first cycles have loaded what there is to load.
"""

import argparse
import gc
import hashlib
import json
import logging
import resource
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.loading import FrameDataset, load_batches, ordered_batches
from pipeline.data.manifest import (
    ImageRow,
    ImageTable,
    TruthRow,
    TruthTable,
    read_images,
    read_truth,
    write_images,
    write_truth,
)
from pipeline.evaluation.evaluate import evaluate_segmenter
from pipeline.evaluation.truth import open_truth
from pipeline.params import load_params
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.segmentation.inference import segment_batches
from pipeline.segmentation.model import load_segmenter, save_segmenter
from tests.segmentation.conftest import run_training

SIDE = 32
CLASSES = '{"classes": [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}]}'
EVALUATE = load_params(Path(__file__).parents[2] / "params.yaml").evaluate.model_copy(
    update={"batch_size": 3, "floor_restarts": 1, "floor_seeds": 1, "gallery": 2, "precision": "fp32"}
)
GROWTH = 1.02  # of memory, between the first and the last measured cycles
SLACK = 8 * 2**20  # bytes: what an allocator may keep


@dataclass(frozen=True)
class Use:
    """What the process holds after a cycle."""

    bytes: int
    files: int
    threads: int


def measure() -> Use:
    """The use now, after everything unreachable was freed."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Use(pages * resource.getpagesize(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count())


def write_data(folder: Path) -> None:
    """Six images with masks, as stage `prepare` leaves them."""
    rows, masks = [], []
    for number in range(6):
        split = "train" if number < 4 else "val"
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[:, 8 + 2 * number :] = 1
        image, place = folder / f"{number}.png", folder / f"{number}-mask.png"
        Image.fromarray(np.repeat(mask[:, :, None] * 150 + 40, 3, 2).astype(np.uint8)).save(image)
        Image.fromarray(mask).save(place)
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (image, place)]
        rows.append(ImageRow(f"{split}/{number}.png", split, str(image), SIDE, SIDE, digests[0], "ok"))
        masks.append(TruthRow(f"{split}/{number}.png", split, str(place), digests[1]))
    write_images(folder / "images.parquet", ImageTable(rows, Frame(SIDE, "center"), 10**6, 1))
    write_truth(folder / "truth.parquet", TruthTable(masks, CLASSES))


def run_cycle(folder: Path, seed: int) -> float:
    """Train, write, read, segment and score; gives the mIoU."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    (folder / "state").mkdir()
    trained = run_training(folder / "state", epochs=1, seed=seed)
    with create_artifact(folder / "segmenter") as writer:
        save_segmenter(trained.segmenter, writer.path, {})
    segmenter = load_segmenter(open_artifact(folder / "segmenter"))
    table = read_images(folder / "images.parquet")
    truth = open_truth(table, read_truth(folder / "truth.parquet"), EVALUATE.split, EVALUATE.unknown_ids)
    dataset = FrameDataset(table.select(None), table, 10**6)
    batches = load_batches(dataset, ordered_batches(dataset.sizes, EVALUATE.batch_size), workers=0)
    with create_artifact(folder / "evaluation") as writer:
        metrics = evaluate_segmenter(
            segment_batches(
                segmenter, batches, device=torch.device("cpu"), precision="fp32", draws=None, drawn=frozenset()
            ),
            table=table,
            truth=truth,
            k=segmenter.architecture["k"],
            params=EVALUATE,
            out=writer.path,
            rows=writer.rows,
            frame=lambda index: dataset[index].numpy(),
            log=logging.getLogger("fs4.soak"),
        )
    return float(metrics["all"]["miou"])


def soak(folder: Path, cycles: int) -> list[Use]:
    """Run all cycles; the use after each."""
    write_data(folder)
    used = []
    for seed in range(cycles):
        miou = run_cycle(folder, seed % 4)
        assert 0 <= miou <= 100
        used.append(measure())
    return used


def find_growth(used: list[Use]) -> list[str]:
    """What grew, if anything: the last fifth of the cycles against the second fifth, when all is loaded."""
    fifth = max(1, len(used) // 5)
    early, late = used[fifth : 2 * fifth], used[-fifth:]
    problems = []
    before, after = (int(np.median([use.bytes for use in part])) for part in (early, late))
    if after > GROWTH * before + SLACK:
        problems.append(f"memory grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB")
    for name in ("files", "threads"):
        first, last = (max(getattr(use, name) for use in part) for part in (early, late))
        if last > first:
            problems.append(f"{name} grew from {first} to {last}")
    return problems


def main() -> None:
    """Soak and keep the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        used = soak(Path(folder), given.cycles)
    problems = find_growth(used)
    fifth = used[given.cycles // 5 :]
    summary = {
        "cycles": given.cycles,
        "megabytes": [round(use.bytes / 1e6) for use in (fifth[0], fifth[-1])],
        "files": [fifth[0].files, fifth[-1].files],
        "threads": [fifth[0].threads, fifth[-1].threads],
        "grew": problems,
    }
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, "utf-8")
    print(text, end="")
    if problems:
        raise SystemExit("; ".join(problems))


if __name__ == "__main__":
    main()
