"""A folder that was held out whole is tested whole; no error advises to test on training images."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.isic import write
from data_modules.registry import find_dataset, write_phantom
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from data_modules.sets.isic import LAYOUTS, ISICDataModule
from data_modules.sets.ixi import IXIDataModule

WritePairs = Callable[..., Path]
NAMES = [f"x{k:02d}" for k in range(15)]


def splits_of(root: Path, stage: str = "test", **arguments: Any) -> dict[str, list[str]]:
    data = ImageMaskFolderDataModule(root=str(root), image_size=8, num_workers=0, **arguments)
    data.setup(stage)
    return data.split_table()


@pytest.mark.parametrize(
    "arguments", [{"test_split": "all"}, {"test_fraction": 1.0}, {"test_fraction": 1}]
)
@pytest.mark.parametrize("val_fraction", [0.05, 0.0, 0.5])
def test_every_image_of_a_folder_is_tested(
    write_pairs: WritePairs, arguments: dict[str, Any], val_fraction: float
) -> None:
    found = splits_of(write_pairs(*NAMES), val_fraction=val_fraction, **arguments)
    assert found == {"train": [], "val": [], "test": [f"images/{name}.png" for name in NAMES]}


def test_all_beats_the_numbers_of_the_fit_but_not_that_of_test(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    assert len(splits_of(root, num_train_samples=5, test_split="all")["test"]) == 15
    assert len(splits_of(root, num_test_samples=4, test_split="all")["test"]) == 4
    with pytest.raises(DataError, match="num_test_samples: 16 given, but there are 15"):
        splits_of(root, num_test_samples=16, test_split="all")


def test_only_the_test_goes_over_all(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    for stage in ("fit", "validate"):
        settings: dict[str, Any] = {"val_fraction": 0.4}
        whole = splits_of(root, stage, test_split="all", **settings)
        assert whole == splits_of(root, stage, **settings)


def test_all_that_has_masks_whatever_part_it_is_in(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(32, 24))  # and 4 test images

    def table(**arguments: Any) -> list[str]:
        data = ISICDataModule(
            root=str(tmp_path), image_size=8, num_workers=0, test_split="all", **arguments
        )
        data.setup("test")
        return data.split_table()["test"]

    assert len(table()) == 10
    (tmp_path / LAYOUTS[2018].test.masks).rename(tmp_path / "elsewhere")
    assert len(table()) == 6
    (tmp_path / "elsewhere").rename(tmp_path / LAYOUTS[2018].test.masks)
    (tmp_path / LAYOUTS[2018].train.masks).rename(tmp_path / "elsewhere")
    assert len(table()) == 4
    (tmp_path / LAYOUTS[2018].test.masks).rename(tmp_path / "elsewhere2")
    with pytest.raises(DataError, match="missing folder: the masks of"):
        table()


def test_an_image_without_its_mask_is_still_an_error(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    Image.new("L", (8, 8)).save(root / "images" / "lone.png")
    with pytest.raises(DataError, match=r"lone\.png"):
        splits_of(root, test_split="all")


def test_a_fit_has_nothing_left_where_all_are_for_test(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    with pytest.raises(DataError, match="0 training samples"):
        splits_of(root, "fit", test_fraction=1.0)
    with pytest.raises(DataError, match=r"test_fraction: 1.01 given, .* >=0 and <=1"):
        splits_of(root, test_fraction=1.01)
    with pytest.raises(DataError, match="below 1"):
        splits_of(root, test_fraction=0.96)
    with pytest.raises(DataError, match="test_split: train given, expected test, all"):
        splits_of(root, test_split="train")


def test_without_test_images_the_error_says_what_is_right(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    every: list[dict[str, Any]] = [{}, {"num_train_samples": 15}]
    for settings in every:
        with pytest.raises(DataError) as error:
            splits_of(root, **settings)
        text = str(error.value)
        assert "0 images in the test split" in text
        assert "--data.init_args.root DIR --data.init_args.test_split all" in text
        assert "fit anew with --data.init_args.test_fraction 0.2" in text
        assert "Change data.init_args" not in text
    with pytest.raises(DataError, match=r"fit anew with --data\.init_args\.val_fraction"):
        splits_of(root, "validate", val_fraction=0.0)
    with pytest.raises(DataError, match="predict_split to another split, or to all"):
        splits_of(root, "predict", predict_split="test")


@pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")
def test_all_subjects_are_tested(tmp_path: Path) -> None:
    write_phantom("ixi", tmp_path, num=5, seed=0, size=(24, 24, 16))
    next(tmp_path.rglob("*-PD.nii.gz")).unlink()
    settings: dict[str, Any] = {"num_train_subjects": 1, "test_split": "all"}
    data = IXIDataModule(root=str(tmp_path), image_size=16, num_workers=0, **settings)
    with pytest.raises(DataError, match=r"subject IXI70.: has no PD file"):
        data.setup("test")
    lone = {f"IXI70{k}" for k in range(5)} - {f.name[:6] for f in tmp_path.rglob("*-PD.nii.gz")}
    (tmp_path / "exclude.txt").write_text("\n".join(lone))
    settings["exclude_file"] = str(tmp_path / "exclude.txt")
    data = IXIDataModule(root=str(tmp_path), image_size=16, num_workers=0, **settings)
    data.setup("test")
    table = data.split_table()
    assert (table["train"], table["val"]) == ([], [])
    assert len({Path(path).name[:6] for path in table["test"]}) == 4
    assert list(data.reference_images("target")) == []  # there is nothing to fit clusters on
    fit = IXIDataModule(root=str(tmp_path), image_size=16, num_workers=0, test_split="all")
    fit.setup("fit")
    assert list(fit.reference_images("target"))


def test_what_tells_items_again(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    data = ImageMaskFolderDataModule(root=str(root), image_size=8, num_workers=0)
    data.setup("fit")
    traces = [trace for own in data.traces().values() for trace in own]
    assert sorted(trace.path for trace in traces) == [f"images/{name}.png" for name in NAMES]
    for trace in traces:
        content = (root / trace.path).read_bytes()
        assert trace.digests == (hashlib.sha256(content).hexdigest(),)
        assert trace.group is None
    assert not ImageMaskFolderDataModule.has_official_names(["images/x.png"])
    assert find_dataset("isic").has_official_names(["x.png"])
    ixi = find_dataset("ixi")
    assert ixi.has_official_names(["IXI-T1/IXI012-HH-1211-T1_slice003.nii", "T1/IXI013.png"])
    assert not ixi.has_official_names(["T1/IXI013.png", "T1/chris.png"])
