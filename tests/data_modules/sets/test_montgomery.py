from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.montgomery import write
from data_modules.registry import check
from data_modules.sets.montgomery import MontgomeryDataModule


def module(root: Path, **arguments: Any) -> MontgomeryDataModule:
    settings: dict[str, Any] = {"image_size": 24, "batch_size": 4, "num_workers": 0} | arguments
    return MontgomeryDataModule(root=str(root), **settings)


def lung(root: Path, side: str, name: str) -> Any:
    return np.array(Image.open(root / "MontgomerySet/ManualMask" / side / name)) > 0


def test_both_lungs_are_one_class(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(24, 24))
    data = module(tmp_path, val_fraction=0.0)
    data.setup("fit")
    assert len(data.split_table()["train"]) == 6
    for item in data.labelled_images():
        name = Path(data.item_path("train", int(item["index"]))).name
        left, right = lung(tmp_path, "leftMask", name), lung(tmp_path, "rightMask", name)
        assert left.any()
        assert right.any()
        np.testing.assert_array_equal(item["mask"], left | right)
    assert check("montgomery", tmp_path) == []


@pytest.mark.parametrize(("gone", "kept"), [("rightMask", "leftMask"), ("leftMask", "rightMask")])
def test_one_lung_without_the_other_is_named(tmp_path: Path, gone: str, kept: str) -> None:
    write(tmp_path, num=4, seed=0, size=(24, 24))
    masks = tmp_path / "MontgomerySet/ManualMask"
    (masks / gone / "MCUCXR_9002_0.png").unlink()
    text = f"CXR_png/MCUCXR_9002_0.png: an image without its mask .*{gone}/MCUCXR_9002_0.png"
    with pytest.raises(DataError, match=text) as error:
        module(tmp_path).setup("fit")
    assert "1 problem in" in str(error.value)
    for file in (masks / gone).iterdir():
        file.unlink()
    (masks / gone).rmdir()
    with pytest.raises(DataError, match=f"ManualMask/{gone}/: missing folder"):
        module(tmp_path).setup("fit")
    assert (masks / kept).is_dir()


def test_masks_without_an_image_and_left_out_names(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(24, 24))
    (tmp_path / "MontgomerySet/CXR_png/MCUCXR_9001_0.png").unlink()
    with pytest.raises(DataError, match="2 problems in") as error:
        module(tmp_path).setup("fit")
    assert "leftMask/MCUCXR_9001_0.png: a mask without an image" in str(error.value)
    listed = tmp_path / "exclude.txt"
    listed.write_text("MCUCXR_9001_0\n")
    data = module(tmp_path, exclude_file=str(listed), val_fraction=0.0)
    data.setup("fit")
    assert len(data.split_table()["train"]) == 3


def test_lungs_of_other_sizes_than_the_image_are_problems(tmp_path: Path) -> None:
    write(tmp_path, num=3, seed=0, size=(24, 24))
    file = tmp_path / "MontgomerySet/ManualMask/rightMask/MCUCXR_9001_0.png"
    Image.open(file).resize((12, 12)).save(file)
    with pytest.raises(DataError, match="MCUCXR_9001_0"):
        module(tmp_path).setup("fit")


def test_each_image_is_a_patient(tmp_path: Path) -> None:
    write(tmp_path, num=3, seed=0, size=(24, 24))
    groups = [item.group for item in module(tmp_path).list_files().pool.items]
    assert groups == ["9001", "9002", "9003"]


def test_the_wrong_folder_is_explained(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(24, 24))
    assert MontgomeryDataModule.present(tmp_path)
    with pytest.raises(DataError, match="give the folder above"):
        module(tmp_path / "MontgomerySet").setup("fit")
    assert not MontgomeryDataModule.present(tmp_path / "MontgomerySet")
    assert not MontgomeryDataModule.present(tmp_path / "gone")


@pytest.mark.parametrize("part", ["sample", "train128"])
def test_real_images(shared_data: Path, part: str) -> None:
    data = module(shared_data / part, num_train_samples=20, batch_size=20, image_size=32)
    data.setup("fit")
    # docs/papers/hybrid.md 2c-8
    assert [len(data.split_table()[s]) for s in ("train", "val", "test")] == [20, 59, 59]
    batch = next(iter(data.train_dataloader()))
    inside = batch["mask"] == 1
    assert 0.15 < inside.float().mean() < 0.35
    # The alignment: lungs are darker than what lies right around them.
    around = (torch.nn.functional.max_pool2d(inside.float(), 5, 1, 2) > 0) & ~inside
    image = batch["image"][:, 0]
    darker = [
        bool(x[m].median() < x[r].median()) for x, m, r in zip(image, inside, around, strict=True)
    ]
    assert sum(darker) >= 18
    # The patient's left lung is on the right of the picture.
    left = lung(shared_data / part, "leftMask", "MCUCXR_0001_0.png").nonzero()[1].mean()
    right = lung(shared_data / part, "rightMask", "MCUCXR_0001_0.png").nonzero()[1].mean()
    assert left > right
    assert check("montgomery", shared_data / part) == []
