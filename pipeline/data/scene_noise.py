"""Noise fields from which the sample scenes are textured."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]
Region = NDArray[np.bool_]


def _interpolate_rows(lattice: Field, positions: Field) -> Field:
    """Read a lattice at fractional rows with smoothstep weights."""
    below = np.floor(positions).astype(np.intp)
    weight = positions - below
    weight = (weight * weight * (3 - 2 * weight))[:, None]  # (h, 1)
    return lattice[below] * (1 - weight) + lattice[below + 1] * weight


def make_grid_noise(
    rng: np.random.Generator, height: int, width: int, cell: tuple[float, float], octaves: int = 1
) -> Field:
    """Make fractal value noise on a pixel grid.

    Args:
        rng: Source of the lattice values.
        height: Rows of the field, pixels.
        width: Columns of the field, pixels.
        cell: Size of the coarsest lattice cell down and across, pixels.
        octaves: Number of layers; each halves the cell and the amplitude of the one before.

    Returns:
        Field (height, width), float64, in [0, 1] with mean near 0.5.
    """
    total = np.zeros((height, width))
    amplitude, norm = 1.0, 0.0
    for octave in range(octaves):
        cell_y, cell_x = (max(size / 2**octave, 1.0) for size in cell)
        lattice = rng.random((int(height / cell_y) + 3, int(width / cell_x) + 3))
        rows = _interpolate_rows(lattice, np.arange(height) / cell_y + rng.random())
        columns = _interpolate_rows(rows.T, np.arange(width) / cell_x + rng.random())
        total += amplitude * columns.T
        norm += amplitude
        amplitude /= 2
    return total / norm


def sample_noise(rng: np.random.Generator, rows: Field, columns: Field, octaves: int = 1) -> Field:
    """Sample fractal value noise with unit cells at any coordinates, such as a ground plane's.

    Args:
        rng: Source of the lattice values.
        rows: Vertical coordinates in cells, any shape.
        columns: Horizontal coordinates in cells, same shape as ``rows``.
        octaves: Number of layers; each halves the cell and the amplitude of the one before.

    Returns:
        Field of the same shape, float64, in [0, 1] with mean near 0.5. It repeats every 64 cells.
    """
    total = np.zeros(np.broadcast_shapes(rows.shape, columns.shape))
    norm = 0.0
    for octave in range(octaves):
        lattice = rng.random((64, 64))
        where = np.stack(np.broadcast_arrays(rows * 2**octave, columns * 2**octave))
        total += ndimage.map_coordinates(lattice, where, order=1, mode="grid-wrap") / 2**octave
        norm += 1 / 2**octave
    return total / norm


def make_cells(rng: np.random.Generator, height: int, width: int, cell: float) -> tuple[Field, Field, Field]:
    """Cut a pixel grid into cells around jittered centres (Worley, 'A cellular texture basis function', 1996).

    Args:
        rng: Source of the centres.
        height: Rows of the field, pixels.
        width: Columns of the field, pixels.
        cell: Mean distance between centres, pixels.

    Returns:
        Three fields (height, width), float64: distance to the nearest centre in cells (0 to about 1),
        signed height below that centre in cells, and a tone in [0, 1] that is constant within a cell.
    """
    n_rows, n_columns = int(height / cell) + 3, int(width / cell) + 3
    jitter = rng.random((n_rows, n_columns, 2))
    tones = rng.random((n_rows, n_columns))
    y = np.arange(height)[:, None] / cell + 1.0
    x = np.arange(width)[None, :] / cell + 1.0
    row = np.floor(y).astype(np.intp)
    column = np.floor(x).astype(np.intp)
    nearest = np.full((height, width), np.inf)
    below = np.zeros((height, width))
    tone = np.zeros((height, width))
    for step_y in (-1, 0, 1):
        for step_x in (-1, 0, 1):
            at = (row + step_y, column + step_x)
            offset_y = y - (row + step_y) - jitter[..., 0][at]
            offset_x = x - (column + step_x) - jitter[..., 1][at]
            distance = offset_y**2 + offset_x**2
            closer = distance < nearest
            np.copyto(nearest, distance, where=closer)
            np.copyto(below, offset_y, where=closer)
            np.copyto(tone, tones[at], where=closer)
    return np.sqrt(nearest), below, tone
