import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.features.pooling import cell_boxes, overlap_weights, pool_cells

SIDES = st.integers(1, 12)


def average_by_hand(values: np.ndarray, level: int) -> np.ndarray:
    """Cut every pixel into level x level parts, so that cells end where parts do."""
    _, h, w = values.shape
    fine = values.repeat(level, axis=1).repeat(level, axis=2)
    cells = [
        fine[:, row * h : (row + 1) * h, col * w : (col + 1) * w].mean(axis=(1, 2))
        for row in range(level)
        for col in range(level)
    ]
    return np.stack(cells)


def random_map(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()


@given(level=SIDES, h=SIDES, w=SIDES)
def test_equals_average_of_refined_map(level: int, h: int, w: int) -> None:
    values = random_map(2, 3, h, w)
    cells = pool_cells(values, level)
    assert cells.shape == (2, level * level, 3)
    for image, expected in zip(cells, values, strict=True):
        np.testing.assert_allclose(image, average_by_hand(expected.double().numpy(), level), atol=1e-6)


def test_equals_adaptive_pooling_where_cells_end_with_pixels() -> None:
    values = random_map(2, 5, 8, 12)
    expected = torch.nn.functional.adaptive_avg_pool2d(values, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(pool_cells(values, 4), expected)


@given(level=SIDES, h=SIDES, w=SIDES)
def test_equal_cells_conserve_the_mean(level: int, h: int, w: int) -> None:
    values = random_map(1, 2, h, w).double()
    torch.testing.assert_close(pool_cells(values, level).mean(dim=1), values.mean(dim=(2, 3)))


@given(cells=SIDES, pixels=SIDES)
def test_weights_are_shares(cells: int, pixels: int) -> None:
    weights = overlap_weights(cells, pixels)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(weights.sum(axis=0), cells / pixels, rtol=1e-14)


def test_is_differentiable() -> None:
    values = random_map(1, 2, 3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pool_cells(x, 2), (values,))


def test_averages_half_precision_in_float32_under_autocast() -> None:
    values = (1000 + random_map(1, 4, 16, 16)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cells = pool_cells(values, 2)
    assert cells.dtype == torch.float32
    torch.testing.assert_close(cells, pool_cells(values.float(), 2), rtol=0, atol=0)


def test_boxes_tile_the_frame_in_the_order_of_the_cells() -> None:
    boxes = cell_boxes(2, 6, 10)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[0, 0, 3, 5], [0, 5, 3, 10], [3, 0, 6, 5], [3, 5, 6, 10]]
    values = torch.zeros(1, 1, 6, 10)
    values[0, 0, 0:3, 5:10] = 1.0  # the second box
    assert pool_cells(values, 2)[0, :, 0].tolist() == pytest.approx([0, 1, 0, 0])
