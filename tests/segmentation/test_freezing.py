import pytest
import torch

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
