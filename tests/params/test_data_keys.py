import copy
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.params import parse_params
from pipeline.yaml_reader import read_yaml

RAW = read_yaml(Path(__file__).parents[2] / "params.yaml")


def data(**changes: object) -> dict:
    raw = copy.deepcopy(RAW)
    raw["data"] |= changes
    return raw


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"channels": 4, "source": "cityscapes"}, "data.channels: 4 is for source folder; give 3 for cityscapes"),
        ({"ignore_index": 0, "source": "voc2012"}, "data.ignore_index: 0 is for source folder; give 255 for voc2012"),
        ({"tile_overlap": 8}, "data.tile_overlap: 8 needs tiles; give their side as data.tile, or 0 here"),
        ({"tile": 64, "tile_overlap": 33}, "data.tile_overlap: 33 is more than half of data.tile 64; give at most 32"),
        ({"tile": 15}, "data.tile: 15 is less than data.min_side 16; give at least that, or 0"),
        ({"channels": 0}, "data.channels: 0 is not accepted: "),
        ({"channels": 513}, "data.channels: 513 is not accepted: "),
        ({"tile": -1}, "data.tile: -1 is not accepted: "),
        ({"ignore_index": 256}, "data.ignore_index: 256 is not accepted: "),
    ],
)
def test_channels_tiles_and_ignored_values_must_fit(changes, text):
    with pytest.raises(ParamsError) as caught:
        parse_params(data(**changes))
    assert text in str(caught.value)


@pytest.mark.parametrize("method", ["colorization", "jigsaw", "mae", "simmim"])
def test_methods_that_paint_colours_need_rgb(method):
    raw = data(source="folder", channels=4)
    raw["pretrain"] |= {"method": method, "backbone": "vit_small_patch16", "view_size": 192}
    with pytest.raises(ParamsError, match=rf"pretrain\.method: {method} works on RGB alone, and data\.channels is 4"):
        parse_params(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "folder", "channels": 1, "ignore_index": 0},
        {"source": "folder", "channels": 512, "tile": 64, "tile_overlap": 32},
        {"source": "potsdam", "tile": 16},
    ],
)
def test_the_limits_themselves_are_accepted(changes):
    assert parse_params(data(**changes)).data.model_dump().items() >= changes.items()
