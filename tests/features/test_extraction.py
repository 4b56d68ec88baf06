import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pipeline.errors import InputError, ParamsError
from pipeline.features.extraction import Images, Load, extract_features
from pipeline.features.pooling import pool_cells
from pipeline.features.shards import read_shard
from pipeline.features.store import FeatureStore
from pipeline.params import ExtractParams

LOG = logging.getLogger("fs4.test")
D = 6
SIZES = [(32, 32), (32, 64), (32, 32), (64, 32), (32, 32), (32, 32), (32, 64), (32, 32), (32, 32), (32, 32), (32, 32)]
KEYS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(11)]
IMAGES = Images([f"i{n:02d}.png" for n in range(11)], KEYS, SIZES, [n % 4 != 3 for n in range(11)])


def params_with(**changes: Any) -> ExtractParams:
    values = {
        "levels": [1, 2, 3],
        "mode": "pool",
        "source": "decoder",
        "pca": 0,
        "batch_size": 2,
        "shard_images": 3,
        "precision": "fp32",
        "max_bad_fraction": 0.0,
    }
    return ExtractParams.model_validate(values | changes)


def frame(index: int) -> torch.Tensor:
    rng = np.random.default_rng(index)
    return torch.from_numpy(rng.integers(0, 256, (3, *SIZES[index]), dtype=np.uint8))


