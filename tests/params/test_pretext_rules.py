import pytest

from pipeline.errors import ParamsError
from pipeline.params import parse_params
from pipeline.params.presets import merge_overrides
from tests.pretext.conftest import RAW


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "jigsaw", "view_size": 64}, "pretrain.view_size: 64 is too small for the nine tiles"),
        ({"method": "mae"}, "mae drops patches, which pretrain.backbone resnet18 cannot; take vit_small_patch16"),
        ({"method": "simmim", "masking": {"patch": 20}}, "20 does not divide pretrain.view_size 96"),
        ({"method": "simmim", "masking": {"patch": 96}}, "leaves nothing to see of pretrain.view_size 96"),
        ({"method": "rotation", "views": {"rotate": True}}, "pretrain.views.rotate: true turns the views"),
        ({"method": "rotation", "views": {"flip_vertical": True}}, "pretrain.views.flip_vertical: true turns the"),
    ],
)
def test_a_method_and_its_settings_must_fit(changes, text):
    with pytest.raises(ParamsError, match="pretrain") as caught:
        parse_params(merge_overrides(RAW, {"pretrain": changes}))
    assert text in str(caught.value)


@pytest.mark.parametrize("method", ["jigsaw", "simmim", "rotation"])
def test_the_defaults_fit(method):
    assert parse_params(merge_overrides(RAW, {"pretrain": {"method": method}})).pretrain.method == method


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"method": "swav"}, "pretrain.method"),
        ({"momentum": 1.0}, "pretrain.momentum"),
        ({"queue": 0}, "pretrain.queue"),
        ({"masking": {"ratio": 1.0}}, "pretrain.masking.ratio"),
        ({"clusters": {"queue": -1}}, "pretrain.clusters.queue"),
    ],
)
def test_ranges_are_kept(changes, key):
    with pytest.raises(ParamsError, match=rf"{key}: .* is not accepted"):
        parse_params(merge_overrides(RAW, {"pretrain": changes}))
