import sys

import pytest
import torch

from pipeline.backbones.vit import build_vit_small, resize_positions
from pipeline.errors import InputError


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_vit_small(16, "token").eval()


def reference(net, images: torch.Tensor, features: str) -> torch.Tensor:
    """The same network by timm's own class, with the weights of ours."""
    timm = pytest.importorskip("timm.models.vision_transformer")
    plain = timm.VisionTransformer(
        img_size=224, patch_size=16, embed_dim=384, num_heads=6, num_classes=0, dynamic_img_size=True
    ).eval()
    plain.blocks.load_state_dict(net.stages.state_dict())
    plain.norm.load_state_dict(net.norm.state_dict())
    plain.patch_embed.proj.load_state_dict(net.stem.project.state_dict())
    with torch.no_grad():
        plain.cls_token.copy_(net.stem.class_token)
        plain.pos_embed.copy_(net.stem.positions)
    if features == "token":
        return plain.forward_features(images)
    caught = []
    plain.blocks[-1].attn.k_norm.register_forward_hook(lambda module, given, out: caught.append(out))
    plain.forward_features(images)
    return caught[0].transpose(1, 2).flatten(2)  # (B, heads, N, D / heads) to (B, N, D)


@pytest.mark.parametrize("features", ["token", "key"])
@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_the_map_is_that_of_timm(net, features, size):
    net.features = features
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(net, images, features)[:, 1:]
        (map_,) = net(images)
    assert map_.shape == (2, net.widths[0], size[0] // 16, size[1] // 16)
    torch.testing.assert_close(map_.flatten(2).transpose(1, 2), expected, atol=1e-5, rtol=1e-5)
    net.features = "token"


def test_positions_are_only_resized_where_the_grid_differs():
    positions = torch.rand(1, 1 + 9, 4)
    assert resize_positions(positions, (3, 3)) is positions
    constant = resize_positions(torch.full((1, 10, 4), 0.5), (2, 5))
    assert constant.shape == (1, 11, 4)
    torch.testing.assert_close(constant, torch.full((1, 11, 4), 0.5))
    # a ramp along x alone grows along x alone
    ramp = torch.arange(3.0).repeat(3)[None, :, None]
    wide = resize_positions(torch.cat([torch.zeros(1, 1, 1), ramp], dim=1), (3, 6))[0, 1:, 0].view(3, 6)
    assert (wide.diff(dim=1) > 0).all()
    assert torch.allclose(wide[0], wide[2])


def test_some_tokens_can_be_encoded_alone(net):
    with torch.no_grad():
        tokens = net.stem(torch.rand(1, 3, 32, 32))
        assert tokens.shape == (1, 5, 384)
        assert net.encode(tokens[:, [0, 2]]).shape == (1, 2, 384)


def test_without_timm_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    with pytest.raises(InputError, match=r"vit_small_patch8 needs timm.*pip install -e '.\[vit\]'"):
        build_vit_small(8, "token")
