"""The script that assembles the real brain slices, on files that are named like the real ones."""

import runpy
import sys
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "brain_slices.py"
# Voxels run from left to right, from front to back and from below; 2 x 1 x 1 mm.
FRONT_FIRST = np.diag([2.0, -1.0, 1.0, 1.0])


def save(path: Path, values: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes of volumes whose front half and right half are bright."""
    data, out = (tmp_path_factory.mktemp(name) for name in ("data", "out"))
    volume = np.zeros((8, 10, 160), np.float32)
    volume[:, :5] += 1
    volume[4:] += 2
    for name in ("avg152T1.nii", "avg152T2.nii", "avg152PD.nii", "single_subj_T1.nii"):
        save(data / "MNI_avg152" / name, volume, FRONT_FIRST)
    save(data / "MNI_avg152/spm152_T1.nii.gz", volume[:, ::-1], np.diag([2.0, 1.0, 1.0, 1.0]))
    for name in ("chris_PD.nii.gz", "chris_t1_on_PD_grid.nii.gz"):
        save(data / "chris_T1_PD" / name, volume, FRONT_FIRST)
    for modality in ("T1", "T2"):
        name = f"IXI/IXI002-Guys-0828-{modality}_slice90.nii.gz"
        save(data / name, volume[..., 0], FRONT_FIRST)
        folder = data / "IXI/SynDiff_sample_unpaired" / modality
        folder.mkdir(parents=True)
        for k in range(2):
            upright = (volume[..., 0].T * 20_000).astype(np.uint16)
            Image.fromarray(upright).save(folder / f"{modality}_{k:02d}.png")
    for modality in ("PD", "T2"):
        name = f"IXI/IXI040-Guys-0724-{modality}_slice69.nii.gz"
        save(data / name, volume[..., 0].T, np.eye(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), "--data", str(data), "--out", str(out)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return out


def stems(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.png")}


def test_every_picture_is_square_and_has_the_front_above_and_the_right_at_the_right(
    out: Path,
) -> None:
    files = sorted(out.rglob("*.png"))
    assert files
    for file in files:
        pixels = np.asarray(Image.open(file), dtype=float)
        height, width = pixels.shape
        assert height == width
        assert pixels.max() == 65535
        assert pixels[: height // 2].mean() > pixels[height // 2 :].mean()
        assert pixels[:, width // 2 :].mean() > pixels[:, : width // 2].mean()


def test_equal_names_are_aligned_pairs_and_nothing_else(out: Path) -> None:
    t1, pd, t2 = (stems(out / modality) for modality in ("T1", "PD", "T2"))
    assert {name.partition("_slice")[0] for name in t1 & pd} == {"chris", "avg152"}
    assert {name.partition("_slice")[0] for name in t1 & t2} == {"IXI002", "avg152"}
    assert {name.partition("_slice")[0] for name in pd & t2} == {"IXI040", "avg152"}
    assert len([name for name in t1 & pd if name.startswith("chris")]) == 30
    assert {name for name in t2 if "syndiff" in name} == {"syndiff_slice100", "syndiff_slice101"}


def test_pixels_are_square(out: Path) -> None:
    # 8 voxels of 2 mm by 10 of 1 mm: 16 columns, and three empty rows above and below.
    pixels = np.asarray(Image.open(out / "T1" / "colin27_slice040.png"))
    assert pixels.shape == (16, 16)
    assert not pixels[[0, 1, 2, -3, -2, -1]].any()
    assert pixels[3:-3].any(axis=1).all()
