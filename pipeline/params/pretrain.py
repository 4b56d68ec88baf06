"""The group `pretrain`."""

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
    Natural,
    NonNegative,
    Positive,
    Precision,
    Seed,
)


class ViewParams(Group):
    """How strongly the two random views of an image differ from it."""

    min_area: AreaFraction
    flip: bool
    flip_vertical: bool
    rotate: bool
    jitter: Annotated[float, Field(ge=0.0, lt=1.0)]
    hue: Annotated[float, Field(ge=0.0, le=0.5)]


class DenseClustersParams(Group):
    """The clusters on which two views agree, in method `dense_clusters`."""

    count: Clusters
    temperature: Positive
    epsilon: Positive
    iterations: Count
    queue: Natural
    extra_views: Natural


class ProjectionParams(Group):
    """The network between the features and what is compared, in all methods but the first two."""

    hidden: Count
    width: Annotated[int, Field(ge=2)]


class DinoParams(Group):
    """What only method `dino` has."""

    prototypes: Clusters
    teacher_temperature: Positive
    extra_views: Natural


class MaskingParams(Group):
    """What methods that paint in hide of an image."""

    patch: Annotated[int, Field(ge=4)]
    ratio: Annotated[float, Field(gt=0.0, lt=1.0)]


class PretrainParams(Group):
    """Self-supervised training of the backbone from random weights."""

    method: Literal[
        "dense_clusters",
        "global_dense",
        "simclr",
        "moco",
        "densecl",
        "pixpro",
        "byol",
        "simsiam",
        "barlow",
        "vicreg",
        "dino",
        "simmim",
        "mae",
        "rotation",
        "jigsaw",
        "colorization",
        "checkpoint",
        "none",
    ]
    backbone: Literal["resnet18", "resnet50", "convnext_tiny", "vit_small_patch16", "vit_small_patch8"]
    vit_features: Literal["token", "key"]
    checkpoint: str
    allow_supervised_init: bool
    channels: Annotated[int, Field(ge=8, le=4096)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["adamw", "sgd", "lars"]
    learning_rate: Positive
    weight_decay: NonNegative
    warmup_fraction: Fraction
    temperature: Positive
    dense_weight: Fraction
    dense_cells: Count
    neighbourhood: Fraction
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    queue: Count
    projection: ProjectionParams
    clusters: DenseClustersParams
    dino: DinoParams
    masking: MaskingParams
    view_size: Annotated[int, Field(ge=STRIDE, multiple_of=STRIDE)]
    views: ViewParams
    precision: Precision
    min_embedding_std: NonNegative
    seed: Seed
