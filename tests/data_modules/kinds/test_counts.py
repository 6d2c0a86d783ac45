"""Splits by numbers of images: 20 for training, the others halved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.listing.splits import halve_groups, position, take_groups
from data_modules.phantoms.isic import write
from data_modules.registry import check
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from data_modules.sets.isic import ISICDataModule

WritePairs = Callable[..., Path]
NAMES = [f"x{k:02d}" for k in range(29)]


def module(root: Path, **arguments: Any) -> ImageMaskFolderDataModule:
    settings: dict[str, Any] = {"image_size": 8, "batch_size": 4, "num_workers": 0} | arguments
    return ImageMaskFolderDataModule(root=str(root), **settings)


def table(root: Path, stage: str = "fit", **arguments: Any) -> dict[str, list[str]]:
    data = module(root, **arguments)
    data.setup(stage)
    return data.split_table()


@pytest.mark.parametrize(
    ("total", "val", "test"), [(200, 90, 90), (69, 24, 25), (100, 40, 40), (138, 59, 59)]
)
def test_the_papers_splits(total: int, val: int, test: int) -> None:
    groups = [f"g{k}" for k in range(total)]
    taken = take_groups(groups, 20, seed=0)
    assert sum(taken) == 20
    halves = halve_groups([g for g, t in zip(groups, taken, strict=True) if not t], seed=0)
    assert (halves.count("val"), halves.count("test")) == (val, test)


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30), seed=st.integers(0, 5))
def test_halves_keep_groups_whole_and_differ_by_one_group_at_most(
    sizes: list[int], seed: int
) -> None:
    groups = [f"g{k}" for k, size in enumerate(sizes) for _ in range(size)]
    halves = halve_groups(groups, seed)
    assert len(set(zip(groups, halves, strict=True))) == len(sizes)
    assert abs(halves.count("val") - halves.count("test")) <= max(sizes)


def test_a_group_that_would_be_too_many_is_passed_over() -> None:
    order = sorted("abcd", key=lambda group: position(group, 0))
    groups = [order[0]] * 2 + [order[1]] * 3 + [order[2]] * 1 + [order[3]] * 2
    assert take_groups(groups, 3, 0) == [True] * 2 + [False] * 3 + [True] + [False] * 2
    with pytest.raises(DataError, match="whole groups make up 2 images") as error:
        take_groups([order[0]] * 2 + [order[1]] * 2, 3, 0)
    assert "Give 2" in str(error.value)


def test_all_images_are_shared_out_by_the_split_seed_alone(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    first = table(root, num_train_samples=20, seed=0)
    assert [len(first[split]) for split in ("train", "val", "test")] == [20, 4, 5]
    assert len({path for paths in first.values() for path in paths}) == 29
    assert table(root, num_train_samples=20, seed=7, val_fraction=0.5) == first
    assert table(root, num_train_samples=20, split_seed=1) != first
    assert check("image_mask_folder", root, num_train_samples=20) == []


def test_each_stage_sees_the_same_splits(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    settings: dict[str, Any] = {"num_train_samples": 20, "num_val_samples": 2}
    settings["num_test_samples"] = 3
    first = table(root, **settings)
    assert [len(first[split]) for split in ("train", "val", "test")] == [20, 2, 3]
    assert table(root, "test", **settings) == first
    assert table(root, "validate", **settings) == first
    for split in ("train", "val", "test"):
        predict = table(root, "predict", predict_split=split, **settings)
        assert predict["predict"] == first[split]


def test_the_split_is_said_once(write_pairs: WritePairs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = module(write_pairs(*NAMES), num_train_samples=20)
    data.prepare_data()
    data.setup("fit")
    assert caplog.messages == ["split: 20 train, 4 val, 5 test (seed 0)"]


def test_patients_and_identical_files_stay_together(write_pairs: WritePairs) -> None:
    root = write_pairs(*(f"p{k // 3}_{k % 3}" for k in range(30)))
    images = root / "images"
    (images / "p1_0.png").write_bytes(
        (images / "p0_0.png").read_bytes()
    )  # one patient under two names
    splits = table(root, num_train_samples=12, group_regex=r"p\d+")
    where = {path.split("_")[0]: split for split, paths in splits.items() for path in paths}
    assert len(splits["train"]) == 12
    assert sum(map(len, splits.values())) == 30
    for split, paths in splits.items():
        assert all(where[path.split("_")[0]] == split for path in paths)
    assert where["images/p0"] == where["images/p1"]


def test_fewer_training_images_than_all_are_the_first_ones(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    five, ten = (set(table(root, num_train_samples=k)["train"]) for k in (5, 10))
    assert five < ten


def test_numbers_cap_the_split_by_fractions(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    whole = table(root, val_fraction=0.3, test_fraction=0.3)
    cut = table(root, val_fraction=0.3, test_fraction=0.3, num_val_samples=2, num_test_samples=1)
    assert cut["train"] == whole["train"]
    assert len(cut["val"]) == 2
    assert set(cut["val"]) < set(whole["val"])
    assert len(cut["test"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train_samples": 30}, "num_train_samples: 30 given, but there are 29 images"),
        ({"num_train_samples": 0}, "num_train_samples: 0 given, expected a whole number >0"),
        (
            {"num_train_samples": 20, "num_val_samples": 5},
            "num_val_samples: 5 given, but there are 4 images",
        ),
        (
            {"test_fraction": 0.1, "num_test_samples": 20},
            "num_test_samples: 20 given, but there are",
        ),
        ({"val_fraction": 0.0, "num_val_samples": 5}, "0 images in the val split"),
        (
            {"num_train_samples": 29, "num_val_samples": 1},
            "Change data.init_args.num_train_samples",
        ),
    ],
)
def test_too_few_images_name_the_field(
    write_pairs: WritePairs, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        module(write_pairs(*NAMES), **arguments).setup("fit")


def test_an_official_test_set_is_halved(tmp_path: Path) -> None:
    write(tmp_path, num=50, seed=0, size=(32, 24))  # and 5 test images
    found = {}
    for stage in ("fit", "validate", "test"):
        data = ISICDataModule(
            root=str(tmp_path), image_size=8, num_workers=0, num_train_samples=20, drop_last=False
        )
        data.setup(stage)
        found[stage] = data.split_table()
    assert [len(found["fit"][split]) for split in ("train", "val", "test")] == [20, 2, 3]
    assert all("Test_Input" in path for path in found["fit"]["val"] + found["fit"]["test"])
    for stage in ("validate", "test"):
        assert found[stage]["val"] == found["fit"]["val"]
        assert found[stage]["test"] == found["fit"]["test"]


def test_an_official_validation_set_leaves_the_others_for_test(tmp_path: Path) -> None:
    from data_modules.sets.isic import LAYOUTS

    write(tmp_path, num=12, seed=0, size=(32, 24))
    layout = LAYOUTS[2018]
    assert layout.val is not None
    (tmp_path / layout.test.images).rename(tmp_path / layout.val.images)
    (tmp_path / layout.test.masks).rename(tmp_path / layout.val.masks)
    data = ISICDataModule(
        root=str(tmp_path), image_size=8, num_workers=0, num_train_samples=8, official_val=True
    )
    data.setup("fit")
    assert [len(paths) for paths in data.split_table().values()] == [8, 4, 4]
    assert all("Validation_Input" in path for path in data.split_table()["val"])


def test_a_test_set_without_masks_is_not_halved(tmp_path: Path) -> None:
    from data_modules.sets.isic import LAYOUTS

    write(tmp_path, num=12, seed=0, size=(32, 24))
    (tmp_path / LAYOUTS[2018].test.masks).rename(tmp_path / "elsewhere")
    data = ISICDataModule(root=str(tmp_path), image_size=8, num_workers=0, num_train_samples=8)
    data.setup("fit")
    assert [len(paths) for paths in data.split_table().values()] == [8, 2, 2]


@pytest.mark.parametrize(("size", "sizes"), [(12, [12, 8]), (32, [20]), (5, [5, 5, 5, 5])])
def test_twenty_images_are_all_used_in_an_epoch(
    write_pairs: WritePairs, size: int, sizes: list[int]
) -> None:
    data = module(write_pairs(*NAMES), num_train_samples=20, batch_size=size, drop_last=False)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = [batch["index"] for batch in loader]
    assert [len(index) for index in batches] == sizes
    assert len(loader) == len(sizes)
    assert sorted(np.concatenate(batches).tolist()) == list(range(20))


def test_labelled_images_are_the_training_set_as_it_is(write_pairs: WritePairs) -> None:
    settings: dict[str, Any] = {"num_train_samples": 20, "augment": ["hflip", "crop"]}
    data = module(write_pairs(*NAMES), **settings)
    data.setup("fit")
    items = list(data.labelled_images())
    assert [int(item["index"]) for item in items] == list(range(20))
    assert items[0]["image"].shape == (3, 8, 8)
    assert items[0]["mask"].shape == (8, 8)
    for item, reference in zip(items, data.reference_images(), strict=True):
        assert np.array_equal(item["image"], reference)
