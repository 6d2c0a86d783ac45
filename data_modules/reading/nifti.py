"""NIfTI files: the one way in which their headers and voxels are read.

NIfTI-1 and NIfTI-2 of either byte order, in one file (`.nii`) or a pair (`.hdr` and `.img`), each
plain or gzip-compressed. A `.gz` stream is read to its end, so that its checksums cover every
voxel; a plain file has none, and a voxel that was spoilt in it cannot be told.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_modules.errors import CorruptImageError
from data_modules.reading.formats import PAIRED_SUFFIXES
from data_modules.reading.grids import Grid
from data_modules.reading.memory import lacking_memory
from data_modules.reading.nifti_header import HEADER_BYTES, Header, parse_header
from data_modules.reading.streams import read_end, read_small, read_start, require_length

_MOST_OF_HEADER = 1 << 24  # bytes of a .hdr file, extensions included
_FLOATS = 9  # bytes a voxel: float32, a copy of it for percentiles, and whether it is finite
_SCALED = 8  # bytes a voxel while it is scaled, at most


def files_of(path: Path) -> tuple[Path, Path]:
    """The files that hold the header and the voxels of a volume; one and the same for `.nii`.

    Args:
        path: Either of them.

    Raises:
        CorruptImageError: If the other file of a pair is missing, or there are two.
    """
    end = next((end for end in PAIRED_SUFFIXES if path.name.lower().endswith(end)), None)
    if end is None:
        return path, path
    is_header = end.startswith(".hdr")
    stem = path.name[: len(path.name) - len(end)]
    wanted = ".img" if is_header else ".hdr"
    names = [stem + kind + gz for kind in (wanted, wanted.upper()) for gz in ("", ".gz", ".GZ")]
    there = [file for file in map(path.with_name, names) if file.is_file()]
    # One file has two of these names where the disk does not tell cases apart.
    others = list({(s.st_dev, s.st_ino): file for file in there for s in [file.stat()]}.values())
    if not others:
        what = "voxels" if is_header else "header"
        reason = f"is one half of a pair: there is no {stem}{wanted} with its {what} beside it"
        raise CorruptImageError(path, reason)
    if len(others) > 1:
        both = " and ".join(other.name for other in others)
        raise CorruptImageError(path, f"has two other halves, {both}; remove one")
    return (path, others[0]) if is_header else (others[0], path)


def read_header(path: Path) -> Header:
    """The header of a NIfTI file, compared with itself and with the size of the file.

    Args:
        path: The file, either one of a pair.

    Raises:
        CorruptImageError: If it cannot be read, does not hold, or tells of more than one grey
            volume or slice.
    """
    header_file, voxel_file = files_of(path)
    single = header_file == voxel_file
    try:
        if single:
            block = read_start(header_file, HEADER_BYTES)
        else:
            block = read_small(header_file, _MOST_OF_HEADER)[:HEADER_BYTES]
        header = parse_header(block, single)
        require_length(voxel_file, header.offset + header.length)
    except (OSError, ValueError) as error:
        raise CorruptImageError(path, _text(error)) from error
    return header


def read_stored(path: Path) -> tuple[npt.NDArray[np.float32], Header]:
    """The voxels (I, J, K) of a NIfTI file in the order of the file, scaled; and its header.

    Args:
        path: The file, either one of a pair.

    Raises:
        CorruptImageError: If it cannot be read, does not hold, needs more memory than is free, or
            has voxels that are no finite float32 numbers.
    """
    from nibabel.volumeutils import apply_read_scaling

    header = read_header(path)
    if lack := lacking_memory(_needed(header)):
        size = "x".join(map(str, header.shape))
        raise CorruptImageError(path, f"has a shape of {size} {header.dtype} voxels, which {lack}")
    try:
        data = read_end(files_of(path)[1], header.offset, header.length)
    except (OSError, ValueError) as error:
        raise CorruptImageError(path, _text(error)) from error
    stored = data.view(header.dtype).reshape(header.shape, order="F")
    with np.errstate(over="ignore", invalid="ignore"):
        values = apply_read_scaling(stored, header.slope, header.inter)
        voxels = values.astype(np.float32, copy=False)
    bad = int(voxels.size - np.isfinite(voxels).sum())
    if bad:
        raise CorruptImageError(path, _not_finite(values, stored, bad))
    return voxels, header


def read_volume(path: Path) -> npt.NDArray[np.float32]:
    """The voxels (right, anterior, superior) of a NIfTI file in its own grey values.

    Raises:
        CorruptImageError: If `read_stored` raises it.
    """
    voxels, header = read_stored(path)
    return turned(voxels, header.affine)


def turned(voxels: npt.NDArray[np.float32], affine: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Voxels (I, J, K) of an affine, turned to RAS."""
    import nibabel

    return np.asarray(nibabel.apply_orientation(voxels, turn_of(affine)), dtype=np.float32)


def read_grid(path: Path) -> Grid:
    """The grid of a NIfTI file, turned to RAS; reads its header alone.

    Raises:
        CorruptImageError: If `read_header` raises it.
    """
    from nibabel.orientations import inv_ornt_aff

    header = read_header(path)
    turn = turn_of(header.affine)
    new = [0, 0, 0]
    for n, axis in zip(header.shape, turn[:, 0].astype(int), strict=True):
        new[axis] = n
    upright = header.affine @ inv_ornt_aff(turn, header.shape)
    rows = tuple(tuple(float(x) for x in row) for row in upright)
    return Grid((new[0], new[1], new[2]), rows)


def turn_of(affine: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What turns voxels of an affine to RAS, as nibabel's `io_orientation` gives it."""
    import nibabel

    return np.asarray(nibabel.io_orientation(affine))


def _needed(header: Header) -> int:
    """Bytes that reading takes at once."""
    voxels = header.length // header.dtype.itemsize
    scaled = (header.slope, header.inter) != (1, 0)
    return header.length + voxels * (_FLOATS + (_SCALED if scaled else 0))


def _not_finite(values: npt.NDArray[Any], stored: npt.NDArray[Any], bad: int) -> str:
    no_numbers = int(stored.size - np.isfinite(stored).sum())
    if no_numbers:
        reason = "that are NaN or infinite; set them to 0 or leave the file out"
        return f"holds {no_numbers} voxels {reason}"
    largest = float(abs(values).max())
    return f"holds {bad} voxels beyond the range of float32, to {largest:.2g}; scale them down"


def _text(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return str(error)
