"""What holds for every method of the registry."""

from typing import Any, get_args

import pytest
import torch

from pipeline.params import PretrainParams
from pipeline.pretext.method import BackboneMethod, PretextMethod
from pipeline.pretext.methods import METHODS
from tests.pretext.conftest import settings, tiny_encoder, tiny_vit_encoder, view_batch

SMALL: dict[str, Any] = {
    "channels": 8,
    "queue": 5,
    "view_size": 96,
    "projection": {"hidden": 8, "width": 6},
    "clusters": {"count": 4, "queue": 60, "extra_views": 1},
    "dino": {"prototypes": 7, "extra_views": 1},
}


def build(name: str) -> PretextMethod:
    params = settings(method=name, backbone="vit_small_patch16" if name == "mae" else "resnet18", **SMALL)
    return METHODS[name](tiny_vit_encoder() if name == "mae" else tiny_encoder(), params)


def batch_of(model: PretextMethod, seed: int = 0):
    side = 96 if model.params.method == "jigsaw" else 32
    return view_batch(3, side=side, extra=model.extra_views, seed=seed)


def step(model: PretextMethod, optimizer: torch.optim.Optimizer, seed: int) -> dict[str, torch.Tensor]:
    optimizer.zero_grad(set_to_none=True)
    losses = model(batch_of(model, seed))
    losses["loss"].backward()
    optimizer.step()
    return losses


def optimizer_of(model: PretextMethod) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)


@pytest.fixture(scope="module", params=METHODS)
def name(request) -> str:
    return request.param


def test_every_method_trains_a_vit_too(name):
    params = settings(method=name, backbone="vit_small_patch16", **SMALL)
    model = METHODS[name](tiny_vit_encoder(), params).train()
    step(model, optimizer_of(model), 0)
    assert all(weight.grad.abs().sum() > 0 for weight in model.encoder.backbone.stages[0].attn.qkv.parameters())


def test_the_registry_has_what_the_parameters_offer():
    assert {*METHODS, "checkpoint", "none"} == set(get_args(PretrainParams.model_fields["method"].annotation))


def test_backbone_and_decoder_are_trained_and_slow_copies_are_not(name):
    model = build(name).train()
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    losses = step(model, optimizer_of(model), 0)
    assert {"loss", "embedding_std"} <= set(losses)
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    assert losses["embedding_std"] > 0
    for key, weight in model.named_parameters():
        assert (weight.grad is None) == ("slow" in key), key
        if weight.grad is not None:
            assert torch.isfinite(weight.grad).all(), key
    for key, weight in model.encoder.named_parameters():
        assert not torch.equal(weight, before[key]), key


def test_every_method_trains_in_mixed_precision(name):
    model = build(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch_of(model))
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    exact = build(name).train()(batch_of(model))["loss"]
    torch.testing.assert_close(losses["loss"].float(), exact, rtol=0.1, atol=0.02)


def test_mixed_precision_stays_in_the_layers(name, monkeypatch):
    vision = pytest.importorskip("timm.layers.attention")

    def in_float32(forward):
        def compute(*args: Any, **options: Any) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                return forward(*args, **options)

        return compute

    for layer in (
        torch.nn.Conv2d,
        torch.nn.ConvTranspose2d,
        torch.nn.Linear,
        torch.nn.TransformerEncoderLayer,
        vision.Attention,
    ):
        monkeypatch.setattr(layer, "forward", in_float32(layer.forward))
    exact = build(name).train()(batch_of(build(name)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = build(name).train()(batch_of(build(name)))
    assert {key: value.item() for key, value in mixed.items()} == {key: value.item() for key, value in exact.items()}


def test_a_state_that_is_taken_back_goes_on_bit_for_bit(name):
    one = build(name).train()
    of_one = optimizer_of(one)
    step(one, of_one, 0)
    model_state = {key: value.clone() for key, value in one.state_dict().items()}
    optimizer_state = of_one.state_dict()
    two = build(name).train()
    with torch.no_grad():
        for weight in two.parameters():
            weight.add_(0.5)  # a method that keeps anything beside its state would show
    two.load_state_dict(model_state)
    of_two = optimizer_of(two)
    of_two.load_state_dict({**optimizer_state, "state": {k: {**v} for k, v in optimizer_state["state"].items()}})
    state = {key: {k: v.clone() for k, v in slots.items()} for key, slots in of_one.state.items()}
    first = step(one, of_one, 1)
    for weight, slots in zip(of_two.state, state.values(), strict=True):
        of_two.state[weight] = slots
    second = step(two, of_two, 1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert any(not torch.equal(one.state_dict()[key], value) for key, value in model_state.items())


def test_evaluation_changes_nothing_and_torchs_generator_is_left_alone(name):
    model = build(name).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        torch.manual_seed(1)
        first = model(batch_of(model))["loss"]
        drawn = torch.rand(1)
        torch.manual_seed(1)
        assert torch.equal(drawn, torch.rand(1))
        assert torch.equal(first, model(batch_of(model))["loss"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_step_that_is_not_finite_leaves_no_trace_in_what_is_remembered(name):
    model = build(name).train()
    # statistics of batch norms are not guarded: the loop has no say there either, for any network
    kept = {key: value.clone() for key, value in model.named_buffers() if "running" not in key and "num_" not in key}
    batch = batch_of(model)
    for image in (*batch.views, *batch.plain, *(extra.view for extra in batch.extra)):
        image.fill_(float("nan"))
    model(batch)
    assert all(torch.equal(value, kept[key]) for key, value in model.named_buffers() if key in kept)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if issubclass(method, BackboneMethod)])
def test_the_decoder_beside_teaches_the_backbone_nothing(name):
    model = build(name).train()
    losses = model(batch_of(model))
    assert losses["loss"].item() == pytest.approx((losses["method_loss"] + losses["decoder_loss"]).item(), rel=1e-5)
    losses["decoder_loss"].backward()
    assert all(weight.grad is None for weight in model.encoder.backbone.parameters())
    assert all(weight.grad is not None for weight in model.encoder.decoder.parameters())
