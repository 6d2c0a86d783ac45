"""Volumes in other units and in two files, from the folder to the batch."""

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from data_modules.errors import DataError
from data_modules.registry import check
from data_modules.sets.ixi import IXIDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")


def module(root: Path, **arguments: Any) -> IXIDataModule:
    return IXIDataModule(root=str(root), **{"image_size": 16, "num_workers": 0, **arguments})


def save(path: Path, seed: int, length: float = 1.0, unit: int = 2) -> Path:
    """Noise on voxels of 1 x 2 x 1.5 mm; a pair of files where the name is of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind: Any = nibabel.Nifti1Pair if ".img" in path.name else nibabel.Nifti1Image
    affine = np.diag([length, 2 * length, 1.5 * length, 1])
    data = np.random.default_rng(seed).integers(0, 99, (8, 9, 10)).astype(np.int16)
    image = kind(data, affine)
    image.header["xyzt_units"] = unit
    image.set_sform(affine, 1)
    nibabel.save(image, path)
    return path


def images(root: Path, **arguments: Any) -> dict[str, Any]:
    """The planes of the training set by name."""
    data = module(root, num_test_subjects=0, val_fraction=0, **arguments)
    data.setup("fit")
    names = data.split_table()["train"]
    return {name: data._datasets["train"][k]["image"].numpy() for k, name in enumerate(names)}


def test_metres_and_microns_give_the_planes_of_mm(tmp_path: Path) -> None:
    for name, length, unit in (("mm", 1, 2), ("metres", 1e-3, 1), ("microns", 1e3, 3)):
        save(tmp_path / name / "T1" / "a.nii.gz", 0, length, unit)
    truth = images(tmp_path / "mm")
    assert len(truth) > 1
    for name in ("metres", "microns"):
        planes = images(tmp_path / name)
        assert planes.keys() == truth.keys()
        for plane, own in zip(planes.values(), truth.values(), strict=True):
            assert np.allclose(plane, own, atol=1e-4)


def test_a_pair_in_metres_and_mm_is_on_one_grid(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path / "T1" / f"s{k}.nii.gz", k, 1e-3, 1)
        save(tmp_path / "PD" / f"s{k}.nii.gz", 9 + k)
    data = module(tmp_path, test_subjects=["s0"], registration=False)
    data.setup("test")
    assert len(data.split_table()["test"]) > 0
    assert check("ixi", tmp_path, registration=False) == []


@pytest.mark.parametrize("end", [".img", ".img.gz"])
def test_two_files_are_one_volume(end: str, tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / "pair" / "T1" / f"s{k}{end}", k)
        save(tmp_path / "one" / "T1" / f"s{k}.nii", k)
    pairs, singles = images(tmp_path / "pair"), images(tmp_path / "one")
    assert pairs.keys() == singles.keys()
    for name, plane in pairs.items():
        assert np.array_equal(plane, singles[name])
    assert check("ixi", tmp_path / "pair") == []
    listed = tmp_path / "out.txt"
    for name in ("s1.hdr", f"s1{end}", "T1/s1.hdr", "s1"):
        listed.write_text(name)
        kept = images(tmp_path / "pair", exclude_file=str(listed))
        assert {Path(name).name[:2] for name in kept} == {"s0", "s2"}


def test_a_pair_and_a_single_file_of_one_name_are_doubles(tmp_path: Path) -> None:
    save(tmp_path / "T1" / "a.img", 0)
    save(tmp_path / "T1" / "a.nii.gz", 1)
    (problem,) = check("ixi", tmp_path)
    assert problem.kind == "duplicate"


@pytest.mark.parametrize("gone", [".hdr", ".img"])
def test_half_a_pair_stops_the_fit(gone: str, tmp_path: Path) -> None:
    save(tmp_path / "T1" / "a.img", 0)
    save(tmp_path / "T1" / "b.nii", 1)
    (tmp_path / "T1" / f"a{gone}").unlink()
    with pytest.raises(DataError, match=rf"T1/a\.\w+: subject a: is one half.*no a{gone}"):
        images(tmp_path)
    assert [p.kind for p in check("ixi", tmp_path)] == ["unreadable"]


def test_a_new_header_of_a_pair_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    path = save(tmp_path / "T1" / "a.img", 0)
    before = images(tmp_path)
    header = path.with_suffix(".hdr")
    old, stamp = nibabel.nifti1.Nifti1PairHeader.from_fileobj(header.open("rb")), header.stat()
    old["scl_slope"], old["scl_inter"] = -1, 0
    header.write_bytes(bytes(old.binaryblock) + bytes(4))
    os.utime(header, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 10**9))
    after = images(tmp_path)
    assert all(not np.allclose(before[name], after[name]) for name in before)


def test_a_spoilt_stream_stops_the_fit_and_check_names_it(tmp_path: Path) -> None:
    for k in range(2):
        path = save(tmp_path / "T1" / f"s{k}.nii.gz", k)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the checksum
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"s1\.nii\.gz: subject s1: is damaged: its gzip stream"):
        images(tmp_path)
    assert [p.path for p in check("ixi", tmp_path)] == ["T1/s1.nii.gz"]


@pytest.mark.parametrize("save_as", [np.savez, np.savez_compressed])
def test_no_flipped_bit_of_an_array_gives_another_picture(save_as: Any, tmp_path: Path) -> None:
    path = tmp_path / "T1" / "a_slice1.npz"
    path.parent.mkdir()
    save_as(path, np.random.default_rng(0).integers(0, 9, (12, 12)))
    whole, truth = path.read_bytes(), next(iter(images(tmp_path).values()))
    refused = 0
    for bit in np.random.default_rng(1).choice(len(whole) * 8, 60, replace=False).tolist():
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        try:
            planes = images(tmp_path)
        except DataError:
            refused += 1
            continue
        assert np.array_equal(next(iter(planes.values())), truth)
    assert refused > 20


def test_an_array_that_declares_more_than_there_is_memory(tmp_path: Path) -> None:
    import io
    import zipfile

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (10**8, 10**8)}
    )
    (tmp_path / "T1").mkdir()
    with zipfile.ZipFile(tmp_path / "T1" / "a_slice1.npz", "w") as file:
        file.writestr("arr_0.npy", head.getvalue())
    with pytest.raises(DataError, match=r"a_slice1\.npz: .*cannot be read as NumPy arrays"):
        images(tmp_path)
