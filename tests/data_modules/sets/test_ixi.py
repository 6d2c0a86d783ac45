"""Splits, stages and slices of IXIDataModule, on volumes and slices made here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.reading.grids import Grid
from data_modules.reading.nifti import read_grid, read_volume
from data_modules.sets.ixi import IXIDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")

AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def volume(path: Path, seed: int, shape: tuple[int, ...] = (12, 16, 11), **how: object) -> Path:
    """A random NIfTI volume with RAS axes."""
    data = np.random.default_rng(seed).uniform(10, 900, shape).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = how.get("affine", AFFINE)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def png(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 65536, size, dtype=np.uint16)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def official(tmp_path: Path) -> Callable[..., Path]:
    """Writes `count` subjects in official names and gives the root."""

    def write(count: int, *modalities: str) -> Path:
        for k in range(count):
            for index, modality in enumerate(modalities or ("T1", "PD")):
                name = f"IXI{k:03d}-HH-{1000 + k}-{modality}.nii.gz"
                volume(tmp_path / f"IXI-{modality}" / name, 10 * k + index)
        return tmp_path

    return write


def module(root: Path, **arguments: object) -> IXIDataModule:
    settings: dict[str, object] = {"image_size": 16, "num_workers": 0, "batch_size": 2}
    return IXIDataModule(root=str(root), **(settings | arguments))  # type: ignore[arg-type]


def subjects(data: IXIDataModule, split: str) -> set[str]:
    return {Path(path).name[:6] for path in data.split_table()[split]}


def test_fit_gives_slices_of_the_target_and_never_needs_the_source(
    official: Callable[..., Path],
) -> None:
    root = official(5)
    for file in (root / "IXI-PD").iterdir():
        file.write_bytes(b"no volume")
    data = module(root)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"image", "index"}
    assert batch["image"].shape == (2, 1, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["image"].min() == -1  # the padding: volumes are narrower than high
    assert batch["image"].max() <= 1
    assert set(next(iter(data.val_dataloader()))) == {"image", "index"}
    assert all("-T1" in path for paths in data.split_table().values() for path in paths)


def test_tests_and_validation_are_paired_and_predict_gives_sources(
    official: Callable[..., Path],
) -> None:
    root = official(5)
    for stage, split in (("test", "test"), ("validate", "val")):
        data = module(root)
        data.setup(stage)
        loader = data.test_dataloader() if stage == "test" else data.val_dataloader()
        batch = next(iter(loader))
        assert set(batch) == {"source", "target", "index"}
        assert data.split_table()["train"]
        assert data.item_path(split, 0).startswith("IXI-PD/IXI")
    data = module(root, predict_split="all")
    data.setup("predict")
    place = {"original_size", "original_box", "network_box"}
    assert set(next(iter(data.predict_dataloader()))) == {"source", "index"} | place
    assert [Path(data.item_path("predict", k)).stem for k in range(3)] == [
        "IXI000-HH-1000-PD_slice004",
        "IXI000-HH-1000-PD_slice005",
        "IXI000-HH-1000-PD_slice006",
    ]
    assert len(data.split_table()["predict"]) == 15


def test_a_pair_shows_one_plane_of_one_place(tmp_path: Path) -> None:
    """The same voxels, stored along other axes, give the same slices."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    path = volume(tmp_path / "T1" / "a.nii.gz", 0)
    stored: Any = nibabel.load(path)
    turn = ornt_transform(io_orientation(stored.affine), axcodes2ornt(("P", "I", "R")))
    (tmp_path / "PD").mkdir()
    nibabel.save(stored.as_reoriented(turn), tmp_path / "PD" / "a.nii.gz")
    data = module(tmp_path, test_subjects=["a"])
    data.setup("test")
    for batch in data.test_dataloader():
        torch.testing.assert_close(batch["source"], batch["target"])


