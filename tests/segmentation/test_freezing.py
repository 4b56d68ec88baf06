from pathlib import Path

import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.params import load_params
from pipeline.segmentation.freezing import freeze, set_training
from pipeline.segmentation.model import build_segmenter

BATCH = [0, 1, 2]


def after_a_step(toy, images):
    before = {key: value.clone() for key, value in toy.segmenter.state_dict().items()}
    toy.begin_epoch(0)
    toy.losses(0, BATCH, images[BATCH])["loss"].backward()
    toy.optimizer.step()
    return {key for key, value in toy.segmenter.state_dict().items() if not torch.equal(value, before[key])}


@pytest.mark.parametrize(
    ("trained", "kept"),
    [
        ("all", ()),
        ("last", ("encoder.backbone.stem.", *(f"encoder.backbone.stages.{stage}." for stage in range(3)))),
        ("decoder", ("encoder.backbone.",)),
    ],
)
def test_the_frozen_part_keeps_weights_and_statistics_and_the_rest_does_not(trainee, images, trained, kept):
    toy = trainee(trained=trained)
    changed = after_a_step(toy, images)
    everything = set(toy.segmenter.state_dict()) - {"prototypes", "groups"}
    assert changed == {key for key in everything if not key.startswith(kept)} if kept else changed == everything
    held = sorted(id(weight) for group in toy.optimizer.param_groups for weight in group["params"])
    trained_weights = [*toy.segmenter.parameters(), *toy.guidance.parameters()]
    assert held == sorted(id(weight) for weight in trained_weights if weight.requires_grad)


def test_a_resumed_trainee_stays_frozen(trainee):
    toy = trainee(trained="decoder")
    toy.load_state_dict(toy.state_dict())
    assert not toy.segmenter.encoder.backbone.training
    assert toy.segmenter.encoder.decoder.training
    assert toy.segmenter.embedding.training


@pytest.mark.parametrize(("trained", "kept"), [("last", ("stem.", "stages.0.", "stages.10.")), ("decoder", ("",))])
def test_a_vit_is_cut_before_its_last_block(trained, kept):
    encoder = build_encoder("vit_small_patch16", 8, seed=0)
    cae = load_params(Path(__file__).parents[2] / "params.yaml").train.cae.model_dump()
    segmenter = build_segmenter(encoder.architecture, 3, cae, start=encoder)
    freeze(segmenter, trained)
    set_training(segmenter, trained)
    segmenter.embed(torch.rand(1, 3, 32, 32)).square().sum().backward()
    backbone = dict(encoder.backbone.named_parameters())
    assert all(not weight.requires_grad for key, weight in backbone.items() if key.startswith(kept))
    if trained == "last":
        assert all(
            weight.grad is not None for key, weight in backbone.items() if key.startswith(("stages.11.", "norm."))
        )
    assert all(weight.grad is not None for weight in encoder.decoder.parameters())
