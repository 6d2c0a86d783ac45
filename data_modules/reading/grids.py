"""Where the voxels of a volume lie, and whether two volumes have theirs at the same places."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]
ShapeAndAffine: TypeAlias = tuple[tuple[int, ...], Matrix]

_TOLERANCE = 1e-3  # millimetres
_SHARE = 1e-2  # of a side of a voxel, where that is less: voxels may be smaller than the tolerance


def same_grid(first: ShapeAndAffine, second: ShapeAndAffine) -> bool:
    """Whether voxels of two volumes lie at the same places.

    Args:
        first: Shape, and affine (4, 4) in millimetres.
        second: The same.

    Returns:
        True where shapes are equal and affines agree within a thousandth of a millimetre, and
        within a hundredth of a voxel.
    """
    (shape, affine), (other_shape, other_affine) = first, second
    sides = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    tolerance = min(_TOLERANCE, _SHARE * sides.min())
    return shape == other_shape and np.allclose(affine, other_affine, rtol=0, atol=tolerance)


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    Attributes:
        shape: Voxels along right, anterior and superior; one of them is 1 in a single slice.
        affine: Index to mm, four rows of four.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @property
    def flat(self) -> bool:
        """Whether it is a single slice."""
        return 1 in self.shape

    @property
    def sides(self) -> tuple[float, float, float]:
        """Sides of a voxel in mm."""
        x, y, z = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0).tolist()
        return x, y, z

    def agrees(self, other: "Grid") -> bool:
        """Whether both have the same voxels in the same places."""
        first, second = ((grid.shape, np.array(grid.affine)) for grid in (self, other))
        return same_grid(first, second)

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        sides = " x ".join(f"{side:.3g}" for side in self.sides)
        first = ", ".join(f"{row[3]:.1f}" for row in self.affine[:3])
        return f"{size} voxels of {sides} mm from ({first})"