def test_the_front_is_up_and_the_patients_right_is_right(tmp_path: Path) -> None:
    data = np.zeros((20, 20, 5), np.float32)
    data[14:, 14:] = 1  # right and anterior
    for name, flip in (("ras", 1), ("las", -1)):
        affine = np.diag([flip * 1.0, 1, 1, 1])
        stored = data if flip == 1 else data[::-1]
        (tmp_path / name / "T1").mkdir(parents=True)
        image = nibabel.Nifti1Image(stored, affine)
        nibabel.save(image, tmp_path / name / "T1" / "x.nii")
        found = module(tmp_path / name, image_size=20)
        found.setup("fit")
        (plane,) = next(iter(found.reference_images()))
        assert plane[:6, 14:].min() == 1
        assert plane.sum() == -400 + 2 * 36


def test_anatomy_keeps_its_shape_in_voxels_that_are_not_square(tmp_path: Path) -> None:
    """A disc of 20 mm stays round in voxels of 1 x 2 mm, in a field of view of 32 x 64 mm."""
    x, y = np.meshgrid(np.arange(32) - 15.5, 2 * (np.arange(32) - 15.5), indexing="ij")
    disc = ((x**2 + y**2) < 10**2).astype(np.float32)
    (tmp_path / "T1").mkdir()
    stack = np.repeat(disc[..., None], 3, axis=2)
    image = nibabel.Nifti1Image(stack, np.diag([1.0, 2, 3, 1]))
    nibabel.save(image, tmp_path / "T1" / "x.nii.gz")
    data = module(tmp_path, image_size=64)
    data.setup("fit")
    (plane,) = next(iter(data.reference_images()))
    width, height = (plane > 0).any(0).sum().item(), (plane > 0).any(1).sum().item()
    assert abs(width - 20) <= 2
    assert abs(height - 20) <= 2


def test_a_volume_is_clipped_at_its_percentiles(tmp_path: Path) -> None:
    ramp = np.arange(16 * 16 * 3, dtype=np.float32).reshape(16, 16, 3, order="F") + 1000
    (tmp_path / "T1").mkdir()
    image = nibabel.Nifti1Image(ramp, np.eye(4))
    nibabel.save(image, tmp_path / "T1" / "x.nii")
    data = module(tmp_path, slices=[0.5], percentiles=[25, 75])
    data.setup("fit")
    (plane,) = next(iter(data.reference_images()))
    low, high = np.percentile(ramp, [25, 75])
    expected = np.clip((ramp[:, ::-1, 1].T - low) / (high - low), 0, 1) * 2 - 1
    np.testing.assert_allclose(plane, expected, atol=1e-5)


def test_three_channels_are_equal(official: Callable[..., Path]) -> None:
    data = module(official(2), in_channels=3)
    data.setup("fit")
    image = next(iter(data.train_dataloader()))["image"]
    assert image.shape[1] == 3
    assert (image[:, :1] == image).all()


def test_augmentation_is_for_training_alone(official: Callable[..., Path]) -> None:
    data = module(official(6), augment=["hflip", "blur"], val_fraction=0.3)
    data.setup("fit")
    plain = torch.stack(list(data.reference_images()))
    train = data._datasets["train"]
    changed = [
        not torch.equal(train[(k, epoch)]["image"], plain[k])
        for k in range(len(train))
        for epoch in range(4)
    ]
    assert 0.5 < np.mean(changed) < 0.95  # a quarter is neither turned nor blurred
    val = data._datasets["val"]
    assert torch.equal(val[(0, 0)]["image"], val[(0, 1)]["image"])


def test_subjects_are_split_by_the_target_modality_alone(official: Callable[..., Path]) -> None:
    root = official(8, "T1")
    before = module(root)
    before.setup("fit")
    for k in range(12):
        volume(root / "IXI-PD" / f"IXI{k:03d}-HH-{1000 + k}-PD.nii.gz", 500 + k)
    after = module(root)
    after.setup("fit")
    assert after.split_table() == before.split_table()
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert subjects(after, one).isdisjoint(subjects(after, other))
    paired = module(root)
    paired.setup("test")
    assert subjects(paired, "test") == subjects(before, "test")
    assert paired.split_table()["train"] == before.split_table()["train"]


