"""The groups of `params.yaml` but for `pretrain` and `train`, in the order of the stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.types import (
    STRIDE,
    AreaFraction,
    Clusters,
    Count,
    Fraction,
    Group,
    MapSource,
    Natural,
    NonNegative,
    Positive,
    Precision,
    Seed,
)


class ScenesParams(Group):
    """Size of the generated sample set."""

    train: Count
    val: Count
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]


class DataParams(Group):
    """Which images, and the frame in which every later stage sees them."""

    source: Literal["scenes", "folder", "coco-stuff", "cityscapes", "potsdam", "camvid", "ade20k", "voc2012"]
    root: str
    protocol: Literal[
        "auto",
        "coco-stuff-27",
        "coco-stuff-15",
        "coco-stuff-3",
        "cityscapes-27",
        "potsdam-3",
        "camvid-11",
        "ade20k-150",
        "voc2012-21",
    ]
    id_lists: str
    channels: Annotated[int, Field(ge=1, le=512)]
    tile: Natural
    tile_overlap: Natural
    ignore_index: Annotated[int, Field(ge=0, le=255)]
    limit: Natural
    max_bad_fraction: Fraction
    min_side: Count
    max_pixels: Count
    resize: Annotated[int, Field(ge=STRIDE)]
    crop: Literal["center", "none"]
    crop_size: Annotated[int, Field(ge=0, multiple_of=STRIDE)]
    seed: Seed
    scenes: ScenesParams


class ExtractParams(Group):
    """Pyramid features of the frozen backbone."""

    levels: Annotated[list[Count], Field(min_length=1)]
    mode: Literal["pool", "crop"]
    source: Literal["res4", "res5", "last", "decoder"]
    pca: Natural
    batch_size: Count
    shard_images: Count
    precision: Precision
    max_bad_fraction: Fraction


class PggParams(Group):
    """Pyramid clustering into image and patch pseudo labels."""

    k: Clusters | Annotated[list[Clusters], Field(min_length=1)]
    restarts: Count
    iterations: Count
    max_points_per_centroid: Count
    seed: Seed


class RefineParams(Group):
    """A local conditional random field over the scores, which is scored beside the headline."""

    iterations: Annotated[int, Field(ge=0, le=20)]
    radius: Annotated[int, Field(ge=1, le=8)]
    dilation: Count
    place_sigma: Positive
    colour_sigma: Positive
    colour_weight: NonNegative
    place_weight: NonNegative
    temperature: Positive


class EvaluateParams(Group):
    """Scoring against masks, the first time that labels are read."""

    split: str
    match_on: Literal["val", "train"]
    unknown_ids: Literal["ignore", "error"]
    batch_size: Count
    floor_restarts: Count
    floor_seeds: Count
    gallery: Natural
    boundary: bool
    flip: bool
    refine: RefineParams
    precision: Precision
    seed: Seed


class ReportParams(Group):
    """What the HTML report shows."""

    title: str
    regions_per_cluster: Count
    pyramid_images: Natural


class OptionalParams(Group):
    """Which optional stages run, and on what; no stage depends on it."""

    probe: list[MapSource]
    finetune: list[MapSource]


class ProbeParams(Group):
    """Linear and k-NN probes of a frozen map, fitted with labels."""

    kinds: Annotated[list[Literal["linear", "knn"]], Field(min_length=1)]
    split: str
    unknown_ids: Literal["ignore", "error"]
    pixels: Count
    iterations: Count
    weight_decay: NonNegative
    knn_pixels: Count
    neighbours: Count
    temperature: Positive
    batch_size: Count
    precision: Precision
    seed: Seed


class FinetuneParams(Group):
    """Training on few labelled images, from the pre-trained and from random weights."""

    fractions: Annotated[list[AreaFraction], Field(min_length=1)]
    seeds: Count
    split: str
    unknown_ids: Literal["ignore", "error"]
    head_steps: Natural
    steps: Natural
    batch_size: Annotated[int, Field(ge=2)]
    head_learning_rate: Positive
    learning_rate: Positive
    random_learning_rate: Positive
    weight_decay: NonNegative
    flip: bool
    jitter: Annotated[float, Field(ge=0.0, lt=1.0)]
    hue: Annotated[float, Field(ge=0.0, le=0.5)]
    precision: Precision
    seed: Seed


class RunParams(Group):
    """How to run; no stage depends on it."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$")]
    processes: Count
    threads: Natural
    workers: Natural
    cache_mb: Natural
    checkpoint_steps: Natural
    spare_memory: bool
    keep_features: bool
    keep_features_gb: NonNegative
    lock_timeout: NonNegative
