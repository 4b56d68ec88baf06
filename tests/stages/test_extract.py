import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.backbones.encoder import build_encoder, save_encoder
from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, write_images
from pipeline.features.store import FeatureStore
from pipeline.params import ExtractParams
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.runtime.digests import file_digest
from pipeline.runtime.interrupts import StopSignal
from pipeline.runtime.stage import Stage
from stages.extract import BACKBONE, IMAGES, extract
from tests.run_params import run_params

Run = Callable[..., dict[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Run:
    """Extracts some of the images 0, 1… with random weights; returns the digests of the shards."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)

    def draw(index: int) -> ImageRow:
        path = Path(f"{index}.png")
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64 + 32 * (index % 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return ImageRow(path.name, "train", path.name, pixels.shape[1], 64, sha256, "ok")

    def extract_images(
        indices: Sequence[int],
        *,
        keep: bool = True,
        seed: int = 0,
        resize: int = 64,
        mode: str = "pool",
        gb: float = 1,
        spare: bool = False,
        gpu: str = "",
    ) -> dict[str, str]:
        monkeypatch.setattr(
            "pipeline.features.store.describe_device", lambda device: {"type": device.type, "name": gpu}
        )
        Path(IMAGES).parent.mkdir(parents=True, exist_ok=True)
        write_images(Path(IMAGES), ImageTable([draw(index) for index in indices], Frame(resize, "none"), 10**6, 1))
        with create_artifact(Path(BACKBONE)) as writer:
            save_encoder(build_encoder("resnet18", 8, seed), writer.path, {"train_images": len(indices)})
        values = {"levels": [1, 2], "mode": mode, "source": "decoder", "pca": 0, "batch_size": 4}
        values |= {"shard_images": 3, "precision": "fp32", "max_bad_fraction": 0.0}
        params = SimpleNamespace(extract=ExtractParams.model_validate(values))
        settings = run_params(keep_features=keep, keep_features_gb=gb, spare_memory=spare)
        backbone = {BACKBONE: open_artifact(Path(BACKBONE))}
        with create_artifact(Path("data/features")) as out:
            # the backbone's manifest says how many images it saw; what is noted in the shards must not hide the rest
            out.notes |= {"inputs": {BACKBONE: "same"}, "versions": {}, "machine": {}}
            log = logging.getLogger("test")
            extract(Stage("extract", params, settings, backbone, out, tmp_path / "scratch", StopSignal(), log))
        return {path.as_posix(): file_digest(path) for path in sorted(Path("data/features").rglob("*.parquet"))}

    return extract_images


def test_new_images_give_the_same_as_a_run_from_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run([1, 2, 4, 7])
    assert "known" not in caplog.text
    grown = run([0, 1, 2, 3, 4, 7, 9])
    assert "the features of 4 of 7 images are known" in caplog.text
    fewer = run([2, 3, 9])
    assert "the features of 3 of 3 images are known" in caplog.text
    caplog.clear()
    assert run([0, 1, 2, 3, 4, 7, 9], keep=False) == grown
    assert "known" not in caplog.text
    remove(Path("scratch"))
    assert run([2, 3, 9], keep=False) == fewer


OTHERS: list[dict[str, Any]] = [{"seed": 1}, {"resize": 32}, {"mode": "crop"}]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were encoded, by file of the stores."""
    numbers = []
    add = FeatureStore.add

    def count(store: FeatureStore, keys: Sequence[str], vectors: np.ndarray) -> None:
        numbers.append(len(keys))
        add(store, keys, vectors)

    monkeypatch.setattr(FeatureStore, "add", count)
    return numbers


def test_features_of_other_backbones_frames_and_parameters_are_kept_side_by_side(run: Run, encoded: list[int]) -> None:
    first = run([0, 1])
    others = [run([0, 1], **other) for other in OTHERS]
    assert len({str(found) for found in [first, *others]}) == 4
    assert sum(encoded) == 8
    assert run([0, 1]) == first
    assert [run([0, 1], **other) for other in OTHERS] == others
    assert sum(encoded) == 8
    grown = run([0, 1, 2])  # as if there had been nothing in between
    assert sum(encoded) == 9
    assert run([0, 1, 2], keep=False) == grown
    assert sum(encoded) == 12


def test_beyond_the_limit_the_features_used_longest_ago_go(run: Run, encoded: list[int]) -> None:
    run([0, 1])
    size = sum(path.stat().st_size for path in Path(".fs4/features").glob("*/*"))
    run([0, 1], seed=1)
    run([0, 1])  # used again, so that those of seed 1 go
    run([0, 1], seed=2, gb=2.5 * size / 1e9)
    assert sum(encoded) == 6
    run([0, 1])
    run([0, 1], seed=2)
    assert sum(encoded) == 6
    run([0, 1], seed=1)
    assert sum(encoded) == 8
    run([0, 1], gb=0)
    assert len(list(Path(".fs4/features").iterdir())) == 1


def test_another_kind_of_device_starts_from_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run([0, 1], gpu="T4")
    run([0, 1], gpu="H100")
    assert "known" not in caplog.text
    run([0, 1, 2], gpu="H100")
    assert "the features of 2 of 3 images are known" in caplog.text


def test_a_run_that_spares_memory_goes_on_and_leaves_nothing_to_others(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run([0, 1])
    run([0, 1, 2], spare=True)
    assert "the features of 2 of 3 images are known" in caplog.text
    run([0, 1, 2, 3], spare=True)
    assert "the features of 3 of 4 images are known" in caplog.text
    caplog.clear()
    run([0, 1, 2, 3])
    assert "known" not in caplog.text


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
