"""The whole of `params.yaml`, and what must hold between its groups."""

from __future__ import annotations

from pipeline.params.pyramid_rules import find_pyramid_problems
from pipeline.params.stages import (
    DataParams,
    EvaluateParams,
    ExtractParams,
    PggParams,
    PretrainParams,
    ReportParams,
    RunParams,
)
from pipeline.params.train import TrainParams
from pipeline.params.types import Group


class Params(Group):
    """The whole of `params.yaml`."""

    data: DataParams
    pretrain: PretrainParams
    extract: ExtractParams
    pgg: PggParams
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams
    run: RunParams


def find_inconsistencies(params: Params) -> list[str]:
    """Problems that concern more than one key, one line each with the key, the value and the mend."""
    problems = []
    levels = params.extract.levels
    if levels != sorted(set(levels)):
        problems.append(f"extract.levels: {levels} must ascend without repetition, as in [1, 2, 4, 8]")
    if levels[-1] > params.data.resize:
        problems.append(f"extract.levels: {levels[-1]} cells a side do not fit into data.resize {params.data.resize}")
    if isinstance(params.pgg.k, list) and len(params.pgg.k) != len(levels):
        problems.append(
            f"pgg.k: {params.pgg.k} has {len(params.pgg.k)} values for the {len(levels)} levels of extract.levels; "
            "give one number, or one per level"
        )
    if params.train.warmup_epochs > params.train.epochs:
        problems.append(
            f"train.warmup_epochs: {params.train.warmup_epochs} is more than train.epochs {params.train.epochs}, "
            "which counts them in"
        )
    problems += find_pyramid_problems(params.train, levels)
    return problems + _pixel_clustering_problems(params.train)


def _pixel_clustering_problems(train: TrainParams) -> list[str]:
    problems = []
    if train.one_view and train.mse_weight:
        problems.append(
            f"train.mse_weight: {train.mse_weight} compares two views; set it to 0, or train.one_view to false"
        )
    fine = train.clustering.fine_clusters
    if 0 < fine < train.k:
        problems.append(f"train.clustering.fine_clusters: {fine} is less than train.k {train.k}; give more, or 0")
    if fine and train.one_view and train.clustering.merge == "view_confusion":
        problems.append(
            "train.clustering.merge: view_confusion compares two views; use ward, or set train.one_view to false"
        )
    return problems
