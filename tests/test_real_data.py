"""Photographs in the folder layout, from the place that FS4_REAL_DATA names."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.frames import frame_size
from pipeline.data.loading import FrameDataset
from pipeline.data.manifest import read_images, read_truth
from pipeline.data.prepare import prepare_images
from pipeline.data.sources.folder import list_folder
from pipeline.evaluation.truth import open_truth
from pipeline.params import load_params

PLACE = os.environ.get("FS4_REAL_DATA")
pytestmark = pytest.mark.skipif(not PLACE, reason="FS4_REAL_DATA is not set")
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml").data
# images, masks, classes: as the sets' own description has them
SETS = {"camvid": (468, 468, 11), "coco_stuff_mini": (128, 100, 27), "dubai_aerial": (56, 56, 5)}


@pytest.fixture(params=sorted(SETS))
def name(request: pytest.FixtureRequest) -> str:
    if not Path(PLACE or "", request.param).is_dir():
        pytest.skip(f"{request.param} is not there")
    return str(request.param)


def test_all_images_and_masks_are_found(name):
    sources = list_folder(Path(PLACE or "", name))
    images, masks, _ = SETS[name]
    assert (len(sources), sum(source.mask_path is not None for source in sources)) == (images, masks)


@pytest.mark.parametrize("crop", ["center", "none"])
def test_a_draw_of_each_set_is_prepared_and_read_with_its_masks(name, crop, tmp_path):
    params = PARAMS.model_copy(
        update={"source": "folder", "root": str(Path(PLACE or "", name)), "limit": 8, "resize": 64, "crop": crop}
    )
    counts = prepare_images(params, tmp_path, final=tmp_path, threads=2)
    assert counts.rejected == counts.leaked == 0
    table, masks = read_images(tmp_path / "images.parquet"), read_truth(tmp_path / "truth.parquet")
    truth = open_truth(table, masks, "auto", "error")
    assert truth is not None
    assert len(truth.classes.names) == SETS[name][2]
    dataset = FrameDataset(table.select(None), table, 0)
    for index, row in enumerate(dataset.rows):
        image = dataset[index].numpy()
        assert image.shape == (3, *frame_size(row.width, row.height, table.frame))
        assert image.std() > 5  # a photograph, not a plain area
        if truth.has(row.image_id):
            mask = truth.read(row.image_id)
            assert mask.shape == image.shape[1:]
            known = mask[mask != truth.classes.ignore_index]
            assert np.all((known >= 0) & (known < SETS[name][2]))
