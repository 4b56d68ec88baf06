"""A tiny training set, and `train_segmenter` on it."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.params import PggParams, TrainParams, parse_params
from pipeline.params.presets import merge_overrides
from pipeline.runtime.distributed import ALONE, Ranks
from pipeline.runtime.interrupts import StopSignal
from pipeline.segmentation.guidance import PyramidLevel
from pipeline.segmentation.model import build_segmenter
from pipeline.segmentation.trainee import SegmenterTrainee
from pipeline.segmentation.training import train_segmenter
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.dealing import Dealing
from pipeline.training.loop import Batches
from pipeline.yaml_reader import read_yaml

RAW = read_yaml(Path(__file__).parents[2] / "params.yaml")
CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = [(32, 32)] * 6
GROUPING = PggParams(k=[5, 5], restarts=2, iterations=10, max_points_per_centroid=100, seed=0)
SMALL: dict[str, Any] = {
    "k": 4,
    "epochs": 2,
    "batch_size": 3,
    "precision": "fp32",
    "min_used": 0.0,
    "max_share": 1.0,
    "min_effective_rank": 0.0,
    "pgg": {"use": ["classification"]},
    "clustering": {"pixels_per_cluster": 60, "iterations": 3, "restarts": 1, "final_restarts": 2, "final_draws": 2},
}


class Loader:
    """Gives images, and asks for a stop while the batch number `stop_at` of this run is under way."""

    def __init__(self, stop: StopSignal, stop_at: int | None = None) -> None:
        self.stop, self.stop_at, self.given = stop, stop_at, 0

    def __call__(self, batches: Batches) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            self.given += 1
            if self.given == self.stop_at:
                self.stop._pending = 15
            yield batch, IMAGES[batch]


def make_params(**changes: Any) -> TrainParams:
    return parse_params(merge_overrides(RAW, {"train": merge_overrides(SMALL, changes)})).train


def make_pyramid() -> list[PyramidLevel]:
    rng = torch.Generator().manual_seed(1)
    levels = []
    for cells, k in ((1, 2), (2, 3)):
        labels = torch.randint(0, k, (6, cells * cells), generator=rng)
        margins = torch.rand(6, cells * cells, generator=rng)
        levels.append(PyramidLevel(cells, k, labels, margins, 0.1))
    levels[1].labels[0, 0] = -1
    return levels


def make_trainee(
    pyramid: list[PyramidLevel] | None = None, dealing: Dealing | None = None, **changes: Any
) -> SegmenterTrainee:
    params = make_params(**changes)
    encoder = build_encoder("resnet18", 8, seed=0)
    fine = params.clustering.fine_clusters
    segmenter = build_segmenter(
        encoder.architecture, params.k, params.cae.model_dump(), fine_clusters=fine, start=encoder, seed=0
    )
    loader = Loader(StopSignal())
    return SegmenterTrainee(
        segmenter,
        params,
        pyramid=pyramid or make_pyramid(),
        grouping=GROUPING,
        sizes=SIZES,
        load=loader,
        device=CPU,
        dealing=dealing,
    )


def run_training(
    folder: Path, stop_at: int | None = None, spare: bool = False, ranks: Ranks = ALONE, **changes: Any
) -> SimpleNamespace:
    stop, curves = StopSignal(), Curves(None)
    segmenter, clustering = train_segmenter(
        build_encoder("resnet18", 8, seed=0),
        make_params(**changes),
        pyramid=make_pyramid(),
        grouping=GROUPING,
        sizes=SIZES,
        load=Loader(stop, stop_at),
        device=CPU,
        checkpoints=Checkpoints(folder, from_start=spare),
        curves=curves,
        stop=stop,
        log=logging.getLogger("fs4.test"),
        ranks=ranks,
    )
    return SimpleNamespace(segmenter=segmenter, clustering=clustering, statistics=clustering.statistics, curves=curves)


@pytest.fixture(autouse=True, scope="module")
def _single_thread() -> Iterator[None]:
    # on a busy machine, threads that wait for each other over tiny tensors take ten times as long
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def params() -> Callable[..., TrainParams]:
    return make_params


@pytest.fixture
def pyramid() -> list[PyramidLevel]:
    return make_pyramid()


@pytest.fixture
def trainee() -> Callable[..., SegmenterTrainee]:
    return make_trainee


@pytest.fixture(scope="session")
def train() -> Callable[..., SimpleNamespace]:
    return run_training


@pytest.fixture
def images() -> torch.Tensor:
    return IMAGES
