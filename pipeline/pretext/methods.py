"""The pretext methods by the name that `pretrain.method` gives them; `none` and `checkpoint` train nothing."""

from __future__ import annotations

from pipeline.pretext.barlow import BarlowTwins
from pipeline.pretext.byol import Byol
from pipeline.pretext.colorization import Colorization
from pipeline.pretext.dense_clusters import DenseClusters
from pipeline.pretext.densecl import DenseCl
from pipeline.pretext.dino import Dino
from pipeline.pretext.global_dense import GlobalDense
from pipeline.pretext.jigsaw import Jigsaw
from pipeline.pretext.mae import Mae
from pipeline.pretext.method import PretextMethod
from pipeline.pretext.moco import Moco
from pipeline.pretext.pixpro import PixPro
from pipeline.pretext.rotation import Rotation
from pipeline.pretext.simclr import SimClr
from pipeline.pretext.simmim import SimMim
from pipeline.pretext.simsiam import SimSiam
from pipeline.pretext.vicreg import VicReg

METHODS: dict[str, type[PretextMethod]] = {
    "dense_clusters": DenseClusters,
    "global_dense": GlobalDense,
    "simclr": SimClr,
    "moco": Moco,
    "densecl": DenseCl,
    "pixpro": PixPro,
    "byol": Byol,
    "simsiam": SimSiam,
    "barlow": BarlowTwins,
    "vicreg": VicReg,
    "dino": Dino,
    "simmim": SimMim,
    "mae": Mae,
    "rotation": Rotation,
    "jigsaw": Jigsaw,
    "colorization": Colorization,
}
