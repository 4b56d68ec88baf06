from collections.abc import Iterator
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch

from pipeline.clustering import gpu
from pipeline.clustering.kmeans import fit_kmeans
from pipeline.labels.knn_probe import KnnProbe
from pipeline.labels.pixels import LabelledPixels

SETTINGS = {"spherical": True, "iterations": 20, "restarts": 3, "seed": 1}


@pytest.fixture(autouse=True)
def _no_gpu_after() -> Iterator[None]:
    yield
    gpu._used.clear()
    gpu._resources.cache_clear()


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)


def pretend(monkeypatch: pytest.MonkeyPatch, moved: list[tuple[int, str]]) -> None:
    """faiss-gpu as its documentation describes it, whose GPU is the CPU."""

    def move(resources: SimpleNamespace, number: int, index: faiss.Index) -> faiss.Index:
        assert resources.limits == [gpu.TEMPORARY]
        moved.append((number, type(index).__name__))
        return index

    def resources() -> SimpleNamespace:
        limits: list[int] = []
        return SimpleNamespace(limits=limits, setTempMemory=limits.append)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "StandardGpuResources", resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move, raising=False)


class NoDevice:
    """A stage whose device nobody needs."""

    @property
    def device(self) -> torch.device:
        return pytest.fail("torch is imported without need")


def test_without_faiss_gpu_no_device_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    gpu.use_device_of(NoDevice())
    gpu.use_device(torch.device("cuda", 0))
    assert not gpu.uses_gpu()
    index = faiss.IndexFlatIP(3)
    assert gpu.place_index(index) is index


def test_kmeans_runs_on_the_device_of_the_stage(monkeypatch: pytest.MonkeyPatch, points: np.ndarray) -> None:
    expected = fit_kmeans(points, 5, **SETTINGS)
    moved: list[tuple[int, str]] = []
    pretend(monkeypatch, moved)
    gpu.use_device_of(SimpleNamespace(device=torch.device("cuda", 1)))
    found = fit_kmeans(points, 5, **SETTINGS)
    assert moved == [(1, "IndexFlatIP")] * SETTINGS["restarts"]
    np.testing.assert_array_equal(found.centroids, expected.centroids)


def test_without_room_on_the_device_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, points: np.ndarray) -> None:
    expected = fit_kmeans(points, 5, **SETTINGS)
    pretend(monkeypatch, [])
    done: list[str] = []

    def refuse(resources: object, number: int, index: faiss.Index) -> faiss.Index:
        done.append("place")
        raise RuntimeError(f"alloc fail type FlatData dev {number} (cudaMalloc error out of memory [2])\nand more")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuse, raising=False)
    monkeypatch.setattr(gpu, "release_memory", lambda: done.append("release"))
    monkeypatch.setattr(gpu.log, "warning", lambda text, *values: done.append(text % values))
    gpu.use_device(torch.device("cuda", 1))
    found = fit_kmeans(points, 5, **SETTINGS)
    np.testing.assert_array_equal(found.centroids, expected.centroids)
    assert done == [
        "release",
        "place",
        "faiss computes on the CPU: cuda:1 has no room for it "
        "(alloc fail type FlatData dev 1 (cudaMalloc error out of memory [2]))",
    ]


def test_neighbours_without_room_on_the_device_are_sought_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, [])

    def refuse(resources: object, number: int, index: faiss.Index) -> faiss.Index:
        assert index.ntotal == 4  # an empty index would find room
        raise RuntimeError("cudaMalloc error out of memory [2]")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", refuse, raising=False)
    gpu.use_device(torch.device("cuda", 0))
    pixels = LabelledPixels(torch.eye(4), torch.arange(4))
    probe = KnnProbe(pixels, 4, count=9, neighbours=1, temperature=0.1, seed=0)
    assert torch.equal(probe.scores(torch.eye(4)[None, :, :, None]).argmax(1)[0, :, 0], torch.arange(4))


def test_other_errors_of_faiss_pass(monkeypatch: pytest.MonkeyPatch, points: np.ndarray) -> None:
    pretend(monkeypatch, [])

    def fail(resources: object, number: int, index: faiss.Index) -> faiss.Index:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", fail, raising=False)
    gpu.use_device(torch.device("cuda", 0))
    with pytest.raises(RuntimeError, match="no kernel image"):
        fit_kmeans(points, 5, **SETTINGS)


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_leave_it_on_the_cpu(monkeypatch: pytest.MonkeyPatch, points: np.ndarray, device: str) -> None:
    moved: list[tuple[int, str]] = []
    pretend(monkeypatch, moved)
    gpu.use_device(torch.device("cuda", 1))
    gpu.use_device(torch.device(device))  # the next stage of the same process
    fit_kmeans(points, 5, **SETTINGS)
    assert not moved


@pytest.mark.skipif(not faiss.get_num_gpus(), reason="needs faiss-gpu and a CUDA device")
def test_a_real_gpu_agrees_with_the_cpu(points: np.ndarray) -> None:
    expected = fit_kmeans(points, 5, **SETTINGS)
    gpu.use_device(torch.device("cuda", 0))
    found = fit_kmeans(points, 5, **SETTINGS)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-3)
