"""Records of baselines, written by hand."""

from pathlib import Path

from pipeline.runtime.artifacts import write_json


def make_record(preset="picie", seed=0, miou=20.0, **changes):
    """A record of a run as plain values; the other figures follow from mIoU, and `drawn` is the mean over draws."""
    drawn = changes.pop("drawn", miou - 1.0)
    record = {
        "name": f"sample-{preset.replace('+', '-')}-s{seed}",
        "preset": preset,
        "seed": seed,
        "data": "sample",
        "split": "val",
        "metrics": {
            "all": {"miou": miou, "pixel_accuracy": 2 * miou},
            "things": {"miou": miou / 2, "pixel_accuracy": miou},
            "stuff": {"miou": 1.5 * miou, "pixel_accuracy": 2.5 * miou},
            "majority": {"miou": miou + 3, "pixel_accuracy": 2 * miou + 5},
            "per_class": {"sky": 2 * miou, "car": miou / 2, "road": miou},
            "clusters": {"k": 9, "used": 9},
            "protocol": {"resolution": 128, "images": 50, "pixels": 819200},
            "floors": {
                "random": {"miou": 5.4, "pixel_accuracy": 11.2},
                "colour_position_kmeans": {"miou": 16.7, "pixel_accuracy": 31.0, "miou_sd": 0.3},
            },
        },
        "seconds": {"train": 100.0 + seed, "pretrain": 60.0},
        "protocol": {"split": "val", "match_rule": "hungarian", "frame": "short side 128 px"},
        "versions": {"torch": "2.14.1"},
        "command": f"dvc exp run $(fs4 preset {preset}) -S pretrain.seed={seed} -S train.seed={seed}",
    }
    if drawn is not None:
        record["metrics"]["draws"] = {
            "count": 5,
            "miou_mean": drawn,
            "miou_sd": 0.5,
            "pixel_accuracy_mean": 2 * drawn,
            "things_miou_mean": drawn / 2,
            "stuff_miou_mean": 1.5 * drawn,
        }
    return record | changes


def write_records(folder: Path, *records: dict) -> Path:
    """Write records as files of their names."""
    for record in records:
        write_json(folder / f"{record['name']}.json", record)
    return folder
