"""Typed parameters: `params.yaml` as frozen groups; every stage validates the whole file before any work.

There are no defaults here: `params.yaml` is the one place where a value stands.
"""

from pipeline.params.pretrain import (
    DenseClustersParams,
    DinoParams,
    MaskingParams,
    PretrainParams,
    ProjectionParams,
    ViewParams,
)
from pipeline.params.reading import known_keys, load_params, parse_params
from pipeline.params.stages import (
    DataParams,
    EvaluateParams,
    ExtractParams,
    FinetuneParams,
    OptionalParams,
    PggParams,
    ProbeParams,
    RefineParams,
    ReportParams,
    RunParams,
    ScenesParams,
)
from pipeline.params.train import (
    AppearanceSource,
    AssignmentParams,
    CaeParams,
    PixelClusteringParams,
    PyramidLossParams,
    TrainParams,
)
from pipeline.params.types import NO_CHECKPOINT, STRIDE, Group, MapSource, Precision
from pipeline.params.whole import Params

__all__ = [
    "NO_CHECKPOINT",
    "STRIDE",
    "AppearanceSource",
    "AssignmentParams",
    "CaeParams",
    "DataParams",
    "DenseClustersParams",
    "DinoParams",
    "EvaluateParams",
    "ExtractParams",
    "FinetuneParams",
    "Group",
    "MapSource",
    "MaskingParams",
    "OptionalParams",
    "Params",
    "PggParams",
    "PixelClusteringParams",
    "Precision",
    "PretrainParams",
    "ProbeParams",
    "ProjectionParams",
    "PyramidLossParams",
    "RefineParams",
    "ReportParams",
    "RunParams",
    "ScenesParams",
    "TrainParams",
    "ViewParams",
    "known_keys",
    "load_params",
    "parse_params",
]
