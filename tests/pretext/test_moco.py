from dataclasses import replace

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
    before, seen = model.queue.keys.clone(), []
    model.slow_backbone.module.register_forward_hook(lambda *of: seen.append(of[-1][-1]))
    assert_follows(model, copies, batch, 0.9)
    assert torch.equal(model.queue.keys[0], before[-1])
    keys = F.normalize(model.slow_project.module(seen[0].mean((2, 3))), dim=1)
    torch.testing.assert_close(model.queue.keys[1:], keys)


def test_a_key_shares_no_batch_statistics_with_its_query():
    batch, others = view_batch(3), view_batch(3, seed=1)
    views = (torch.cat([one[:1], other[1:]]) for one, other in zip(batch.views, others.views, strict=True))
    keys, queries = [], []
    for given in (batch, replace(batch, views=tuple(views))):  # the first image is the same
        model = sharpened(build(queue=6)).train()
        model(others)  # a step, so that there are statistics
        model.project.register_forward_hook(lambda *of: queries.append(F.normalize(of[-1], dim=1)))
        model(given)
        keys.append(model.queue.keys)
    for view in (0, 3):
        torch.testing.assert_close(keys[0][view], keys[1][view])
        assert not torch.allclose(queries[0][view], queries[1][view], atol=1e-3)
        assert not torch.allclose(keys[0][view + 1], keys[1][view + 1], atol=1e-3)
