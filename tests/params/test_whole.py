import copy

import pytest

from pipeline.params import parse_params
from tests.test_params import RAW, altered, refuse


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "cityscapes", "protocol": "coco-stuff-27"}, "data.protocol: coco-stuff-27 is not a protocol of"),
        ({"protocol": "potsdam-3"}, "data.protocol: potsdam-3 is not a protocol of data.source scenes"),
        (
            {"source": "camvid", "id_lists": "lists"},
            "data.id_lists: 'lists' is for source coco-stuff; give all for camvid",
        ),
    ],
)
def test_protocol_and_lists_fit_the_source(changes, message):
    raw = copy.deepcopy(RAW)
    raw["data"] |= changes
    assert message in refuse(raw)
    raw["data"] |= {"source": "coco-stuff", "protocol": "coco-stuff-3", "id_lists": "lists"}
    assert parse_params(raw).data.protocol == "coco-stuff-3"


@pytest.mark.parametrize("group", ["pretrain", "train"])
def test_only_square_frames_are_turned(group):
    raw = altered(f"{group}.views.rotate", True)
    assert parse_params(raw)
    raw["data"]["crop"] = "none"
    assert f"{group}.views.rotate: true stretches frames" in refuse(raw)
