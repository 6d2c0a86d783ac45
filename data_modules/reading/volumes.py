"""NIfTI volumes: grids, orientation and axial planes.

Arrays are turned to the axes right, anterior, superior (RAS) before anything else. A plane is shown
with anterior up and the patient's right at the right (neurological view).
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_modules.errors import CorruptImageError
from data_modules.reading.grids import Grid

Plane = npt.NDArray[np.float32]
Spacing = tuple[float, float]
"""Distance of rows and of columns in mm."""


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI file, turned to RAS; reads its header alone.

    Raises:
        CorruptImageError: If it cannot be read, or holds neither a volume nor a slice.
    """
    return _canonical(path, _load(path))[0]


def read_volume(path: Path) -> npt.NDArray[np.float32]:
    """The voxels (right, anterior, superior) of a NIfTI file in its own units.

    Raises:
        CorruptImageError: If it cannot be read, holds neither a volume nor a slice, or has voxels
            that are no numbers.
    """
    image = _load(path)
    _, turn = _canonical(path, image)
    try:
        data = np.asanyarray(image.dataobj)
    except Exception as error:  # the decompressors and parsers raise all sorts
        raise CorruptImageError(path, f"cannot be decoded ({_text(error)})") from error
    if data.dtype.kind not in "iufb":
        raise CorruptImageError(path, f"holds {data.dtype} voxels; expected grey values")
    return turned(path, data, turn)


def turned(path: Path, data: npt.NDArray[Any], turn: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Voxels turned to RAS.

    Args:
        path: Where they come from, for the error.
        data: As stored.
        turn: As nibabel's `io_orientation` gives it.

    Raises:
        CorruptImageError: If some are no numbers.
    """
    import nibabel

    voxels = np.asarray(data, dtype=np.float32).reshape(_three(data.shape))
    bad = int(voxels.size - np.isfinite(voxels).sum())
    if bad:
        reason = f"holds {bad} voxels that are NaN or infinite; set them to 0 or leave the file out"
        raise CorruptImageError(path, reason)
    return np.asarray(nibabel.apply_orientation(voxels, turn), dtype=np.float32)


def turn_of(affine: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What turns voxels of an affine to RAS."""
    import nibabel

    return np.asarray(nibabel.io_orientation(affine))


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


def _load(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.load(path)
    except Exception as error:  # a damaged header makes nibabel raise all sorts
        raise CorruptImageError(path, f"cannot be read as NIfTI ({_text(error)})") from error


def _canonical(path: Path, image: Any) -> tuple[Grid, npt.NDArray[Any]]:
    """The grid as RAS, and what turns the stored voxels to it."""
    from nibabel.orientations import inv_ornt_aff

    shape = tuple(int(n) for n in image.shape)
    if 0 in shape or len(shape) < 2:
        raise CorruptImageError(path, f"is empty: its shape is {shape}")
    if len(shape) > 3:
        reason = f"has {len(shape)} dimensions {shape}; save one volume a file, with three"
        raise CorruptImageError(path, reason)
    three = _three(shape)
    if sum(n > 1 for n in three) < 2:
        raise CorruptImageError(path, f"holds a line of voxels: its shape is {shape}")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        reason = "has an affine that is no grid (axes of no length, or in one plane); correct it"
        raise CorruptImageError(path, reason)
    turn = turn_of(affine)
    new = [0, 0, 0]
    for n, axis in zip(three, turn[:, 0].astype(int), strict=True):
        new[axis] = n
    upright = affine @ inv_ornt_aff(turn, three)
    rows = tuple(tuple(float(x) for x in row) for row in upright)
    return Grid((new[0], new[1], new[2]), rows), turn


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    height, width, *rest = shape
    return height, width, rest[0] if rest else 1


def _text(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
