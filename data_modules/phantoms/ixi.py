"""A phantom of IXI in the folders that the official archives unpack to."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.phantoms.painters.brain import MODALITIES, Field, Head, scan

Matrix: TypeAlias = npt.NDArray[np.float64]

_SITES = ("Guys", "HH", "IOP")
_FIRST = 700  # above every real subject of IXI
_MOST = 300  # numbers have three digits
_DRAW = 11  # sets the pictures of one seed apart from those of other data sets
_FIELD_OF_VIEW = (232.0, 232.0, 196.0)  # mm


def write(
    root: Path,
    *,
    num: int,
    seed: int,
    size: tuple[int, int, int] = (64, 64, 40),
    misaligned: bool = False,
) -> list[Path]:
    """Writes `IXI-T1/IXI700-Guys-9000-T1.nii.gz` with its T2 and PD, and so on.

    Args:
        root: Folder that gets `IXI-T1/`, `IXI-T2/` and `IXI-PD/`.
        num: Number of subjects, at most 300.
        seed: The same seed gives the same volumes; subject k does not depend on `num`.
        size: Voxels from side to side, from back to front and from below; the field of view stays.
        misaligned: Whether T1 has voxels of its own and the person moved before it by some degrees
            and mm, which its header does not say. T2 and PD share a grid as in the real data.

    Returns:
        The files.

    Raises:
        DataError: If more subjects are asked for than there are numbers.
    """
    import nibabel

    if num > _MOST:
        raise DataError(f"--num: {num} given; a phantom of ixi has at most {_MOST} subjects.")
    files = []
    affine, shape = _grid(size, 1.0)
    places = _places(shape, affine)
    for k in range(num):
        head = Head(np.random.default_rng([seed, _DRAW, k]))
        tissues = head.tissues(places, affine[2, 2])
        for index, modality in enumerate(MODALITIES):
            rng = np.random.default_rng([seed, _DRAW, k, index])
            name = f"IXI{_FIRST + k}-{_SITES[k % 3]}-{9000 + k}-{modality}.nii.gz"
            files.append(root / f"IXI-{modality}" / name)
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            if misaligned and modality == "T1":
                image = _moved_scan(rng, head, size, modality)
            else:
                image = nibabel.Nifti1Image(scan(rng, tissues, places, modality), affine)
            nibabel.save(image, files[-1])
    return files


def _moved_scan(
    rng: np.random.Generator, head: Head, size: tuple[int, int, int], modality: str
) -> Any:
    """A NIfTI image with smaller voxels, of a head that has moved."""
    import nibabel

    affine, shape = _grid(size, 0.9)
    places = _places(shape, _motion(rng) @ affine)
    tissues = head.tissues(places, affine[2, 2])
    return nibabel.Nifti1Image(scan(rng, tissues, places, modality), affine)


def _grid(size: tuple[int, int, int], scale: float) -> tuple[Matrix, tuple[int, ...]]:
    """Affine and shape of a volume about the origin, stored from the left and from the front."""
    shape = tuple(round(voxels / scale) for voxels in size)
    spacing = np.array(_FIELD_OF_VIEW) / shape * (-1, -1, 1)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return affine, shape


def _motion(rng: np.random.Generator) -> Matrix:
    """A turn by 3 to 8 degrees about any axis, and a shift by 3 to 9 mm."""
    axis, shift = rng.normal(size=(2, 3))
    angle = np.deg2rad(rng.uniform(3, 8))
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    motion = np.eye(4)
    motion[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    motion[:3, 3] = shift / np.linalg.norm(shift) * rng.uniform(3, 9)
    return motion


def _places(shape: tuple[int, ...], matrix: Matrix) -> Field:
    """Where each voxel lies in the head: (X, Y, Z, 3) in mm."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.asarray(voxels @ matrix[:3, :3].T + matrix[:3, 3], dtype=np.float32)
