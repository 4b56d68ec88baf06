from dataclasses import replace

import torch
import torch.nn.functional as F

from pipeline.pretext.densecl import DenseCl, match_cells
from tests.pretext.conftest import (
    assert_follows,
    assert_teaches_as,
    pooled,
    settings,
    sharpened,
    tiny_encoder,
    view_batch,
)


def build(**changes) -> DenseCl:
    changes = {"queue": 5, "temperature": 0.3, "projection": {"hidden": 8, "width": 6}, **changes}
    return DenseCl(tiny_encoder(), settings(method="densecl", channels=8, **changes))


def test_a_cell_is_matched_to_the_one_most_alike():
    rng = torch.Generator().manual_seed(0)
    maps, others = torch.randn(2, 5, 2, 3, generator=rng), torch.randn(2, 5, 3, 2, generator=rng)
    found = match_cells(maps, 7 * others)
    assert found.shape == (2, 6)
    for b in range(2):
        for i in range(6):
            cell = maps[b, :, i // 3, i % 3]
            cosines = [float(cell @ others[b, :, j // 2, j % 2] / others[b, :, j // 2, j % 2].norm()) for j in range(6)]
            assert found[b, i] == max(range(6), key=cosines.__getitem__)


def contrast(query: torch.Tensor, key: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """A query (D,) among its key (D,) and negatives (Q, D); equations 1 and 2 of the paper."""
    query, key = F.normalize(query, dim=0), F.normalize(key.detach(), dim=0)
    alike = [torch.exp(query @ other / 0.3) for other in (key, *negatives)]
    return -torch.log(alike[0] / sum(alike))


def test_images_and_their_cells_find_what_is_theirs_in_the_other_view():
    model, batch = sharpened(build(dense_weight=0.3)), view_batch(3, side=64)
    global_losses, dense_losses = [], []
    for view, other in (batch.views, batch.views[::-1]):
        for image, partner in zip(view, other, strict=True):
            query = model.project(pooled(model.encoder.backbone, image))[0]
            key = model.slow_project.module(pooled(model.slow_backbone.module, partner))[0]
            global_losses.append(contrast(query, key, model.queue.keys))
            seen, slow = model.encoder.backbone(image[None])[-1], model.slow_backbone.module(partner[None])[-1]
            queries, keys = model.project_cells(seen)[0], model.slow_project_cells.module(slow)[0]
            places = [(y, x) for y in range(2) for x in range(2)]
            for y, x in places:
                alike = [torch.cosine_similarity(seen[0, :, y, x], slow[0, :, v, u], dim=0) for v, u in places]
                v, u = places[int(torch.stack(alike).argmax())]
                dense_losses.append(contrast(queries[:, y, x], keys[:, v, u], model.cell_queue.keys))
    of_images, of_cells = torch.stack(global_losses).mean(), torch.stack(dense_losses).mean()
    found = model(batch)
    torch.testing.assert_close(found["global_loss"], of_images)
    torch.testing.assert_close(found["dense_loss"], of_cells)
    assert_teaches_as(model, found["method_loss"], 0.7 * of_images + 0.3 * of_cells)


def test_the_copies_follow_with_a_steady_momentum_and_their_keys_are_queued():
    model, batch = build(momentum=0.9, queue=7), view_batch(3, side=64)
    copies = {
        "slow_backbone.module": model.encoder.backbone,
        "slow_project.module": model.project,
        "slow_project_cells.module": model.project_cells,
    }
    seen = []
    model.slow_backbone.module.register_forward_hook(lambda *of: seen.append(of[-1][-1]))
    assert_follows(model, copies, batch, 0.9)
    slow = seen[0]
    keys = F.normalize(model.slow_project.module(slow.mean((2, 3))), dim=1)
    torch.testing.assert_close(model.queue.keys[1:], keys)
    cells = F.normalize(model.slow_project_cells.module(slow), dim=1).mean((2, 3))
    torch.testing.assert_close(model.cell_queue.keys[1:], F.normalize(cells, dim=1))


def test_a_key_shares_no_batch_statistics_with_its_query():
    batch, others = view_batch(3, side=64), view_batch(3, seed=1, side=64)
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
