"""The whole of `params.yaml`, and what must hold between its groups."""

from __future__ import annotations

from pipeline.params.backbone_rules import find_backbone_problems
from pipeline.params.label_rules import find_label_problems
from pipeline.params.pretext_rules import find_pretext_problems
from pipeline.params.pretrain import PretrainParams
from pipeline.params.pyramid_rules import find_pyramid_problems
from pipeline.params.stages import (
    DataParams,
    EvaluateParams,
    ExtractParams,
    FinetuneParams,
    OptionalParams,
    PggParams,
    ProbeParams,
    ReportParams,
    RunParams,
)
from pipeline.params.train import CaeParams, TrainParams
from pipeline.params.types import STRIDE, Group

# pretext methods that paint pixels, or give tiles other colours than the statistics of the train images
RGB_ALONE = ("colorization", "jigsaw", "mae", "simmim")


class Params(Group):
    """The whole of `params.yaml`."""

    data: DataParams
    pretrain: PretrainParams
    extract: ExtractParams
    pgg: PggParams
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams
    optional: OptionalParams
    probe: ProbeParams
    finetune: FinetuneParams
    run: RunParams


def find_inconsistencies(params: Params) -> list[str]:
    """Problems that concern more than one key, one line each with the key, the value and the mend."""
    problems = _frame_problems(params.data) + _source_problems(params.data)
    levels = params.extract.levels
    if levels != sorted(set(levels)):
        problems.append(f"extract.levels: {levels} must ascend without repetition, as in [1, 2, 4, 8]")
    side = params.data.crop_size or params.data.resize
    if levels[-1] > side:
        problems.append(f"extract.levels: {levels[-1]} cells a side do not fit into a frame of short side {side}")
    problems += find_backbone_problems(params.pretrain, params.extract.source)
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
    for name, views in (("pretrain", params.pretrain.views), ("train", params.train.views)):
        if views.rotate and params.data.crop != "center":
            problems.append(
                f"{name}.views.rotate: true stretches frames that are not square; set data.crop to center, or "
                f"{name}.views.rotate to false"
            )
    problems += find_pretext_problems(params.pretrain)
    if params.data.channels != 3 and params.pretrain.method in RGB_ALONE:
        problems.append(
            f"pretrain.method: {params.pretrain.method} works on RGB alone, and data.channels is "
            f"{params.data.channels}; choose a method that compares views, such as dense_clusters"
        )
    problems += find_pyramid_problems(params.train, levels)
    problems += find_label_problems(params.optional, params.probe, params.finetune)
    return problems + _find_cae_inconsistencies(params.train.cae) + _find_clustering_inconsistencies(params.train)


def _find_clustering_inconsistencies(train: TrainParams) -> list[str]:
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


def _find_cae_inconsistencies(cae: CaeParams) -> list[str]:
    problems = []
    if cae.scales != sorted(set(cae.scales)):
        problems.append(f"train.cae.scales: {cae.scales} must ascend without repetition, as in [1, 2]")
    if cae.neighbourhood == "nonlocal" and cae.scales != [1]:
        problems.append(f"train.cae.scales: {cae.scales} are scales of a window; give [1] with neighbourhood nonlocal")
    if cae.mix == "fixed" and not 0 <= cae.gamma <= 1:
        problems.append(f"train.cae.gamma: {cae.gamma} is the context's share with mix fixed; give 0 to 1")
    return problems


def _source_problems(data: DataParams) -> list[str]:
    problems = []
    # the names of protocols start with those of their sources
    if data.protocol != "auto" and not data.protocol.startswith(f"{data.source}-"):
        problems.append(
            f"data.protocol: {data.protocol} is not a protocol of data.source {data.source}; give auto, or the source "
            "that it is named after"
        )
    if data.id_lists != "all" and data.source != "coco-stuff":
        problems.append(f"data.id_lists: {data.id_lists!r} is for source coco-stuff; give all for {data.source}")
    if data.channels != 3 and data.source != "folder":
        problems.append(f"data.channels: {data.channels} is for source folder; give 3 for {data.source}")
    if data.ignore_index != 255 and data.source != "folder":
        problems.append(f"data.ignore_index: {data.ignore_index} is for source folder; give 255 for {data.source}")
    return problems + _tile_problems(data)


def _tile_problems(data: DataParams) -> list[str]:
    if not data.tile:
        if data.tile_overlap:
            return [f"data.tile_overlap: {data.tile_overlap} needs tiles; give their side as data.tile, or 0 here"]
        return []
    problems = []
    if data.tile < data.min_side:
        problems.append(f"data.tile: {data.tile} is less than data.min_side {data.min_side}; give at least that, or 0")
    if data.tile_overlap > data.tile // 2:
        problems.append(
            f"data.tile_overlap: {data.tile_overlap} is more than half of data.tile {data.tile}; give at most "
            f"{data.tile // 2}"
        )
    return problems


def _frame_problems(data: DataParams) -> list[str]:
    if not data.crop_size and data.resize % STRIDE:
        nearest = max(STRIDE, round(data.resize / STRIDE) * STRIDE)
        return [
            f"data.resize: {data.resize} is not a multiple of {STRIDE}; the nearest is {nearest}, "
            "or cut a square with data.crop_size"
        ]
    if data.crop_size and data.crop != "center":
        return [f"data.crop_size: {data.crop_size} needs data.crop center, found {data.crop}; for whole images give 0"]
    if data.crop_size > data.resize:
        return [
            f"data.crop_size: {data.crop_size} is more than data.resize {data.resize}, the side that it is cut from"
        ]
    return []
