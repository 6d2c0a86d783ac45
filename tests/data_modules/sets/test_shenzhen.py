from pathlib import Path
from typing import Any

import pytest

from data_modules.errors import DataError
from data_modules.phantoms.shenzhen import write
from data_modules.registry import check
from data_modules.sets.shenzhen import ShenzhenDataModule


def module(root: Path, **arguments: Any) -> ShenzhenDataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return ShenzhenDataModule(root=str(root), **settings)


@pytest.mark.parametrize("folder", ["Shenzhen", "ChinaSet_AllFiles"])
@pytest.mark.parametrize("twice", [False, True])
def test_official_layouts(tmp_path: Path, folder: str, twice: bool) -> None:
    write(tmp_path, num=8, seed=0, size=(24, 24), folder=folder)
    if twice:  # as the archive of the masks unpacks
        masks = tmp_path / folder / "mask"
        masks.rename(tmp_path / "moved")
        masks.mkdir()
        (tmp_path / "moved").rename(masks / "mask")
    data = module(tmp_path, val_fraction=0.3)
    data.setup("fit")
    table = data.split_table()
    assert len(table["train"]) + len(table["val"]) == 8
    assert all(path.startswith(f"{folder}/CXR_png/CHNCXR_") for path in table["train"])
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].unique().tolist() == [0, 1]
    assert check("shenzhen", tmp_path) == []


def test_images_without_a_mask_are_left_out_and_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, num=14, seed=0, size=(24, 24))  # and 2 without a mask
    data = module(tmp_path)
    with caplog.at_level("INFO"):
        data.prepare_data()
        data.setup("fit")
    lines = [text for text in caplog.messages if "mask" in text]
    assert lines == ["shenzhen: 2 of 16 images have no mask and are left out"]
    items = data.list_files().pool.items
    assert len(items) == 14
    assert all(item.labelled for item in items)


def test_each_image_is_a_patient(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(24, 24))
    groups = [item.group for item in module(tmp_path).list_files().pool.items]
    assert groups == ["9001", "9003", "9005", "9007", "9009", "9011"]


def test_a_mask_without_its_image_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(24, 24))
    (tmp_path / "Shenzhen/CXR_png/CHNCXR_9003_1.png").unlink()
    with pytest.raises(DataError, match=r"CHNCXR_9003_1_mask\.png: a mask without an image"):
        module(tmp_path).setup("fit")


def test_no_mask_at_all_is_a_problem_of_fit_and_none_of_predict(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(24, 24))
    masks = tmp_path / "Shenzhen/mask"
    for file in masks.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="7 problems in the data"):
        module(tmp_path).setup("fit")
    masks.rmdir()
    with pytest.raises(DataError, match="missing folder: the masks of 7 images"):
        module(tmp_path).setup("fit")
    data = module(tmp_path, predict_split="all")
    data.setup("predict")
    assert len(data.split_table()["predict"]) == 7


def test_the_wrong_folder_is_explained(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(24, 24))
    assert ShenzhenDataModule.present(tmp_path)
    assert not ShenzhenDataModule.present(tmp_path / "Shenzhen")
    with pytest.raises(DataError, match="give the folder above") as error:
        module(tmp_path / "Shenzhen").setup("fit")
    assert "Shenzhen/CXR_png/ or ChinaSet_AllFiles/CXR_png/" in str(error.value)
    assert "lightning phantom shenzhen" in str(error.value)
    with pytest.raises(DataError, match="there is no folder"):
        module(tmp_path / "gone").setup("fit")


@pytest.mark.parametrize(("part", "count"), [("sample", 300), ("train128", 566)])
def test_real_images(shared_data: Path, part: str, count: int) -> None:
    data = module(shared_data / part, image_size=32, num_train_samples=count - 200, batch_size=32)
    data.setup("fit")
    assert [len(data.split_table()[s]) for s in ("train", "val", "test")] == [count - 200, 100, 100]
    batch = next(iter(data.train_dataloader()))
    lung = batch["mask"] == 1
    assert 0.15 < lung.float().mean() < 0.35
    # The alignment: lungs are darker than the tissue around them.
    image = batch["image"][:, 0]
    assert image[lung].mean() < image[~lung].mean() - 0.1
    assert check("shenzhen", shared_data / part) == []
