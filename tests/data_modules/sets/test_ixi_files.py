"""What IXIDataModule finds, and what it says of what is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.registry import check, write_phantom
from data_modules.sets.ixi import IXIDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")


def module(root: Path, **arguments: Any) -> IXIDataModule:
    return IXIDataModule(root=str(root), **{"image_size": 16, "num_workers": 0, **arguments})


def save(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(data).save(path)
    elif path.suffix == ".npz":
        np.savez(path, data)
    else:
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return path


def noise(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).uniform(0, 99, shape).astype(np.float32)


def grey(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Six subjects, s0 to s5, of one T1 and one PD slice, with a root of their own."""
    root = tmp_path / "root"
    for k in range(6):
        save(root / "T1" / f"s{k}_slice1.png", grey(k))
        save(root / "PD" / f"s{k}_slice1.png", grey(100 + k))
    return root


@pytest.mark.parametrize(
    ("inside", "flat", "subject"),
    [
        ("chris_slice012", True, "chris"),
        ("T1_01", True, "T1"),
        ("x-017", True, "x"),
        ("IXI002-Guys-0828-T1_slice90", True, "IXI002"),
        ("IXI002-Guys-0828-T1", False, "IXI002"),
        ("sub-01_T1w", False, "sub-01"),
        ("sub-01/012", True, "sub-01"),
        ("017", True, "017"),
        ("colin27_slice3", True, "colin27"),
    ],
)
def test_the_subject_of_a_name(inside: str, flat: bool, subject: str) -> None:
    assert IXIDataModule.names().subject_of(inside, flat) == subject


@pytest.mark.parametrize(
    ("target", "source", "paired"),
    [
        ("IXI002-Guys-0828-T1_slice90.png", "IXI002-Guys-0828-T2_slice90.png", True),
        ("a_T1_3.png", "a_t2w_3.npz", True),
        ("deep/a_3.png", "deep/a_3.png", True),
        ("T1_03.png", "T2_03.png", False),  # a leading word is a name: such slices are no pairs
        ("a_3.png", "a_4.png", False),
    ],
)
def test_equal_names_but_for_the_modality_are_pairs(
    target: str, source: str, paired: bool, tmp_path: Path
) -> None:
    save(tmp_path / "T1" / target, grey(0))
    save(tmp_path / "t2" / source, grey(1))
    lines: list[str] = []
    assert check("ixi", tmp_path, note=lines.append) == []
    assert lines[0].startswith(f"T1 and T2: {1 if paired else 0} pair")


