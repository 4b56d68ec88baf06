import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.export.sliding import blend_weights, iterate_strips, window_starts

SIDES = st.integers(1, 40).map(lambda n: 32 * n)


@given(SIDES, st.integers(1, 8), st.integers(0, 7))
def test_windows_cover_a_side_and_share_at_least_the_overlap(size, window, overlap):
    window, overlap = 32 * window, 32 * min(overlap, window - 1)
    starts = window_starts(size, window, overlap)
    length = min(window, size)
    assert starts[0] == 0
    assert starts[-1] + length == size
    for one, next_ in itertools.pairwise(starts):
        assert next_ % 32 == 0
        assert one < next_ <= one + length - overlap
    weights = blend_weights([s // 4 for s in starts], length // 4, size // 4, overlap // 4)
    total = torch.zeros(size // 4)
    for start, weight in zip(starts, weights, strict=True):
        assert (weight > 0).all()
        total[start // 4 : (start + length) // 4] += weight
    assert torch.allclose(total, torch.ones(size // 4))


@pytest.mark.parametrize(("size", "window", "overlap"), [(65, 32, 0), (64, 40, 0), (64, 32, 16), (64, 32, 32)])
def test_sides_that_no_grid_has_are_refused(size, window, overlap):
    with pytest.raises(ValueError, match="multiples of 32"):
        window_starts(size, window, overlap)


def pooled(images: torch.Tensor) -> torch.Tensor:
    """A map of stride 4 whose cells see nothing beyond themselves, so that windows cannot change it."""
    return F.avg_pool2d(images, 4)[:, :2]


@pytest.mark.parametrize(("height", "width"), [(96, 96), (160, 64), (256, 320), (96, 352), (448, 96)])
def test_strips_of_a_local_score_are_the_whole_map(height, width):
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    strips = list(iterate_strips(pooled, images, window=128, overlap=32))
    assert all(strip.shape[2] <= 32 for strip in strips)
    assert torch.allclose(torch.cat(strips, 2), pooled(images), atol=1e-6)


def test_a_seam_is_blended_from_one_window_to_the_next():
    seen = []

    def number(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape[2:]))
        return torch.full((1, 1, images.shape[2] // 4, images.shape[3] // 4), float(len(seen)))

    (strip,) = iterate_strips(number, torch.zeros(1, 3, 64, 96), window=64, overlap=32)
    assert seen == [(64, 64), (64, 64)]
    row = strip[0, 0, 0]
    assert torch.equal(row[:8], torch.ones(8))
    assert torch.allclose(row[8:16], 1 + (torch.arange(8) + 0.5) / 8)
    assert torch.equal(row[16:], torch.full((8,), 2.0))
