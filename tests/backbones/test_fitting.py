import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.fitting import fit_tensors, resize_patches


def test_resized_patches_give_the_same_tokens_of_resized_images():
    rng = torch.Generator().manual_seed(0)
    weight = torch.rand(5, 3, 14, 14, generator=rng)
    image = torch.rand(1, 3, 14, 14, generator=rng)
    larger = F.interpolate(image, (16, 16), mode="bicubic", antialias=True, align_corners=False)
    tokens = F.conv2d(larger, resize_patches(weight, (16, 16)))
    torch.testing.assert_close(tokens, F.conv2d(image, weight), atol=1e-3, rtol=1e-3)


def test_resized_patches_are_those_of_timm():
    timm = pytest.importorskip("timm.layers.patch_embed")
    weight = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        resize_patches(weight, (8, 8)), timm.resample_patch_embed(weight, [8, 8]), atol=1e-4, rtol=1e-4
    )


def test_layer_scales_are_multiplied_into_the_weights_before_them():
    rng = torch.Generator().manual_seed(0)
    given = {
        "stages.0.attn.proj.weight": torch.rand(3, 3, generator=rng),
        "stages.0.attn.proj.bias": torch.rand(3, generator=rng),
        "stages.0.ls1.gamma": torch.rand(3, generator=rng),
    }
    wanted = {key: torch.zeros_like(value) for key, value in given.items() if "gamma" not in key}
    fitted, adapted, others, used = fit_tensors(given, wanted)
    x = torch.rand(2, 3, generator=rng)
    weight, bias, scale = given.values()
    expected = scale * F.linear(x, weight, bias)
    torch.testing.assert_close(
        F.linear(x, fitted["stages.0.attn.proj.weight"], fitted["stages.0.attn.proj.bias"]), expected
    )
    assert adapted == ["1 layer scales: multiplied into the weights before them"]
    assert not others
    assert used == set(given)


def test_singleton_axes_and_half_precision_fit():
    given = {"a": torch.arange(6.0).half().view(6, 1, 1), "b": torch.rand(4, 2, 1, 1)}
    fitted, adapted, others, _ = fit_tensors(given, {"a": torch.zeros(6), "b": torch.zeros(4, 2)})
    assert torch.equal(fitted["a"], torch.arange(6.0))
    assert torch.equal(fitted["b"], given["b"].view(4, 2))
    assert not adapted
    assert not others


def test_other_input_channels_get_the_mean_and_the_sum_stays():
    given = {"stem.0.weight": torch.rand(2, 3, 7, 7)}
    fitted, adapted, _, _ = fit_tensors(given, {"stem.0.weight": torch.zeros(2, 5, 7, 7)})
    torch.testing.assert_close(fitted["stem.0.weight"].sum(1), given["stem.0.weight"].sum(1))
    assert adapted == ["stem.0.weight: from shape (2, 3, 7, 7)"]


def test_what_does_not_fit_is_named_with_both_shapes():
    fitted, _, others, used = fit_tensors({"a": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2), "b": torch.zeros(1)})
    assert not fitted
    assert others == ["a: shape (2, 3) instead of (3, 2)"]
    assert used == {"a"}
