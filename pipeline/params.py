"""Reads `params.yaml` into frozen, typed groups; every stage validates the whole file before any work.

There are no defaults here: `params.yaml` is the one place where a value stands.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ParamsError
from pipeline.yaml_reader import read_yaml

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Clusters = Annotated[int, Field(ge=2)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
AreaFraction = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Precision = Literal["auto", "fp32", "bf16"]

STRIDE = 32  # coarsest stride of the backbones: frames and views are multiples of it


class Group(BaseModel):
    """One group of `params.yaml`: frozen, strictly typed, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class ScenesParams(Group):
    """Size of the generated sample set."""

    train: Count
    val: Count
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]


class DataParams(Group):
    """Which images, and the frame in which every later stage sees them."""

    source: Literal["scenes", "folder"]
    root: str
    limit: Natural
    max_bad_fraction: Fraction
    min_side: Count
    max_pixels: Count
    resize: Annotated[int, Field(ge=STRIDE, multiple_of=STRIDE)]
    crop: Literal["center", "none"]
    seed: Seed
    scenes: ScenesParams


class ViewParams(Group):
    """How strongly the two random views of an image differ from it."""

    min_area: AreaFraction
    flip: bool
    jitter: Annotated[float, Field(ge=0.0, lt=1.0)]
    hue: Annotated[float, Field(ge=0.0, le=0.5)]


class PretrainParams(Group):
    """Self-supervised training of the backbone from random weights."""

    method: Literal["global_dense", "none"]
    backbone: Literal["resnet18", "resnet50"]
    channels: Annotated[int, Field(ge=8)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    weight_decay: NonNegative
    warmup_fraction: Fraction
    temperature: Positive
    dense_weight: Fraction
    dense_cells: Count
    view_size: Annotated[int, Field(ge=STRIDE, multiple_of=STRIDE)]
    views: ViewParams
    precision: Precision
    min_embedding_std: NonNegative
    seed: Seed


class ExtractParams(Group):
    """Pyramid features of the frozen backbone."""

    levels: Annotated[list[Count], Field(min_length=1)]
    mode: Literal["pool", "crop"]
    source: Literal["res4", "res5", "decoder"]
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


class PyramidLossParams(Group):
    """How the pyramid pseudo labels guide the training."""

    weight: NonNegative
    head: Literal["mlp", "cosine"]
    temperature: Positive
    drop_fraction: Annotated[float, Field(ge=0.0, lt=1.0)]


class CaeParams(Group):
    """The context-aware embedding."""

    enabled: bool
    radius: Count
    dilation: Count
    sigma: Positive
    temperature: Positive
    gamma: Annotated[float, Field(allow_inf_nan=False)]


class PixelClusteringParams(Group):
    """The k-means that turns pixel embeddings into prototypes."""

    pixels_per_cluster: Count
    iterations: Count
    restarts: Count
    final_restarts: Count


class TrainParams(Group):
    """Training of the segmenter."""

    k: Annotated[int, Field(ge=2, lt=2**15)]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    head_learning_rate: Positive
    temperature: Positive
    cluster_weights: Literal["uniform", "inverse_sqrt", "proportional"]
    warmup_epochs: Natural
    views: ViewParams
    pgg: PyramidLossParams
    cae: CaeParams
    clustering: PixelClusteringParams
    min_used: Fraction
    max_share: Fraction
    precision: Precision
    seed: Seed


class EvaluateParams(Group):
    """Scoring against masks, the first time that labels are read."""

    split: str
    match_on: Literal["val", "train"]
    unknown_ids: Literal["ignore", "error"]
    batch_size: Count
    floor_restarts: Count
    gallery: Natural
    precision: Precision
    seed: Seed


class ReportParams(Group):
    """What the HTML report shows."""

    title: str
    regions_per_cluster: Count
    pyramid_images: Natural


class RunParams(Group):
    """How to run; no stage depends on it."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    threads: Natural
    workers: Natural
    cache_mb: Natural
    lock_timeout: NonNegative


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


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the whole of a params file.

    Args:
        path: The file, `params.yaml` by default.

    Returns:
        The frozen parameters.

    Raises:
        ParamsError: One message that lists *all* problems, each with the full key, the value and the mend.
    """
    return parse_params(read_yaml(path), name=str(path))


def parse_params(raw: Any, name: str = "params.yaml") -> Params:
    """Validate parameters that were read already; see `load_params`."""
    if not isinstance(raw, dict):
        raise ParamsError(f"{name}: expected groups of keys, found {raw!r}; restore it with `git checkout {name}`")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(_listing(name, _describe(error))) from None
    problems = _inconsistencies(params)
    if problems:
        raise ParamsError(_listing(name, problems))
    return params


def known_keys(group: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """All valid full keys (`pgg.k`, `train.cae.gamma`, …), groups included, in the order of the file."""
    keys = []
    for field, info in group.model_fields.items():
        keys.append(prefix + field)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            keys += known_keys(info.annotation, f"{prefix}{field}.")
    return keys


def _listing(name: str, problems: list[str]) -> str:
    if len(problems) == 1:
        return f"{name}: {problems[0]}"
    return "\n  ".join([f"{name}: {len(problems)} problems", *problems])


def _describe(error: ValidationError) -> list[str]:
    """One line per key; a key that may have several types gets its complaints joined by "or"."""
    known = known_keys()
    lines: dict[str, str] = {}
    for problem in error.errors():
        # pydantic adds the tried branch of a union to the location; only real keys and list positions are kept
        key = ""
        for part in problem["loc"]:
            if isinstance(part, int):
                key += f"[{part}]"
            elif not key or f"{key}.{part}" in known or problem["type"] == "extra_forbidden":
                key = f"{key}.{part}" if key else str(part)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            lines[key] = f"{key}: unknown key (value {problem['input']!r}); the nearest valid key is {near}"
        elif problem["type"] == "missing":
            lines[key] = f"{key}: missing; restore it with `git checkout params.yaml`"
        else:
            complaint = problem["msg"][0].lower() + problem["msg"][1:]
            start = lines.get(key, f"{key}: {problem['input']!r} is not accepted: ")
            lines[key] = f"{start} or {complaint}" if key in lines else start + complaint
    return list(lines.values())


def _inconsistencies(params: Params) -> list[str]:
    """Problems that concern more than one key."""
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
    if params.train.warmup_epochs and not params.train.pgg.weight:
        problems.append("train.warmup_epochs: warm-up trains on pyramid labels only, so train.pgg.weight cannot be 0")
    return problems
