"""Planes put together again, against what nibabel says of the files."""

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from data_modules.kinds.slice_volumes import WritesVolumes, volume_of
from data_modules.reading.nifti import read_grid, read_volume
from data_modules.reading.volumes import axial_plane

SHAPE = (5, 6, 7)
KINDS: dict[str, Any] = {
    ".nii": nibabel.Nifti1Image,
    ".nii.gz": nibabel.Nifti2Image,
    ".img": nibabel.Nifti1Pair,
}


def oblique(axes: str) -> np.ndarray:
    """An affine whose voxel axes run along these, voxels of 1.5, 2 and 0.5 mm, tilted a little."""
    affine = np.zeros((4, 4))
    for column, (letter, side) in enumerate(zip(axes, (1.5, 2.0, 0.5), strict=True)):
        row = next(k for k, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[row, column] = side if letter in "RAS" else -side
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    affine[:, 3] = (-80, 12, 7, 1)
    return np.asarray(tilt @ affine)


def stored_volume(path: Path, axes: str, shape: tuple[int, ...] = SHAPE, units: str = "mm") -> Path:
    kind = next(kind for end, kind in KINDS.items() if path.name.endswith(end))
    data = np.random.default_rng(0).integers(1, 999, shape).astype(np.int16)
    image = kind(data, oblique(axes))
    image.set_qform(oblique(axes), 1)
    image.set_sform(oblique(axes), 4)
    image.header.set_xyzt_units(units)
    image.header["descrip"] = b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"born 1970"))
    nibabel.save(image, path)
    return path


def written(path: Path, planes: dict[int | None, np.ndarray], folder: Path) -> Any:
    """What the data module writes, read by nibabel."""

    class Data(WritesVolumes):
        root = path.parent

    out = io.BytesIO()
    Data().write_volume(path.name, planes, out)
    (folder / "out.nii.gz").write_bytes(out.getvalue())
    return nibabel.load(folder / "out.nii.gz")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAL", "IRP", "ASL"])
@pytest.mark.parametrize("end", KINDS)
def test_all_planes_come_back_where_they_were(axes: str, end: str, tmp_path: Path) -> None:
    """Whatever its axes, the file comes back voxel by voxel, on the same grid."""
    source = stored_volume(tmp_path / f"brain{end}", axes)
    grid, volume = read_grid(source), read_volume(source)
    planes: dict[int | None, np.ndarray] = {
        k: axial_plane(volume, grid, k)[0] for k in range(grid.shape[2])
    }
    own: Any = nibabel.load(source)
    made = written(source, planes, tmp_path)
    assert nibabel.aff2axcodes(made.affine) == tuple(axes)
    np.testing.assert_array_equal(made.get_fdata(), own.get_fdata())
    np.testing.assert_array_equal(made.affine, own.affine)
    np.testing.assert_array_equal(made.get_qform(), own.get_qform())
    assert [made.header[f"{form}_code"] for form in ("qform", "sform")] == [1, 4]
    assert made.header.get_zooms() == own.header.get_zooms()
    assert made.get_data_dtype() == np.float32
    # Nobody asked for what the source tells of the person.
    assert made.header["descrip"].item() == b""
    assert not made.header.extensions


def test_planes_that_are_not_given_are_zero(tmp_path: Path) -> None:
    """Superior runs along the second axis, downwards: plane 1 from below is 4 of 6."""
    source = stored_volume(tmp_path / "a.nii", "RIP")
    plane = np.arange(35, dtype=np.float32).reshape(7, 5) / 34
    data = written(source, {1: plane}, tmp_path).get_fdata()
    assert np.argwhere(data.any(axis=(0, 2))).ravel().tolist() == [4]
    # The first row is the most anterior one; the third axis runs to posterior.
    np.testing.assert_allclose(data[:, 4, :].T, plane)


def test_lengths_in_metres_stay_metres(tmp_path: Path) -> None:
    source = stored_volume(tmp_path / "a.nii", "RAS", units="meter")
    made = written(source, {0: np.zeros((6, 5), np.float32)}, tmp_path)
    assert made.header.get_xyzt_units()[0] == "meter"
    assert made.header.get_zooms() == (1.5, 2.0, 0.5)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (1, 5, 6), (5, 1, 6), (5, 6, 7, 1)])
def test_slices_and_further_axes_keep_their_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    source = stored_volume(tmp_path / "a.nii.gz", "LPS", shape)
    grid, volume = read_grid(source), read_volume(source)
    indices: list[int | None] = [None] if 1 in grid.shape else list(range(7))
    planes = {index: axial_plane(volume, grid, index)[0] for index in indices}
    made, own = written(source, planes, tmp_path), nibabel.load(source)
    assert made.shape == shape
    np.testing.assert_array_equal(made.get_fdata(), own.get_fdata())  # type: ignore[attr-defined]


def test_class_ids_stay_whole_numbers(tmp_path: Path) -> None:
    source = stored_volume(tmp_path / "a.nii", "RAS")
    ids = np.full((6, 5), 300, np.uint16)
    made = volume_of(source, {0: ids})
    assert made.get_data_dtype() == np.uint16
    assert np.unique(made.get_fdata()).tolist() == [0, 300]


def test_a_qform_without_its_sign_is_read_and_written(tmp_path: Path) -> None:
    """A qfac of 0 stands for 1, and the side of an axis with one voxel for nothing."""
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(np.ones((5, 6, 1), np.int16), None)
    image.header.set_qform(np.diag([2.0, 3, 1, 1]), 1)
    nibabel.save(image, path)
    block = bytearray(path.read_bytes())
    block[76:80] = block[88:92] = b"\0\0\0\0"  # pixdim[0] and pixdim[3]
    path.write_bytes(block)
    made = volume_of(path, {None: np.ones((6, 5), np.float32)})
    assert made.shape == (5, 6, 1)
    assert made.header.get_zooms()[:2] == (2.0, 3.0)
