"""The phantom of IXI stands for MR of the head: contrasts, grids and names as the real set has."""

import re
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from data_modules.errors import DataError
from data_modules.phantoms.ixi import write
from data_modules.phantoms.painters.brain import MODALITIES, TISSUES, Head, scan

SMALL = (24, 24, 16)


def load(path: Path) -> nibabel.Nifti1Image:
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti1Image)
    return image


def places(step: float) -> npt.NDArray[np.float32]:
    axis = np.arange(-105, 106, step)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).astype(np.float32)


def test_names_and_folders_are_the_official_ones(tmp_path: Path) -> None:
    files = write(tmp_path, num=4, seed=0, size=SMALL)
    assert sorted(files) == sorted(f for f in tmp_path.rglob("*") if f.is_file())
    assert len(files) == 12
    for file in files:
        found = re.fullmatch(r"IXI\d{3}-(Guys|HH|IOP)-\d{4}-(T1|T2|PD)\.nii\.gz", file.name)
        assert found
        assert file.parent == tmp_path / f"IXI-{found[2]}"
    assert {file.name.split("-")[1] for file in files} == {"Guys", "HH", "IOP"}
    assert len({file.name[:6] for file in files}) == 4


@pytest.mark.parametrize("misaligned", [False, True])
def test_the_same_seed_gives_the_same_files_and_num_only_adds(
    tmp_path: Path, misaligned: bool
) -> None:
    few, again, more, other = (tmp_path / name for name in ("few", "again", "more", "other"))
    for root, num, seed in ((few, 2, 1), (again, 2, 1), (more, 3, 1), (other, 2, 2)):
        write(root, num=num, seed=seed, size=SMALL, misaligned=misaligned)
    paths = [file.relative_to(few) for file in few.rglob("*") if file.is_file()]
    for path in paths:
        data = (few / path).read_bytes()
        assert data == (again / path).read_bytes() == (more / path).read_bytes()
        assert data != (other / path).read_bytes()
    assert len({(few / path).read_bytes() for path in paths}) == len(paths)


def test_modalities_share_a_grid_unless_misaligned(tmp_path: Path) -> None:
    t1, t2, pd = map(load, write(tmp_path / "a", num=1, seed=0, size=SMALL))
    moved, t2_again, _ = map(
        load, write(tmp_path / "b", num=1, seed=0, size=SMALL, misaligned=True)
    )
    assert t1.shape == t2.shape == pd.shape == SMALL
    assert np.array_equal(t1.affine, t2.affine)
    assert np.array_equal(t1.affine, pd.affine)
    assert np.array_equal(t2.get_fdata(), t2_again.get_fdata())
    assert moved.shape != t1.shape
    extent, moved_extent = (np.array(i.shape) * i.header.get_zooms() for i in (t1, moved))
    assert np.allclose(extent, moved_extent, rtol=1e-5)  # the same field of view


def test_a_misaligned_head_has_moved_beyond_what_its_header_says(tmp_path: Path) -> None:
    aligned = write(tmp_path / "a", num=3, seed=0, size=SMALL)[::3]
    moved = write(tmp_path / "b", num=3, seed=0, size=SMALL, misaligned=True)[::3]
    shifts = []
    for files in zip(aligned, moved, strict=True):
        centres = []
        for image in map(load, files):
            values = image.get_fdata()
            bright = np.argwhere(values > np.percentile(values, 99) / 4).mean(axis=0)
            centres.append(image.affine[:3, :3] @ bright + image.affine[:3, 3])
        shifts.append(np.linalg.norm(centres[0] - centres[1]))
    assert min(shifts) > 2
    assert max(shifts) < 15


def test_tissues_add_up_and_each_is_there() -> None:
    for k in range(4):
        maps = Head(np.random.default_rng(k)).tissues(places(7), 4.0)
        assert np.allclose(maps.sum(0), 1, atol=1e-5)
        assert maps.min() >= 0
        volumes = dict(zip(TISSUES, maps.sum((1, 2, 3)) * 7**3 / 1000, strict=True))  # cm^3
        assert 900 < volumes["grey"] + volumes["white"] + volumes["nuclei"] < 2000
        assert 0.4 < volumes["grey"] / volumes["white"] < 2.5
        assert 10 < volumes["nuclei"] < 40


def test_the_head_lies_within_the_field_of_view(tmp_path: Path) -> None:
    for file in write(tmp_path, num=6, seed=0, size=SMALL):
        values = load(file).get_fdata()
        head = values > np.percentile(values, 99) / 4
        assert not head[[0, -1]].any()
        assert not head[:, [0, -1]].any()


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        ("T1", ["scalp", "white", "nuclei", "grey", "csf", "skull", "air"]),
        ("T2", ["csf", "grey", "nuclei", "white", "skull", "air"]),
        ("PD", ["grey", "csf", "skull", "air"]),
        ("PD", ["grey", "white", "skull", "air"]),
    ],
)
def test_contrasts_order_the_tissues_as_mr_does(modality: str, order: list[str]) -> None:
    where = places(5)
    for k in range(3):
        maps = Head(np.random.default_rng(k)).tissues(where, 2.0)
        values = scan(np.random.default_rng([k, 1]), maps, where, modality)
        means = [values[maps[TISSUES.index(tissue)] > 0.95].mean() for tissue in order]
        assert means == sorted(means, reverse=True)


def test_people_and_slices_differ() -> None:
    where = places(7)
    heads = [Head(np.random.default_rng(k)).tissues(where, 7.0)[5] for k in range(5)]
    everywhere = heads[0].mean()
    assert np.stack(heads).std(0).mean() > 0.2 * everywhere
    assert abs(heads[0][:, :, 15] - heads[0][:, :, 17]).mean() > 0.2 * everywhere


def test_noise_is_that_of_a_magnitude_and_differs_between_scans() -> None:
    where = places(7)
    maps = Head(np.random.default_rng(0)).tissues(where, 7.0)
    scans = [scan(np.random.default_rng(k), maps, where, MODALITIES[0]) for k in range(2)]
    air = [values[maps[0] == 1] for values in scans]
    for values in air:
        # Rayleigh: the mean is 1.91 standard deviations, and nothing is negative.
        assert values.min() >= 0
        assert values.mean() / values.std() == pytest.approx(1.91, rel=0.05)
    assert not np.array_equal(*air)


def test_more_subjects_than_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"301 given.*at most 300"):
        write(tmp_path, num=301, seed=0)
