"""Registration finds a known pose again, remembers it, and says what it cannot do."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from data_modules.errors import DataError
from data_modules.phantoms.ixi import write
from data_modules.reading.grids import same_grid
from data_modules.reading.registration import register_rigid

Array = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


class Pair(NamedTuple):
    """A PD volume, the T1 that is to be registered to it, the result, and what it should be."""

    fixed: Path
    moving: Path
    found: Volume
    truth: Array


def load(path: Path) -> tuple[Array, Array]:
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    return np.asarray(image.get_fdata(), np.float64), np.asarray(image.affine, np.float64)


def save(path: Path, values: Volume, affine: Array | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The T1 of a phantom whose head moved before it, on smaller voxels."""
    root = tmp_path_factory.mktemp("phantom")
    t1, _, pd = write(root / "aligned", num=1, seed=3, size=(40, 40, 28))
    moving, _, _ = write(root / "moved", num=1, seed=3, size=(40, 40, 28), misaligned=True)
    found, _ = register_rigid(pd, moving, cache=False)
    return Pair(pd, moving, found, load(t1)[0])


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The same T1 voxels as on the grid of PD, under a header that is wrong by a known motion."""
    root = tmp_path_factory.mktemp("phantom")
    t1, _, pd = write(root, num=1, seed=4, size=(40, 40, 28))
    values, affine = load(t1)
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", (7, -5, 10), degrees=True).as_matrix()
    motion[:3, 3] = (12, -8, 6)
    moving = save(root / "turned.nii.gz", values.astype(np.float32), motion @ affine)
    found, _ = register_rigid(pd, moving, cache=False)
    return Pair(pd, moving, found, values)


def error(values: Array | Volume, truth: Array) -> float:
    """Mean difference, each volume in units of its own bright voxels."""
    scale, own_scale = np.percentile(truth, 99), np.percentile(values, 99)
    return float(abs(values / own_scale - truth / scale).mean())


@pytest.mark.parametrize("which", ["moved", "turned"])
def test_finds_the_pose_within_a_voxel(which: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(which)
    assert pair.found.dtype == np.float32
    assert pair.found.shape == pair.truth.shape
    off_by_one = min(error(np.roll(pair.truth, 1, axis), pair.truth) for axis in range(3))
    assert error(pair.found, pair.truth) < 0.8 * off_by_one
    (values, own), (_, affine) = load(pair.moving), load(pair.fixed)
    by_header = affine_transform(
        values, np.linalg.inv(own) @ affine, output_shape=pair.truth.shape, order=1
    )
    assert error(pair.found, pair.truth) < 0.6 * error(by_header, pair.truth)


def test_a_second_call_needs_no_search_unless_a_file_has_changed(
    moved: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, affine = register_rigid(moved.fixed, moved.moving)
    assert np.array_equal(affine, load(moved.fixed)[1])
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    again, _ = register_rigid(moved.fixed, moved.moving)
    assert np.array_equal(first, again)
    stamp = moved.moving.stat().st_mtime_ns
    os.utime(moved.moving, ns=(stamp, stamp + 1_000_000_000))
    with pytest.raises(DataError, match="SimpleITK"):
        register_rigid(moved.fixed, moved.moving)
    os.utime(moved.moving, ns=(stamp, stamp))
    (memory,) = (Path(os.environ["XDG_CACHE_HOME"]) / "meddiff").glob("registered-*")
    memory.write_text("[1, 2", encoding="utf-8")
    with pytest.raises(DataError, match="SimpleITK"):
        register_rigid(moved.fixed, moved.moving)


def test_a_home_that_cannot_be_written_and_the_same_result_each_time(
    turned: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    again, _ = register_rigid(turned.fixed, turned.moving)
    assert np.array_equal(again, turned.found)


def test_without_simpleitk_says_what_to_install_and_names_both_files(
    moved: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(DataError, match=r"pip install 'meddiff\[registration\]'") as raised:
        register_rigid(moved.fixed, moved.moving)
    assert str(moved.fixed) in str(raised.value)
    assert str(moved.moving) in str(raised.value)


def test_volumes_that_have_nothing_in_common(moved: Pair, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(24, 24, 16)).astype(np.float32)
    other = save(tmp_path / "noise.nii.gz", noise, np.diag([8.0, 8.0, 10.0, 1.0]))
    with pytest.raises(DataError, match="next to nothing") as raised:
        register_rigid(moved.fixed, other)
    assert str(moved.fixed) in str(raised.value)
    assert str(other) in str(raised.value)
    empty = save(tmp_path / "empty.nii.gz", np.zeros((24, 24, 16), np.float32))
    with pytest.raises(DataError, match=r"empty\.nii\.gz could not be registered"):
        register_rigid(moved.fixed, empty)


def test_volumes_that_cannot_be_used(moved: Pair, tmp_path: Path) -> None:
    four = save(tmp_path / "four.nii.gz", np.ones((4, 5, 6, 2), np.float32))
    with pytest.raises(DataError, match=r"four\.nii\.gz: has 4 dimensions \(4, 5, 6, 2\)"):
        register_rigid(moved.fixed, four)
    flat = save(tmp_path / "flat.nii.gz", np.ones((4, 5), np.float32))
    with pytest.raises(DataError, match=r"flat\.nii\.gz: 4x5x1 voxels.*3-D"):
        register_rigid(moved.fixed, flat)
    holes = np.ones((4, 5, 6), np.float32)
    holes[1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"holes\.nii\.gz: holds 1 voxels that are NaN"):
        register_rigid(save(tmp_path / "holes.nii.gz", holes), moved.moving)
    (tmp_path / "text.nii.gz").write_text("no volume")
    with pytest.raises(DataError, match=r"text\.nii\.gz: is not gzip-compressed"):
        register_rigid(moved.fixed, tmp_path / "text.nii.gz")


def test_same_grid() -> None:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    near, far = affine.copy(), affine.copy()
    near[0, 3], far[0, 3] = 5e-4, 5e-3
    grid = ((4, 5, 6), affine)
    assert same_grid(grid, ((4, 5, 6), near))
    assert not same_grid(grid, ((4, 5, 6), far))
    assert not same_grid(grid, ((4, 5, 7), affine))
    assert not same_grid(grid, ((4, 5, 6), affine + np.eye(4)))


def test_grids_of_voxels_below_the_tolerance_are_told_apart() -> None:
    affine = np.diag([1e-3, 1e-3, 1e-3, 1.0])  # 1 micron
    other = affine.copy()
    other[0, 3] = 2e-4
    assert not same_grid(((4, 5, 6), affine), ((4, 5, 6), other))
    other[0, 3] = 5e-6
    assert same_grid(((4, 5, 6), affine), ((4, 5, 6), other))
