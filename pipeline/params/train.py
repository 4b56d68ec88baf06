"""The group `train` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.pretrain import ViewParams
from pipeline.params.types import Count, Fraction, Group, Natural, NonNegative, Positive, Precision, Seed

AppearanceSource = Literal["features", "rgb", "backbone", "features_rgb"]


class PyramidLossParams(Group):
    """How the pyramid pseudo labels guide the training."""

    use: Annotated[list[Literal["classification", "contrast", "prior", "strata"]], Field(min_length=1)]
    weight: NonNegative
    levels: list[Count]
    level_weights: list[Positive]
    head: Literal["mlp", "cosine"]
    temperature: Positive
    drop_fraction: Annotated[float, Field(ge=0.0, lt=1.0)]
    prior_strength: Positive
    recluster_every: Natural

    @property
    def has_loss(self) -> bool:
        """Whether the labels enter the loss."""
        return self.weight > 0 and bool({"classification", "contrast"} & set(self.use))

    @property
    def needs_labels(self) -> bool:
        """Whether the labels are used at all."""
        return self.has_loss or bool({"prior", "strata"} & set(self.use))


class CaeParams(Group):
    """The context-aware embedding."""

    enabled: bool
    appearance: AppearanceSource
    neighbourhood: Literal["window", "nonlocal"]
    radius: Count
    dilation: Count
    scales: Annotated[list[Count], Field(min_length=1)]
    top: Count
    sigma: Positive
    temperature: Positive
    mix: Literal["learned", "fixed"]
    gamma: Annotated[float, Field(allow_inf_nan=False)]
    exclude_self: bool
    stop_gradient: bool
    fixed_temperature: bool


class PixelClusteringParams(Group):
    """The k-means that turns pixel embeddings into prototypes."""

    pixels_per_cluster: Count
    iterations: Count
    restarts: Count
    final_restarts: Count
    final_draws: Count
    warm_start: bool
    prototype_momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    fine_clusters: Annotated[int, Field(ge=0, lt=2**15)]
    merge: Literal["ward", "view_confusion"]


class AssignmentParams(Group):
    """How the pixels of a batch get their clusters."""

    method: Literal["nearest", "balanced"]
    epsilon: Positive
    iterations: Count
    teacher_momentum: Annotated[float, Field(ge=0.0, lt=1.0)]


class TrainParams(Group):
    """Training of the segmenter."""

    k: Annotated[int, Field(ge=2, lt=2**15)]
    epochs: Natural
    batch_size: Count
    learning_rate: Positive
    head_learning_rate: Positive
    temperature: Positive
    cluster_weights: Literal["uniform", "inverse_sqrt", "proportional"]
    warmup_epochs: Natural
    trained: Literal["all", "last", "decoder"]
    one_view: bool
    mse_weight: NonNegative
    rounds: Count
    round_start: Literal["continue", "backbone"]
    views: ViewParams
    assignment: AssignmentParams
    pgg: PyramidLossParams
    cae: CaeParams
    clustering: PixelClusteringParams
    min_used: Fraction
    max_share: Fraction
    min_effective_rank: NonNegative
    precision: Precision
    seed: Seed