def load(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    for batch in batches:
        yield batch, torch.stack([frame(index) for index in batch])


def load_some(indices: list[int]) -> Load:
    """The same for images that are numbered otherwise."""
    return lambda batches: ((batch, torch.stack([frame(indices[position]) for position in batch])) for batch in batches)


def encode(batch: torch.Tensor) -> torch.Tensor:
    weight = torch.from_numpy(np.random.default_rng(9).normal(size=(D, 3, 8, 8))).float()
    return torch.nn.functional.conv2d(batch.float() / 255, weight, stride=8).relu()


class Run(NamedTuple):
    rows: dict[str, int]
    counts: dict[str, int]
    files: dict[str, str]
    out: Path


class Extraction:
    """Runs extractions below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        name: str,
        *,
        images: Images = IMAGES,
        load: Load = load,
        encode: Callable[[torch.Tensor], torch.Tensor] = encode,
        check_stop: Callable[[], None] = lambda: None,
        **changes: Any,
    ) -> Run:
        out, scratch = self.folder / name, self.folder / f"{name}.scratch"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        rows, counts = extract_features(
            images,
            load,
            encode,
            dimension=D,
            params=params_with(**changes),
            out=out,
            store=FeatureStore(scratch),
            metadata={"backbone": "abc"},
            check_stop=check_stop,
            log=LOG,
        )
        files = {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*.parquet"))
        }
        return Run(rows, counts, files, out)


@pytest.fixture
def extract(tmp_path: Path) -> Extraction:
    return Extraction(tmp_path)


def level_of(run: Run, level: int) -> tuple[list[str], np.ndarray]:
    shards = [read_shard(path) for path in sorted((run.out / f"level={level}").glob("*.parquet"))]
    return [name for shard in shards for name in shard.image_ids], np.concatenate([s.vectors for s in shards])


def expected_vectors(level: int) -> np.ndarray:
    raw = np.stack([pool_cells(encode(frame(n)[None]), level)[0].numpy() for n in range(11)]).astype(np.float64)
    centred = raw - raw[np.array(IMAGES.is_train)].reshape(-1, D).mean(axis=0)
    return centred / np.linalg.norm(centred, axis=2, keepdims=True)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_pools_centres_on_train_and_normalises(extract: Extraction, level: int) -> None:
    run = extract("a")
    ids, vectors = level_of(run, level)
    assert ids == list(IMAGES.ids)
    np.testing.assert_allclose(vectors, expected_vectors(level), atol=2e-3)
    assert run.counts == {"images": 11, "cells": 11 * 14, "bad": 0, "zero vectors": 0}
    assert run.rows["level=3/part-00003.parquet"] == 18
    assert sorted(run.rows) == list(run.files)


def test_boxes_are_of_each_image_s_own_frame(extract: Extraction) -> None:
    shard = read_shard(extract("a").out / "level=2" / "part-00000.parquet")
    assert shard.boxes[1, 3].tolist() == [16, 32, 32, 64]
    assert shard.boxes[2, 3].tolist() == [16, 16, 32, 32]
    assert shard.metadata == {"backbone": "abc", "dimension": D, "level": 2}


@pytest.mark.parametrize("changes", [{}, {"mode": "crop", "levels": [1, 2]}, {"pca": 4}])
def test_same_bytes_again_and_after_an_interruption(extract: Extraction, changes: dict[str, Any]) -> None:
    whole = extract("whole", **changes)
    assert extract("again", **changes).files == whole.files
    encoded: list[int] = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        encoded.append(len(batch))
        return encode(batch)

    for limit in (3, 3):  # stop twice, in the middle of a file of the store

        def stop(first: int = len(encoded), limit: int = limit) -> None:
            if len(encoded) - first >= limit * (5 if changes.get("mode") == "crop" else 1):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extract("resumed", encode=counted, check_stop=stop, **changes)
        assert not list(extract.folder.glob("resumed/**/*.parquet"))
    before = len(encoded)
    resumed = extract("resumed", encode=counted, **changes)
    assert resumed.files == whole.files
    assert len(encoded) - before < before


def test_half_written_and_damaged_shards_are_encoded_again(extract: Extraction) -> None:
    whole = extract("a")
    scratch = extract.folder / "a.scratch"
    (scratch / "raw-00001.npy").write_bytes((scratch / "raw-00001.npy").read_bytes()[:200])
    (scratch / "raw-00002.sha256").unlink()
    encoded: list[int] = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        encoded.extend([1] * len(batch))
        return encode(batch)

    assert extract("a", encode=counted).files == whole.files
    assert len(encoded) == 8  # seven images, of two shapes


def test_new_images_cost_only_their_own_features_and_change_nothing(extract: Extraction) -> None:
    def chosen(indices: list[int]) -> Images:
        return Images(*([values[index] for index in indices] for values in (IMAGES.ids, KEYS, SIZES, IMAGES.is_train)))

    encoded: list[int] = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        encoded.append(len(batch))
        return encode(batch)

    new, old = [1, 8], [n for n in range(11) if n not in (1, 8)]
    extract("grown", images=chosen(old), load=load_some(old))
    grown = extract("grown", encode=counted)
    assert encoded == [2, 2]  # of two shapes, filled up
    assert grown.files == extract("whole").files
    # another share of train images, and fewer of them: what is known is enough
    fewer = chosen([*new, 3])
    again = extract("grown", images=fewer, encode=lambda batch: pytest.fail("worked"))
    assert again.files == extract("alone", images=fewer, load=load_some([*new, 3])).files


def test_equal_files_are_encoded_once(extract: Extraction) -> None:
    twins = Images(["a", "b", "c"], [KEYS[0], KEYS[2], KEYS[0]], [(32, 32)] * 3, [True] * 3)
    encoded: list[int] = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        encoded.append(len(batch))
        return encode(batch)

    _, vectors = level_of(extract("a", images=twins, load=load_some([0, 2, 0]), encode=counted), 2)
    assert encoded == [2]
    np.testing.assert_array_equal(vectors[0], vectors[2])


def test_shard_size_changes_files_only(extract: Extraction) -> None:
    ids, vectors = level_of(extract("a"), 2)
    other_ids, other = level_of(extract("b", shard_images=100), 2)
    assert ids == other_ids
    np.testing.assert_allclose(vectors, other, atol=1e-3)


def bad_at(values: dict[int, float]) -> Callable[[torch.Tensor], torch.Tensor]:
    means = {float(frame(index).float().mean()): value for index, value in values.items()}

    def faulty(batch: torch.Tensor) -> torch.Tensor:
        features = encode(batch)
        for position, image in enumerate(batch):
            if (value := means.get(float(image.float().mean()))) is not None:
                features[position, 2, 0, 0] = value
        return features

    return faulty


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_features_stop_the_run(extract: Extraction, value: float) -> None:
    with pytest.raises(InputError, match=r"i05\.png are not finite at level 1 .*1 of 11 images.*precision: fp32"):
        extract("a", encode=bad_at({5: value}))


def test_tolerated_bad_images_become_zeros_and_do_not_touch_the_mean(extract: Extraction) -> None:
    run = extract("a", encode=bad_at({5: float("nan")}), max_bad_fraction=0.1)
    assert (run.counts["bad"], run.counts["zero vectors"]) == (1, 14)
    _, vectors = level_of(run, 2)
    assert not vectors[5].any()
    assert np.isfinite(vectors).all()
    others = Images(IMAGES.ids, KEYS, SIZES, [train and n != 5 for n, train in enumerate(IMAGES.is_train)])
    _, expected = level_of(extract("b", images=others), 2)
    np.testing.assert_array_equal(np.delete(vectors, 5, 0), np.delete(expected, 5, 0))


def test_bad_images_of_an_interrupted_run_count(extract: Extraction) -> None:
    def stop() -> None:
        if (extract.folder / "a.scratch" / "raw-00000.sha256").exists():
            raise KeyboardInterrupt

    faulty = bad_at({1: float("nan"), 9: float("inf")})
    with pytest.raises(KeyboardInterrupt):
        extract("a", encode=faulty, check_stop=stop, max_bad_fraction=0.1)
    with pytest.raises(InputError, match="2 of 11 images"):
        extract("a", encode=faulty, max_bad_fraction=0.1)


def test_a_dead_backbone_gives_zero_vectors(extract: Extraction) -> None:
    run = extract("a", encode=lambda batch: torch.zeros(len(batch), D, 4, 4))
    assert run.counts["zero vectors"] == 11 * 14
    assert not level_of(run, 1)[1].any()


def test_needs_a_train_image(extract: Extraction) -> None:
    with pytest.raises(InputError, match="no usable train image"):
        extract("a", images=Images(IMAGES.ids, KEYS, SIZES, [False] * 11))


def test_more_components_than_channels(extract: Extraction) -> None:
    with pytest.raises(ParamsError, match=r"extract\.pca: 7 .* 6 channels"):
        extract("a", pca=7)


def test_too_little_disk_space_is_said_before_any_work(extract: Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2000))
    with pytest.raises(InputError, match=r"MB are needed .* 0\.0 MB are free"):
        extract("a", encode=lambda batch: pytest.fail("worked"))


def test_frames_in_another_order_are_refused(extract: Extraction) -> None:
    def shuffled(batches: list[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
        return load(batches[::-1])

    with pytest.raises(ValueError, match="asked for the frames"):
        extract("a", load=shuffled)
