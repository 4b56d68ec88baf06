"""Small labelled data: drawn images with masks on disk, and tiny networks as finished folders."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.backbones.encoder import build_encoder, save_encoder
from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.params import CaeParams, load_params
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact
from pipeline.segmentation.model import build_segmenter, save_segmenter

SIDE = 32
CLASSES = '{"classes": [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}]}'
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


class Data:
    """Images whose left part is dark and whose right part is bright, with masks that say so."""

    def __init__(self, folder: Path, splits: list[str]) -> None:
        self.folder, self.rows = folder, []
        for index, split in enumerate(splits):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[:, 8 + 2 * (index % 8) :] = 1
            noise = np.random.default_rng(index).integers(0, 20, (SIDE, SIDE, 3))
            image = (noise + 40 + 150 * mask[..., None]).astype(np.uint8)
            mask[0, :3] = 255
            Image.fromarray(image).save(folder / f"{index}.png")
            Image.fromarray(mask).save(folder / f"{index}-mask.png")
            self.rows.append(self._row(f"{split}/{index}.png", split, folder / f"{index}.png"))
        self.table = ImageTable(self.rows, Frame(SIDE, "center"), 10**6, 1)

    @staticmethod
    def _row(image_id: str, split: str, path: Path) -> ImageRow:
        return ImageRow(image_id, split, str(path), SIDE, SIDE, hashlib.sha256(path.read_bytes()).hexdigest(), "ok")

    def truth_table(self, *splits: str) -> TruthTable:
        """The masks of some splits."""
        rows = []
        for index, row in enumerate(self.rows):
            path = self.folder / f"{index}-mask.png"
            if row.split in splits:
                rows.append(TruthRow(row.image_id, row.split, str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
        return TruthTable(rows, CLASSES)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path, ["train"] * 6 + ["val"] * 3)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A backbone and a segmenter with random weights."""
    root = tmp_path_factory.mktemp("artifacts")
    encoder = build_encoder("resnet18", 8, seed=0)
    cae = CaeParams(**{**PARAMS.train.cae.model_dump(), "radius": 1, "appearance": "backbone"}).model_dump()
    segmenter = build_segmenter(encoder.architecture, 3, cae, start=encoder)
    with create_artifact(root / "backbone") as writer:
        save_encoder(encoder, writer.path, {})
    with create_artifact(root / "segmenter") as writer:
        save_segmenter(segmenter, writer.path, {})
    return {name: open_artifact(root / name) for name in ("backbone", "segmenter")}
