"""What was made of the planes of a volume, as a volume on the grid of its source."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from data_modules.listing.scan_names import is_nifti
from data_modules.reading.nifti import read_grid, read_header, turn_of
from data_modules.reading.volumes import axial_plane

_TEXTS = ("descrip", "aux_file", "db_name", "data_type", "intent_name")  # may name a person


class WritesVolumes:
    """A data module of slices, as far as it puts them together again.

    Attributes:
        root: Paths are relative to it.
    """

    root: Path

    def is_volume(self, source: str) -> bool:
        """Whether a file that items are of, relative to the root, has a grid: no picture has."""
        return is_nifti(source)

    def write_volume(
        self, source: str, planes: Mapping[int | None, npt.NDArray[Any]], out: BinaryIO
    ) -> None:
        """Writes planes as a compressed NIfTI file with the grid of the volume they are of.

        Args:
            source: The volume, relative to the root.
            planes: (rows, columns) as they are shown, by their place in it (`item_source`).
            out: Where to write.
        """
        out.write(gzip.compress(volume_of(self.root / source, planes).to_bytes(), mtime=0))


def volume_of(source: Path, planes: Mapping[int | None, npt.NDArray[Any]]) -> Any:
    """A volume on the grid of its source, in the order and the orientation of its voxels.

    Args:
        source: A NIfTI file.
        planes: (rows, columns), all of one type, as `axial_plane` shows them, by their axial
            index; None for the one plane of a single slice.

    Returns:
        A nibabel image with the source's shape, affine (in both forms, with their codes) and units,
        and 0 where no plane is given. It has none of the source's texts and extensions.
    """
    import nibabel

    header, grid = read_header(source), read_grid(source)
    kind = next(iter(planes.values())).dtype
    upright = np.zeros(grid.shape, kind)
    for index, plane in planes.items():
        # A view as it is shown, so that what is written into it lands where it came from.
        shown, _ = axial_plane(upright, grid, index)
        shown[...] = plane
    back = nibabel.orientations.ornt_transform(turn_of(np.eye(4)), turn_of(header.affine))
    own = header.fields
    stored = np.asarray(nibabel.apply_orientation(upright, back)).reshape(own.get_data_shape())
    double = isinstance(own, nibabel.Nifti2Header)
    made: Any = nibabel.Nifti2Image if double else nibabel.Nifti1Image
    # Without an affine, so that both forms stay as they are.
    return made(stored, None, _header(own, made.header_class, stored))


def _header(own: Any, made: Any, stored: npt.NDArray[Any]) -> Any:
    """That of the source, as far as it says where voxels lie."""
    header = made(own.binaryblock, endianness=own.endianness, check=False)
    for field in _TEXTS:
        if field in header:  # the second version of the format has fewer
            header[field] = b""
    header["vox_offset"] = 0
    header.set_intent("none")
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, max(1, stored.max())
    return header
