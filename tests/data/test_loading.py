import itertools
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data import loading
from pipeline.data.frames import Frame, to_frame
from pipeline.data.loading import FrameDataset, load_batches, ordered_batches, shape_batches
from pipeline.data.manifest import ImageRow, ImageTable
from pipeline.errors import InputError, PipelineError
from pipeline.runtime.digests import file_digest

FRAME_BYTES = 3 * 32 * 32


def image_table(folder: Path, sizes: list[tuple[int, int]], crop: str = "none") -> ImageTable:
    rows = []
    for number, (height, width) in enumerate(sizes):
        path = folder / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        rows.append(ImageRow(path.name, "train", str(path), width, height, file_digest(path), "ok"))
    return ImageTable(rows, Frame(32, crop), max_pixels=10**6, min_side=1)


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    return image_table(tmp_path, [(32, 40), (64, 140), (33, 33), (32, 64), (90, 30)])


def everything(table: ImageTable, cache_bytes: int = 0) -> FrameDataset:
    return FrameDataset(table.select(None), table, cache_bytes)


def test_frames_are_the_framed_images(table):
    dataset = everything(table)
    assert len(dataset) == 5
    assert dataset.sizes == [(32, 32), (32, 64), (32, 32), (32, 64), (96, 32)]
    for index, row in enumerate(table.rows):
        frame = dataset[index]
        assert frame.dtype == torch.uint8
        assert tuple(frame.shape) == (3, *dataset.sizes[index])
        expected = to_frame(np.asarray(Image.open(row.path)), table.frame)
        np.testing.assert_array_equal(frame.numpy(), expected)


def test_the_cache_keeps_what_fits_and_changes_nothing(table):
    plain, cached = everything(table), everything(table, 2 * FRAME_BYTES + 10)
    for _ in range(2):
        for index in range(5):
            frame = cached[index]
            assert torch.equal(frame, plain[index])
            frame.zero_()  # the caller's own: the cache must not see it
    assert cached.holds([0, 2])
    assert not any(cached.holds([index]) for index in (1, 3, 4))
    Path(table.rows[0].path).unlink()
    assert cached[0].any()  # from memory, the file is gone


def test_a_file_that_changed_or_went_is_named(table):
    changed, gone = Path(table.rows[1].path), Path(table.rows[2].path)
    changed.write_bytes(changed.read_bytes() + b" ")
    gone.unlink()
    dataset = everything(table)
    with pytest.raises(InputError, match=r"1\.png: the file has changed since prepare.*dvc repro"):
        dataset[1]
    with pytest.raises(InputError, match=r"2\.png: cannot be read any more since prepare.*dvc repro"):
        dataset[2]


SIZES = st.lists(st.sampled_from([(32, 32), (32, 64), (64, 32)]), max_size=40)


@given(SIZES, st.integers(1, 7), st.one_of(st.none(), st.integers(0, 100)), st.integers(1, 3))
def test_each_image_is_in_one_batch_of_its_shape(sizes, batch_size, seed, smallest):
    rng = None if seed is None else np.random.default_rng(seed)
    batch_size = max(batch_size, smallest)
    batches = shape_batches(sizes, batch_size, rng, smallest=smallest)
    held = [index for batch in batches for index in batch]
    assert len(held) == len(set(held))
    left_out = set(range(len(sizes))) - set(held)
    assert left_out == {i for i, size in enumerate(sizes) if sizes.count(size) < smallest}
    for batch in batches:
        assert len({sizes[index] for index in batch}) == 1
        assert smallest <= len(batch) < batch_size + smallest
    if seed is None:
        assert batches == sorted(batches)
        assert all(batch == sorted(batch) for batch in batches)
    else:
        again = shape_batches(sizes, batch_size, np.random.default_rng(seed), smallest=smallest)
        assert batches == again


def test_a_small_rest_joins_the_batch_before():
    sizes = [(32, 32)] * 7 + [(32, 64)]
    assert shape_batches(sizes, 3, None) == [[0, 1, 2], [3, 4, 5], [6], [7]]
    assert shape_batches(sizes, 3, None, smallest=2) == [[0, 1, 2], [3, 4, 5, 6]]
    with pytest.raises(ValueError, match="batches of 1"):
        shape_batches(sizes, 1, None, smallest=2)


