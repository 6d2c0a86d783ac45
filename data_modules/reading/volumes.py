"""Axial planes of volumes.

Arrays are turned to the axes right, anterior, superior (RAS) before anything else. A plane is shown
with anterior up and the patient's right at the right (neurological view).
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_modules.reading.grids import Grid

Plane = npt.NDArray[np.float32]
Spacing = tuple[float, float]
"""Distance of rows and of columns in mm."""


def axial_index(fraction: float, depth: int) -> int:
    """The axial plane nearest to a fraction of the extent, from 0 (lowest) to 1."""
    return round(fraction * (depth - 1))


def axial_plane(
    volume: npt.NDArray[np.float32], grid: Grid, index: int | None
) -> tuple[Plane, Spacing]:
    """A plane (rows, columns) as it is shown, a view of the volume, and its spacing.

    Args:
        volume: (right, anterior, superior).
        grid: Its grid.
        index: Position along superior; None takes the one plane of a single slice.
    """
    if index is None:
        axis = grid.shape.index(1)
        axis = 2 if grid.shape[2] == 1 else axis
        first, second = (k for k in range(3) if k != axis)
        plane = np.moveaxis(volume, axis, 0)[0]
    else:
        first, second, plane = 0, 1, volume[:, :, index]
    return plane[:, ::-1].T, (grid.sides[second], grid.sides[first])


def to_square(plane: Plane, spacing: Spacing, size: int) -> Plane:
    """Resizes in mm into the middle of a dark square, so that anatomy keeps its shape.

    Args:
        plane: (rows, columns) with 0 = background.
        spacing: Of rows and columns, in any unit.
        size: Height and width of the result.

    Returns:
        (size, size), bilinear with antialiasing.
    """
    top, left, bottom, right = square_window(plane.shape, spacing, size)
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    small = np.asarray(picture.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    square = np.zeros((size, size), np.float32)
    square[top:bottom, left:right] = small
    return square


def square_window(shape: tuple[int, ...], spacing: Spacing, size: int) -> tuple[int, int, int, int]:
    """Where in its square `to_square` puts a plane: first row and column, and those behind it.

    Args:
        shape: Rows and columns of the plane.
        spacing: Of rows and columns, in any unit.
        size: Height and width of the square.
    """
    rows, columns = (n * mm for n, mm in zip(shape, spacing, strict=True))
    whole = max(rows, columns)
    height, width = (max(round(size * n / whole), 1) for n in (rows, columns))
    top, left = (size - height) // 2, (size - width) // 2
    return top, left, top + height, left + width