@pytest.mark.filterwarnings("default:.*subjects, and.*were asked for")
def test_few_subjects_are_split_in_proportion_and_said_so(official: Callable[..., Path]) -> None:
    data = module(official(10, "T1"))
    with pytest.warns(UserWarning, match=r"10 subjects, and 100 .* 6 are for training .* 4 for"):
        data.setup("fit")
    sizes = {split: len(subjects(data, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 5, "val": 1, "test": 4}  # 4 of these names are in the lowest fifth


@pytest.mark.filterwarnings("error:.*subjects, and.*were asked for")
def test_the_numbers_are_upper_limits(official: Callable[..., Path]) -> None:
    data = module(official(9, "T1"), num_train_subjects=2, num_test_subjects=2, val_fraction=0)
    data.setup("fit")
    sizes = {split: len(subjects(data, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 2, "val": 0, "test": 2}
    assert data.val_dataloader() == []


def test_named_test_subjects_are_test_and_all_others_train(official: Callable[..., Path]) -> None:
    root = official(5)
    data = module(root, test_subjects=["IXI001", "IXI004"], val_fraction=0)
    data.setup("fit")
    assert subjects(data, "test") == {"IXI001", "IXI004"}
    assert subjects(data, "train") == {"IXI000", "IXI002", "IXI003"}
    with pytest.raises(DataError, match=r"test_subjects.*'IXI01'.*Did you mean IXI0"):
        module(root, test_subjects=["IXI01"]).setup("fit")


def test_a_test_subject_with_source_files_alone_is_predicted(
    official: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = official(3)
    volume(root / "IXI-PD" / "IXI900-HH-1-PD.nii.gz", 99)
    data = module(root, test_subjects=["IXI900"])
    opened: list[Path] = []

    def read(path: Path) -> Grid:
        opened.append(path)
        return read_grid(path)

    monkeypatch.setattr("data_modules.listing.modalities.read_grid", read)
    data.setup("fit")
    assert {path.parent.name for path in opened} == {"IXI-T1"}
    assert "IXI900" not in subjects(data, "train") | subjects(data, "val")
    data.setup("predict")
    assert {Path(p).name[:6] for p in data.split_table()["predict"]} == {"IXI900"}
    with pytest.raises(DataError, match=r"IXI900-HH-1-PD.nii.gz: subject IXI900: has no T1 file"):
        data.setup("test")


def test_reference_images_are_training_slices_in_every_stage(official: Callable[..., Path]) -> None:
    root = official(6)
    fitted, tested = module(root, augment=["hflip"]), module(root)
    fitted.setup("fit")
    tested.setup("test")
    first, second = (torch.stack(list(data.reference_images())) for data in (fitted, tested))
    assert torch.equal(first, second)
    assert first.shape == (len(fitted.split_table()["train"]), 1, 16, 16)
    sources = torch.stack(list(tested.reference_images("source")))
    assert sources.shape == first.shape
    assert not torch.equal(sources, first)
    for file in (root / "IXI-PD").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="none of the 3 training subjects has a PD file"):
        tested.reference_images("source")


def test_single_slices_of_all_kinds_and_their_pairs(tmp_path: Path) -> None:
    png(tmp_path / "T1" / "x_slice001.png", 0)
    png(tmp_path / "PD" / "x_slice001.png", 1)
    rng = np.random.default_rng(2)
    np.savez(tmp_path / "T1" / "x_slice002.npz", rng.uniform(0, 9, (16, 16)))
    volume(tmp_path / "PD" / "x_slice002.nii.gz", 3, (16, 16), affine=np.eye(4))
    volume(tmp_path / "T1" / "x_slice003-T1.nii", 4, (16, 16, 1), affine=np.eye(4))
    png(tmp_path / "PD" / "x_slice003_PD.png", 5)
    png(tmp_path / "PD" / "x_slice004.png", 6)  # unpaired
    data = module(tmp_path, test_subjects=["x"])
    data.setup("test")
    assert len(data.split_table()["test"]) == 3
    stored = np.asarray(Image.open(tmp_path / "PD" / "x_slice001.png"))
    first = data._datasets["test"][0]["source"][0]
    np.testing.assert_allclose(first, stored / 32767.5 - 1, atol=1e-4)


def test_slices_of_two_sizes_are_no_pair(tmp_path: Path) -> None:
    png(tmp_path / "T1" / "x_001.png", 0)
    png(tmp_path / "PD" / "x_001.png", 1, (16, 20))
    with pytest.raises(DataError, match=r"subject x: is 16x16 pixels.*PD/x_001.png is 20x16"):
        module(tmp_path, test_subjects=["x"]).setup("test")


def test_other_grids_are_an_error_without_registration(tmp_path: Path) -> None:
    volume(tmp_path / "T1" / "a.nii.gz", 0)
    volume(tmp_path / "PD" / "a.nii.gz", 1, (10, 12, 11))
    data = module(tmp_path, registration=False, test_subjects=["a"])
    with pytest.raises(DataError, match=r"subject a: its T1 has 12x16x11.*10x12x11.*registra"):
        data.setup("test")
    data.setup("predict")  # needs no pair
    assert len(data.split_table()["predict"]) == 3


@pytest.mark.parametrize(("source", "target"), [("PD", "T1"), ("T1", "PD"), ("PD", "T2")])
def test_volumes_on_two_grids_are_registered_onto_one(
    source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T1 moves onto the other's grid; without one the target moves onto the source's."""
    asked = []

    def register(fixed: Path, moving: Path) -> tuple[Any, Any]:
        asked.append((fixed.parent.name, moving.parent.name))
        image: Any = nibabel.load(fixed)
        return np.asarray(image.dataobj, np.float32), image.affine

    monkeypatch.setattr("data_modules.kinds.slice_reader.register_rigid", register)
    for index, modality in enumerate(("T1", "T2", "PD")):
        volume(tmp_path / modality / "a.nii.gz", index, (10 + index, 12, 9 + index))
    data = module(tmp_path, source=source, target=target, test_subjects=["a"])
    data.setup("test")
    moving = "T1" if "T1" in (source, target) else target
    fixed = source if moving == target else target
    assert asked == [(fixed, moving)]
    batch = data._datasets["test"][1]
    assert np.corrcoef(batch["source"].ravel(), batch["target"].ravel())[0, 1] > 0.99
    again = module(tmp_path, source=source, target=target, test_subjects=["a"])
    again.setup("test")  # remembered on disk
    assert len(asked) == 1
    assert torch.equal(again._datasets["test"][1]["target"], batch["target"])


def test_what_was_read_is_remembered_until_the_file_changes(
    official: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = official(3, "T1")
    first = module(root)
    first.setup("fit")
    reads: list[Path] = []

    def read(path: Path) -> Any:
        reads.append(path)
        return read_volume(path)

    monkeypatch.setattr("data_modules.kinds.slice_reader.read_volume", read)
    second = module(root)
    second.setup("fit")
    assert reads == []
    assert torch.equal(first._datasets["train"][0]["image"], second._datasets["train"][0]["image"])
    module(root, image_size=8).setup("fit")
    assert len(reads) == 2  # of the two subjects for training and validation
    changed = root / first.item_path("train", 0).replace("_slice004.nii", ".nii.gz")
    volume(changed, 77)
    third = module(root)
    third.setup("fit")
    assert reads[2:] == [changed]


def test_a_home_that_cannot_be_written_to_costs_time_alone(
    official: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    data = module(official(3))
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert len(data.split_table()["test"]) == 3


def test_forked_workers_give_what_the_main_process_gives(official: Callable[..., Path]) -> None:
    root = official(4, "T1")
    batches = []
    for workers in (0, 2):
        data = module(root, num_workers=workers, augment=["hflip", "blur"])
        data.setup("fit")
        batches.append(torch.cat([batch["image"] for batch in data.train_dataloader()]))
    assert torch.equal(batches[0], batches[1])