@given(SIZES, st.integers(1, 7))
def test_ordered_batches_keep_the_order_and_are_as_full_as_it_allows(sizes, batch_size):
    batches = ordered_batches(sizes, batch_size)
    assert [index for batch in batches for index in batch] == list(range(len(sizes)))
    for batch, following in itertools.pairwise(batches):
        assert len(batch) == batch_size or sizes[batch[0]] != sizes[following[0]]
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len({sizes[index] for index in batch}) == 1


def test_shuffling_mixes_images_and_shapes():
    sizes = [(32, 32)] * 50 + [(32, 64)] * 50
    batches = shape_batches(sizes, 5, np.random.default_rng(0))
    shapes = [sizes[batch[0]] for batch in batches]
    assert shapes != sorted(shapes)
    assert any(max(batch) - min(batch) > 5 for batch in batches)


def collect(dataset: FrameDataset, batches: list[list[int]], workers: int) -> list:
    return [(batch, frames.clone()) for batch, frames in load_batches(dataset, batches, workers=workers)]


def assert_equal(one: list, other: list) -> None:
    assert [batch for batch, _ in one] == [batch for batch, _ in other]
    for (_, frames), (_, others) in zip(one, other, strict=True):
        assert frames.dtype == torch.uint8
        assert torch.equal(frames, others)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_workers_and_caches_change_no_byte(table):
    dataset = everything(table)
    batches = shape_batches(dataset.sizes, 2, np.random.default_rng(0))
    expected = [(batch, torch.stack([dataset[index] for index in batch])) for batch in batches]
    assert_equal(collect(dataset, batches, 0), expected)
    cached = everything(table, 4 * FRAME_BYTES)  # room for any one batch, not for all
    assert_equal(collect(cached, batches, 2), expected)
    assert {cached.holds(batch) for batch in batches} == {True, False}
    assert_equal(collect(cached, batches, 2), expected)  # now partly from memory


def test_frames_in_memory_need_no_workers(table, monkeypatch):
    dataset = everything(table, 10**6)
    batches = shape_batches(dataset.sizes, 2, None)
    expected = collect(dataset, batches, 0)
    monkeypatch.setattr(loading, "DataLoader", None)
    assert_equal(collect(dataset, batches, 2), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_come_through_without_a_workers_traceback(table, workers):
    Path(table.rows[2].path).write_bytes(b"other")
    with pytest.raises(InputError) as caught:
        collect(everything(table), [[1], [0, 2], [3]], workers)
    assert str(caught.value).startswith(table.rows[2].path)
    assert "Traceback" not in str(caught.value)


def test_no_batches_are_no_error(table):
    assert collect(everything(table), [], 0) == []
    assert collect(everything(table), [], 2) == []


def test_leaving_early_ends_the_loading(table):
    batches = [[0], [1], [2]]
    loaded = load_batches(everything(table), batches, workers=0)
    next(loaded)
    loaded.close()
    with pytest.raises(StopIteration):
        next(loaded)


class KillingDataset(FrameDataset):
    """Stands for a system that kills a worker for want of memory."""

    def __getitem__(self, index: int) -> torch.Tensor:
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_worker_is_explained(table):
    dataset = KillingDataset(table.select(None), table, 0)
    with pytest.raises(PipelineError, match=r"run.workers 1: .*killed.*/dev/shm.*fewer workers"):
        collect(dataset, [[0], [1]], 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_frames_for_cuda_come_page_locked_and_others_as_they_are(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    locked: list[int] = []
    asked: list[bool] = []

    def lock(device: torch.device, frames: torch.Tensor) -> torch.Tensor:
        locked.extend([len(frames)] * (device.type == "cuda"))
        return frames

    class Loader(loading.DataLoader[torch.Tensor]):
        def __init__(self, *arguments: Any, pin_memory: bool, **settings: Any) -> None:
            asked.append(pin_memory)
            super().__init__(*arguments, **settings)  # torch warns where there is nothing to lock for

    monkeypatch.setattr(loading, "lock_pages", lock)
    monkeypatch.setattr(loading, "DataLoader", Loader)
    for device in ("cpu", "cuda"):
        batches = load_batches(everything(table), [[0], [1]], workers=workers, device=torch.device(device))
        assert [batch for batch, _ in batches] == [[0], [1]]
    assert locked == ([] if workers else [1, 1])
    assert asked == ([False, True] if workers else [])
