"""Planes come back as a volume on the grid of their source, whatever its files and units are."""

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from data_modules.kinds.slice_volumes import WritesVolumes
from data_modules.reading.nifti import read_grid, read_volume
from data_modules.reading.volumes import axial_plane

IN_MM = {1: 1e3, 2: 1.0, 3: 1e-3}


def source_of(folder: Path, name: str, unit: int, order: str) -> Path:
    """Noise on oblique voxels of about 0.9 x 1.2 x 2 mm; a pair of files by its name."""
    affine = np.array([[-0.9, 0, 0, 11], [0, 1.2, -0.5, -7], [0, 0.3, 2.0, 3], [0, 0, 0, 1]])
    affine[:3] /= IN_MM[unit]
    header: Any = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    data = np.random.default_rng(0).integers(1, 99, (7, 6, 5)).astype(np.int16)
    kind: Any = nibabel.Nifti1Image if ".nii" in name else nibabel.Nifti1Pair
    image = kind(data, affine, header)
    image.header["xyzt_units"] = unit
    image.set_qform(affine, 0)
    image.set_sform(affine, 1)
    nibabel.save(image, folder / name)
    return folder / name


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.img", "a.img.gz"])
@pytest.mark.parametrize("unit", [1, 2, 3])
def test_a_volume_of_planes_lies_where_its_source_lies(
    unit: int, name: str, order: str, tmp_path: Path
) -> None:
    source = source_of(tmp_path, name, unit, order)
    grid, voxels = read_grid(source), read_volume(source)
    data = WritesVolumes()
    data.root = tmp_path
    planes: dict[int | None, Any] = {k: axial_plane(voxels, grid, k)[0] for k in (1, 3)}
    out = io.BytesIO()
    data.write_volume(name, planes, out)
    made = tmp_path / "made.nii.gz"
    made.write_bytes(out.getvalue())
    assert read_grid(made).agrees(grid)
    read: Any = nibabel.load(made)
    assert read.header["xyzt_units"] == unit
    expected = np.zeros_like(voxels)
    expected[:, :, [1, 3]] = voxels[:, :, [1, 3]]
    assert np.array_equal(read_volume(made), expected)


def test_the_halves_of_a_pair_may_be_packed_differently(tmp_path: Path) -> None:
    import gzip

    source = source_of(tmp_path, "a.img", 2, "<")
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(source.read_bytes()))
    source.unlink()
    data = WritesVolumes()
    data.root = tmp_path
    grid = read_grid(tmp_path / "a.img.gz")
    out = io.BytesIO()
    data.write_volume("a.img.gz", {0: np.ones(grid.shape[1::-1], np.float32)}, out)
    (tmp_path / "made.nii.gz").write_bytes(out.getvalue())
    assert read_grid(tmp_path / "made.nii.gz").agrees(grid)