@pytest.mark.parametrize("folders", [("", ""), ("IXI", "IXI"), ("IXI-T1", "IXI-PD"), ("a/b", "c")])
def test_official_names_are_found_wherever_they_lie(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    for k in range(2):
        for folder, modality in zip(folders, ("T1", "PD"), strict=True):
            file = tmp_path / folder / f"IXI01{k}-IOP-0{k}-{modality}.nii.gz"
            save(file, noise(len(modality) + k, 8, 8, 8))
    save(tmp_path / "IXI010-IOP-00-MRA.nii.gz", noise(9, 8, 8, 8))
    data = module(tmp_path, test_subjects=["IXI010"], slices=[0.5])
    data.setup("test")
    assert [Path(p).name for p in data.split_table()["test"]] == ["IXI010-IOP-00-PD_slice004.nii"]
    assert IXIDataModule.present(tmp_path)


def test_folders_may_lie_in_ixi(slices: Path) -> None:
    slices.rename(slices.parent / "ixi")
    data = module(slices.parent)
    data.setup("fit")
    assert data.item_path("train", 0).startswith("ixi/T1/s")


def test_what_is_no_data_set_is_said_with_a_way_to_one(tmp_path: Path) -> None:
    for root in (tmp_path / "gone", tmp_path):
        assert not IXIDataModule.present(root)
        with pytest.raises(
            DataError, match=r"(?s)init_args.root.*brain-dev.*lightning phantom ixi"
        ):
            module(root).setup("fit")
        (problem,) = check("ixi", root)
        assert problem.kind == "missing"
    save(tmp_path / "T1" / "a.png", grey(0))
    with pytest.raises(DataError, match="give the folder above"):
        module(tmp_path / "T1").setup("fit")


def empty(root: Path) -> None:
    (root / "T1" / "s0_slice1.npz").write_bytes(b"")


def no_array(root: Path) -> None:
    (root / "T1" / "s0_slice1.npz").write_bytes(b"no zip")


def nan_pixels(root: Path) -> None:
    data = noise(0, 16, 16)
    data[3, 3] = np.nan
    save(root / "T1" / "s0_slice1.npz", data)


def nan_voxels(root: Path) -> None:
    data = noise(0, 8, 8, 8)
    data[0, 0, 0] = np.inf
    save(root / "T1" / "s0.nii.gz", data)


BAD: list[tuple[Callable[[Path], object], str]] = [
    (lambda r: save(r / "T1" / "s0.nii.gz", noise(0, 8, 8, 8, 2)), r"s0.nii.gz: .*4 dimensions"),
    (lambda r: save(r / "T1" / "s0.nii.gz", noise(0, 8, 0, 8)), r"s0.nii.gz: subject.*is empty"),
    (lambda r: save(r / "T1" / "s0.nii", np.ones((8, 8, 8))), r"is constant.*percentiles"),
    (lambda r: save(r / "T1" / "s0_slice1.png", np.ones((9, 9), np.uint8)), "slice is constant"),
    (nan_voxels, r"subject s0: holds 1 voxels that are NaN"),
    (nan_pixels, r"subject s0: holds 1 pixels that are NaN"),
    (empty, r"s0_slice1.npz: subject s0: is empty \(0 bytes\)"),
    (no_array, r"s0_slice1.npz: subject s0: cannot be read as NumPy"),
    (lambda r: save(r / "T1" / "s0_slice1.npz", noise(0, 4, 4, 4)), r"expected \(height, width\)"),
    (lambda r: (r / "T1" / "s0_slice1.png").write_bytes(b"x"), "holds no PNG"),
    (lambda r: (r / "T1" / "s0.nii").write_bytes(b"x"), r"s0.nii: subject s0: cannot be read"),
    (lambda r: save(r / "T1" / "s0_slice1.png", noise(0, 9, 9, 3).astype("u1")), "colour image"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_a_bad_file_stops_the_fit_and_is_named(
    spoil: Callable[[Path], object], message: str, slices: Path
) -> None:
    (slices / "T1" / "s0_slice1.png").unlink()
    spoil(slices)
    data = module(slices, num_test_subjects=0, val_fraction=0)
    with pytest.raises(DataError, match=message) as error:
        data.prepare_data()
    assert "exclude_file" in str(error.value)
    assert len(check("ixi", slices)) == 1
    listed = slices.parent / "bad.txt"
    listed.write_text("s0  # spoilt\n")
    data = module(slices, num_test_subjects=0, val_fraction=0, exclude_file=str(listed))
    data.setup("fit")
    assert len(data.split_table()["train"]) == 5


def test_a_plane_without_anatomy_is_an_error(tmp_path: Path) -> None:
    data = noise(0, 8, 8, 9)
    data[:, :, 4] = 7
    save(tmp_path / "T1" / "a.nii.gz", data)
    with pytest.raises(DataError, match=r"subject a: axial slice 4 is constant.*init_args.slices"):
        module(tmp_path).setup("fit")


def test_a_subject_without_the_other_modality_only_matters_to_pairs(slices: Path) -> None:
    (slices / "PD" / "s3_slice1.png").unlink()
    module(slices, test_subjects=["s3", "s4"]).setup("fit")
    module(slices, test_subjects=["s1", "s4"]).setup("test")
    with pytest.raises(DataError, match=r"T1/s3_slice1.png: subject s3: has no PD file"):
        module(slices, test_subjects=["s3", "s4"]).setup("test")
    for split in ("train", "all"):
        data = module(slices, test_subjects=["s3"], predict_split=split)
        data.setup("predict")
        assert len(data.split_table()["predict"]) <= 5


def test_too_few_subjects_and_no_target_at_all(slices: Path) -> None:
    with pytest.raises(DataError, match=r"0 test slices.*6 subjects have T1"):
        module(slices, num_test_subjects=0).setup("test")
    with pytest.raises(DataError, match=r"(?s)0 val slices.*val_fraction"):
        module(slices, val_fraction=0).setup("validate")
    with pytest.raises(DataError, match=r"0 train slices.*0 subjects have T2 files"):
        module(slices, target="T2").setup("fit")
    with pytest.raises(DataError, match=r"(?s)0 PD slices.*predict_split to all"):
        module(slices, target="T2").setup("predict")
    data = module(slices, target="T2", predict_split="all")
    data.setup("predict")
    assert len(data.split_table()["predict"]) == 6


def test_one_file_in_two_splits_is_an_error(slices: Path) -> None:
    copy = (slices / "T1" / "s1_slice1.png").read_bytes()
    (slices / "T1" / "s2_slice1.png").write_bytes(copy)
    with pytest.raises(DataError, match=r"1 identical files.*\n.*s[12]_slice1.*s[12]_slice1"):
        module(slices, test_subjects=["s2"]).setup("fit")
    module(slices, test_subjects=["s0"], val_fraction=0).setup("fit")
    (problem,) = check("ixi", slices, test_subjects=["s2"])
    assert problem.kind == "leak"


def test_two_files_of_one_name_are_an_error(slices: Path) -> None:
    save(slices / "T1" / "s0_slice1.npz", noise(0, 16, 16))
    with pytest.raises(DataError, match=r"s0_slice1.*same as T1/s0_slice1.*remove one"):
        module(slices).setup("fit")
    assert [problem.kind for problem in check("ixi", slices)] == ["duplicate"]


def test_excluded_names_must_be_there_and_may_be_of_the_source(slices: Path) -> None:
    listed = slices.parent / "out.txt"
    listed.write_text("PD/s1_slice1.png\ns2\nT1/s3_slice1\n")
    data = module(slices, exclude_file=str(listed), num_test_subjects=0, val_fraction=0)
    data.setup("fit")
    assert [p[3:5] for p in data.split_table()["train"]] == ["s0", "s1", "s4", "s5"]
    listed.write_text("s9\n")
    with pytest.raises(DataError, match="lists s9"):
        module(slices, exclude_file=str(listed)).setup("fit")


def test_check_tells_pairs_from_others_and_finds_the_rest(slices: Path) -> None:
    (slices / "PD" / "s3_slice1.png").unlink()
    save(slices / "PD" / "s4_slice1.png", np.random.default_rng(0).integers(0, 9, (8, 9), np.uint8))
    (slices / "PD" / "s5_slice1.png").write_bytes(b"junk")
    lines: list[str] = []
    problems = {(p.kind, p.path) for p in check("ixi", slices, note=lines.append)}
    assert problems == {("size", "T1/s4_slice1.png"), ("unreadable", "PD/s5_slice1.png")}
    assert lines[0] == "T1 and PD: 5 pairs, 1 unpaired T1, 0 unpaired PD"
    assert "  pair: T1/s0_slice1.png and PD/s0_slice1.png" in lines
    assert "  unpaired: T1/s3_slice1.png" in lines


def test_check_tells_grids_that_differ(tmp_path: Path) -> None:
    save(tmp_path / "T1" / "a.nii", noise(0, 8, 8, 8))
    save(tmp_path / "PD" / "a.nii", noise(1, 9, 9, 9))
    lines: list[str] = []
    assert check("ixi", tmp_path, note=lines.append) == []
    assert "registered" in lines[1]
    (problem,) = check("ixi", tmp_path, registration=False)
    assert problem.kind == "size"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "T1"}, "source: T1 given, as data.init_args.target"),
        ({"target": "FLAIR"}, "target: FLAIR given, expected T1, T2 or PD"),
        ({"slices": [0.5, 2]}, "slices"),
        ({"percentiles": [99, 1]}, "percentiles"),
        ({"val_fraction": 1}, "val_fraction"),
        ({"in_channels": 2}, "in_channels"),
        ({"image_size": 0}, "image_size: 0"),
        ({"predict_split": "tset"}, "predict_split: tset"),
        ({"augment": ["flip"]}, "augment: 'flip'"),
    ],
)
def test_wrong_arguments_name_their_field(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        IXIDataModule(**arguments)


def test_a_phantom_whose_t1_moved_is_brought_back(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    from data_modules.phantoms.ixi import write

    root, still = tmp_path / "moved", tmp_path / "still"
    write(root, num=1, seed=0, misaligned=True)
    write(still, num=1, seed=0)
    planes = []
    for folder in (root, still):
        data = module(folder, image_size=32, test_subjects=["IXI700"])
        data.setup("test")
        planes.append(data._datasets["test"][1]["target"].ravel())
    assert np.corrcoef(np.stack(planes))[0, 1] > 0.95


def test_a_phantom_serves_every_stage(tmp_path: Path) -> None:
    write_phantom("ixi", tmp_path, num=5, seed=0)
    for source, target in (("PD", "T1"), ("T1", "PD"), ("T2", "T1")):
        for stage in ("fit", "validate", "test", "predict"):
            module(tmp_path, source=source, target=target).setup(stage)


def test_real_slices(shared_data: Path) -> None:
    sample = shared_data / "sample" / "IXI"
    paired = module(sample, source="T2", target="T1", test_subjects=["IXI002"])
    paired.setup("test")
    batch = paired._datasets["test"][0]
    head = [(batch[key] > -0.8).float().ravel() for key in ("source", "target")]
    assert (head[0] * head[1]).sum() / (head[0] + head[1]).clamp(max=1).sum() > 0.8
    loose = module(sample / "SynDiff_sample_unpaired", num_test_subjects=0, val_fraction=0)
    loose.setup("fit")
    assert len(loose.split_table()["train"]) == 25
