import torch
from torch import nn

from pipeline.labels.network import LabelledNet, labelled_loss


def test_the_loss_is_the_mean_over_labelled_pixels():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    masks[0, :2] = 255
    expected = [
        -logits[b, :, y, x].log_softmax(0)[masks[b, y, x]]
        for b in range(2)
        for y in range(4)
        for x in range(5)
        if masks[b, y, x] != 255
    ]
    torch.testing.assert_close(labelled_loss(logits, masks, 255), torch.stack(expected).mean())
    assert labelled_loss(logits, torch.full_like(masks, 255), 255) == 0


def test_the_head_alone_gives_the_body_no_gradient():
    body = nn.Conv2d(3, 4, 1, stride=4)
    net = LabelledNet(body, 4, 2, seed=0)
    images = torch.randn(2, 3, 8, 8)
    logits = net(images, head_only=True)
    assert logits.shape == (2, 2, 8, 8)
    logits.square().mean().backward()
    assert body.weight.grad is None
    assert net.head[1].weight.grad is not None
    net(images).square().mean().backward()
    assert body.weight.grad is not None


def test_the_seed_decides_the_head_alone():
    def weights(seed: int) -> torch.Tensor:
        return LabelledNet(nn.Identity(), 4, 2, seed).head[1].weight

    before = torch.random.get_rng_state()
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
    assert torch.equal(torch.random.get_rng_state(), before)
