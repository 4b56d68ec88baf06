import numpy as np
import torch

from pipeline.pretext import batches
from pipeline.pretext.batches import draw_views, small_side
from tests.pretext.conftest import settings

FRAMES = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
PARAMS = settings(view_size=64, dense_cells=5, epochs=4)


def test_extra_views_are_small_in_pixels_and_in_area():
    batch = draw_views(FRAMES, PARAMS, 1, [4, 0, 7], 2, progress=0.25)
    assert [view.shape for view in batch.views] == [(3, 3, 64, 64)] * 2
    assert [extra.view.shape for extra in batch.extra] == [(3, 3, 32, 32)] * 2
    for extra in batch.extra:
        area = (extra.crop.boxes[:, 2:] - extra.crop.boxes[:, :2]).prod(1)
        assert (area > PARAMS.views.min_area / 3 - 1e-6).all()
        assert (area < PARAMS.views.min_area + 1e-6).all()
        assert extra.places.shape == extra.offsets.shape == (3, 5, 2)
        assert extra.offsets.abs().max() <= PARAMS.neighbourhood
    assert not torch.equal(batch.extra[0].view, batch.extra[1].view)
    assert batch.progress == 0.25


def test_everything_is_replayed_and_belongs_to_the_image_not_to_the_batch():
    one, again = (draw_views(FRAMES, PARAMS, 1, [4, 0, 7], 1) for _ in range(2))
    alone = draw_views(FRAMES[1:2], PARAMS, 1, [0], 1)
    later = draw_views(FRAMES, PARAMS, 2, [4, 0, 7], 1)
    assert torch.equal(one.draw("mask", 3), again.draw("mask", 3))
    assert torch.equal(one.draw("mask", 3)[1:2], alone.draw("mask", 3))
    for pick in (lambda b: b.views[1], lambda b: b.extra[0].view, lambda b: b.places, lambda b: b.draw("mask", 3)):
        assert torch.equal(pick(one), pick(again))
        torch.testing.assert_close(pick(one)[1:2], pick(alone))
        assert not torch.equal(pick(one), pick(later))


def test_extra_views_leave_the_large_ones_as_they_are():
    without, with_ = (draw_views(FRAMES, PARAMS, 0, [0, 1, 2], extra) for extra in (0, 2))
    assert without.extra == ()
    assert all(torch.equal(one, two) for one, two in zip(without.views, with_.views, strict=True))


def test_the_small_side_is_about_half_and_fits_the_stride():
    assert {side: small_side(side) for side in (32, 64, 96, 160, 224)} == {32: 32, 64: 32, 96: 64, 160: 96, 224: 128}


def test_a_draw_never_reaches_1_so_that_it_can_pick_one_of_many(monkeypatch):
    monkeypatch.setattr(batches, "uniforms", lambda *of: np.full((3, of[-1]), np.nextafter(1.0, 0.0)))
    drawn = draw_views(FRAMES, PARAMS, 0, [0, 1, 2], 0).draw("permutation", 1)
    assert drawn.dtype == torch.float32
    assert drawn.max() < 1
    assert all((drawn * count).long().max() == count - 1 for count in range(1, 2000))
