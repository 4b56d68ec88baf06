"""What the groups of parameters are made of: a strict base class, and the ranges that values may have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Clusters = Annotated[int, Field(ge=2)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
AreaFraction = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Precision = Literal["auto", "fp32", "bf16"]
MapSource = Literal["backbone", "segmenter"]

NO_CHECKPOINT = "data/checkpoints/none"  # a file of the project, so that DVC always has one to watch
STRIDE = 32  # coarsest stride of the backbones: frames and views are multiples of it


class Group(BaseModel):
    """One group of `params.yaml`: frozen, strictly typed, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
