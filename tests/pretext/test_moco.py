import torch
import torch.nn.functional as F

from pipeline.pretext.moco import Moco
from tests.pretext.conftest import (
    assert_follows,
    assert_teaches_as,
    pooled,
    settings,
    sharpened,
    tiny_encoder,
    view_batch,
)


def build(**changes) -> Moco:
    changes = {"queue": 5, "temperature": 0.3, "projection": {"hidden": 8, "width": 6}, **changes}
    return Moco(tiny_encoder(), settings(method="moco", channels=8, **changes))


def test_each_view_finds_the_slow_key_of_the_other_among_the_queue():
    model, batch = sharpened(build()), view_batch(3)
    losses = []
    for view, other in (batch.views, batch.views[::-1]):
        for image, partner in zip(view, other, strict=True):
            query = F.normalize(model.project(pooled(model.encoder.backbone, image))[0], dim=0)
            key = F.normalize(model.slow_project.module(pooled(model.slow_backbone.module, partner))[0], dim=0)
            alike = [torch.exp(query @ key.detach() / 0.3)]
            alike += [torch.exp(query @ negative / 0.3) for negative in model.queue.keys]
            losses.append(-torch.log(alike[0] / sum(alike)))  # eq. 1 of the paper
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(losses).mean())


def test_the_copies_follow_with_a_steady_momentum_and_their_keys_are_queued():
    model, batch = build(momentum=0.9, queue=7), view_batch(3)
    copies = {"slow_backbone.module": model.encoder.backbone, "slow_project.module": model.project}
    before = model.queue.keys.clone()
    assert_follows(model, copies, batch, 0.9)
    assert torch.equal(model.queue.keys[0], before[-1])
    slow = model.slow_backbone.module(torch.cat(batch.views))[-1].mean((2, 3))
    keys = F.normalize(model.slow_project.module(slow), dim=1)
    torch.testing.assert_close(model.queue.keys[1:], keys)
