from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.data.views import Geometric
from pipeline.pretext.pixpro import PixPro, coarsen, match_loss, near_cells, propagate
from tests.pretext.conftest import (
    WHOLE,
    assert_follows,
    assert_teaches_as,
    crop_of,
    settings,
    sharpened,
    tiny_encoder,
    view_batch,
)

RNG = torch.Generator().manual_seed(0)


def test_cells_are_near_where_their_places_in_the_frame_are():
    boxes = [[(0.0, 0.0, 0.8, 1.0), WHOLE], [(0.2, 0.1, 1.0, 0.9), (0.1, 0.0, 0.5, 0.5)]]
    none = torch.tensor([False, False])
    crops = (
        Geometric(torch.tensor(boxes[0]), torch.tensor([False, True])),
        Geometric(torch.tensor(boxes[1]), torch.tensor([True, False]), none, torch.tensor([False, True])),
    )
    h, w = 2, 3
    found = near_cells(crops, (h, w))
    switches = [[(False, False), (True, False)], [(True, False), (False, True)]]  # flip, swap
    assert found.shape == (2, 6, 6)
    for b in range(2):
        for i in range(6):
            for j in range(6):
                places, diagonals = [], []
                for view, cell in ((0, i), (1, j)):
                    u, v = (cell % w + 0.5) / w, (cell // w + 0.5) / h
                    flip, swap = switches[view][b]
                    x, y = (v, u) if swap else (u, v)
                    x = 1 - x if flip else x
                    x0, y0, x1, y1 = boxes[view][b]
                    places.append(np.array([x0 + x * (x1 - x0), y0 + y * (y1 - y0)]))
                    diagonals.append(np.hypot((x1 - x0) / w, (y1 - y0) / h))
                distance = np.linalg.norm(places[0] - places[1])
                assert bool(found[b, i, j]) == (distance < 0.7 * max(diagonals)), (b, i, j)


def test_the_same_crop_matches_every_cell_with_itself():
    found = near_cells((crop_of([WHOLE]), crop_of([WHOLE])), (3, 3))
    assert torch.equal(found[0], torch.eye(9, dtype=torch.bool))


def test_propagation_sums_over_cells_that_are_alike():
    maps, moved = torch.randn(1, 4, 2, 2, generator=RNG), torch.randn(1, 4, 2, 2, generator=RNG)
    found = propagate(maps, moved)
    cells, other = maps[0].flatten(1).T, moved[0].flatten(1).T
    for i in range(4):
        expected = torch.zeros(4)
        for j in range(4):
            cosine = float(cells[i] @ cells[j] / cells[i].norm() / cells[j].norm())
            expected += max(cosine, 0.0) ** 2 * other[j]
        torch.testing.assert_close(found[0, :, i // 2, i % 2], expected)


def test_the_loss_is_the_mean_cosine_of_the_pairs():
    smooth, target = torch.randn(3, 4, 1, 2, generator=RNG), torch.randn(3, 4, 1, 2, generator=RNG)
    near = torch.tensor([[[1, 1], [0, 1]], [[0, 0], [0, 0]], [[0, 1], [0, 0]]], dtype=torch.bool)
    per_image = []
    for b in (0, 2):  # image 1 has no pairs
        cosines = [
            torch.cosine_similarity(smooth[b, :, 0, i], target[b, :, 0, j], dim=0)
            for i in range(2)
            for j in range(2)
            if near[b, i, j]
        ]
        per_image.append(torch.stack(cosines).mean())
    assert match_loss(smooth, target, near).item() == pytest.approx(-float(torch.stack(per_image).mean()), rel=1e-5)
    assert match_loss(smooth, target, torch.zeros_like(near)).item() == 0.0


def test_large_maps_are_averaged_down():
    assert coarsen(torch.ones(1, 2, 56, 40)).shape == (1, 2, 12, 12)
    assert coarsen(torch.ones(1, 2, 8, 40)).shape == (1, 2, 8, 12)


def build(**changes) -> PixPro:
    params = settings(method="pixpro", channels=8, projection={"hidden": 8, "width": 6}, **changes)
    return PixPro(tiny_encoder(), params)


def test_smoothed_cells_agree_with_the_slow_cells_at_their_place_in_the_other_view():
    model = sharpened(build())
    batch = view_batch([WHOLE, (0.0, 0.0, 0.7, 0.7)], [(0.0, 0.1, 0.6, 1.0), (0.2, 0.1, 0.9, 0.8)], flip=[False, True])
    near = near_cells(batch.crops, (8, 8))
    assert not torch.equal(near, near.transpose(1, 2))
    losses = []
    for view, other, pairs in zip(batch.views, batch.views[::-1], (near, near.transpose(1, 2)), strict=True):
        of_images = []
        for image, partner, matches in zip(view, other, pairs, strict=True):
            cells = model.project(model.encoder(image[None]))
            moved = model.transform(cells)[0].flatten(1).T
            cells = cells[0].flatten(1).T  # (64, 6)
            target = model.slow_project.module(model.slow_encoder.module(partner[None]))[0].flatten(1).T.detach()
            cosines = []
            for i, j in matches.nonzero().tolist():
                alike = torch.cosine_similarity(cells[i][None], cells).clamp(min=0) ** 2
                smooth = (alike[:, None] * moved).sum(0)
                cosines.append(torch.cosine_similarity(smooth, target[j], dim=0))
            of_images.append(torch.stack(cosines).mean())
        losses.append(-torch.stack(of_images).mean())
    assert_teaches_as(model, model(batch)["loss"], losses[0] + losses[1])  # eq. 6 of the paper, which is their sum


def test_the_copies_keep_more_of_themselves_as_training_goes_on():
    model = build(momentum=0.9)
    copies = {"slow_encoder.module": model.encoder, "slow_project.module": model.project}
    assert_follows(model, copies, view_batch(3), 0.9)
    assert_follows(model, copies, replace(view_batch(3), progress=0.5), 0.95)
