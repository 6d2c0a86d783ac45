from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.isic import write
from data_modules.sets.isic import LAYOUTS, ISICDataModule


def module(root: Path, **arguments: Any) -> ISICDataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return ISICDataModule(root=str(root), **settings)


@pytest.mark.parametrize("year", [2016, 2017, 2018])
@pytest.mark.parametrize("nested", [False, True])
def test_official_layouts(tmp_path: Path, year: int, nested: bool) -> None:
    base = tmp_path / f"ISIC-{year}" if nested else tmp_path
    write(base, num=12, seed=0, size=(32, 24), year=year)
    images = base / LAYOUTS[year].train.images
    Image.new("RGB", (32, 24)).save(images / "ISIC_9000000_superpixels.png")
    (images / "ATTRIBUTION.txt").write_text("thanks")
    (images / ".DS_Store").write_text("")
    data = module(tmp_path, year=year, val_fraction=0.2)
    data.setup("fit")
    table = data.split_table()
    assert len(table["train"]) + len(table["val"]) == 12
    assert table["val"]
    assert len(table["test"]) == 4  # the official test set
    assert all((tmp_path / path).is_file() for paths in table.values() for path in paths)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch["mask"].unique().tolist() == [0, 1]
    assert data.split_table()["test"] == table["test"]


def test_the_official_validation_set(tmp_path: Path) -> None:
    write(tmp_path, num=8, seed=0, size=(32, 24), year=2018)
    with pytest.raises(DataError, match="no folder ISIC2018_Task1-2_Validation_Input"):
        module(tmp_path, official_val=True).setup("fit")
    layout = LAYOUTS[2018]
    assert layout.val is not None
    write(tmp_path / "more", num=3, seed=1, size=(32, 24), year=2018)
    (tmp_path / "more" / layout.train.images).rename(tmp_path / layout.val.images)
    (tmp_path / "more" / layout.train.masks).rename(tmp_path / layout.val.masks)
    data = module(tmp_path, official_val=True)
    data.setup("fit")
    assert [len(data.split_table()[s]) for s in ("train", "val", "test")] == [8, 3, 4]
    assert len(list(iter(data.val_dataloader()))) == 1


def test_a_test_set_without_masks_only_serves_predict(tmp_path: Path) -> None:
    write(tmp_path, num=8, seed=0, size=(32, 24))
    masks = tmp_path / LAYOUTS[2018].test.masks
    for file in masks.iterdir():
        file.unlink()
    masks.rmdir()
    data = module(tmp_path)
    data.setup("fit")
    assert data.split_table()["test"] == []
    data.setup("predict")
    assert len(data.split_table()["predict"]) == 4
    assert "mask" not in next(iter(data.predict_dataloader()))
    with pytest.raises(DataError, match="ISIC2018_Task1_Test_GroundTruth/: missing folder"):
        data.setup("test")
    own = module(tmp_path, test_fraction=0.3)
    own.setup("test")
    assert own.split_table()["test"]
    assert all("Training_Input" in path for path in own.split_table()["test"])


def test_a_part_to_predict_is_the_part_of_the_fit(tmp_path: Path) -> None:
    write(tmp_path, num=20, seed=0, size=(32, 24))
    settings: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.4}
    fit = module(tmp_path, **settings)
    fit.setup("fit")
    for split in ("train", "val", "test"):
        predict = module(tmp_path, predict_split=split, **settings)
        predict.setup("predict")
        assert predict.split_table()["predict"] == fit.split_table()[split]


def test_test_fraction_where_there_is_no_official_test_set(tmp_path: Path) -> None:
    write(tmp_path, num=20, seed=0, size=(32, 24))
    for folder in (LAYOUTS[2018].test.images, LAYOUTS[2018].test.masks):
        (tmp_path / folder).rename(tmp_path / f"other_{folder}")
    with pytest.raises(DataError, match="0 images in the test split"):
        module(tmp_path).setup("test")
    data = module(tmp_path, test_fraction=0.2)
    data.setup("test")
    assert data.split_table()["test"]
    assert data.split_table()["train"]


def test_training_images_in_the_official_test_set_are_named(tmp_path: Path) -> None:
    write(tmp_path, num=8, seed=0, size=(32, 24))
    layout = LAYOUTS[2018]
    test = sorted((tmp_path / layout.test.images).iterdir())[0]
    train = sorted((tmp_path / layout.train.images).iterdir())[0]
    test.write_bytes(train.read_bytes())
    with pytest.raises(DataError, match="1 identical files in two splits") as error:
        module(tmp_path).setup("fit")
    assert train.name in str(error.value)
    assert test.name in str(error.value)


def test_the_wrong_folder_or_year_is_explained(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(32, 24), year=2017)
    with pytest.raises(DataError, match="the folders of 2017 are there: set data"):
        module(tmp_path, year=2018).setup("fit")
    inner = tmp_path / LAYOUTS[2017].train.images
    with pytest.raises(DataError, match="give the folder above") as error:
        module(inner, year=2017).setup("fit")
    assert "lightning phantom isic" in str(error.value)
    assert "challenge.isic-archive.com" in str(error.value)
    with pytest.raises(DataError, match="year: 2019 given"):
        module(tmp_path, year=2019)


def test_reference_images_are_plain_training_images(tmp_path: Path) -> None:
    write(tmp_path, num=6, seed=0, size=(32, 24))
    data = module(tmp_path, augment=["hflip"], val_fraction=0.0)
    data.setup("fit")
    references = list(data.reference_images("anything"))
    assert len(references) == 6
    file = Image.open(tmp_path / data.item_path("train", 2))
    resized = np.array(file.resize((16, 16), Image.Resampling.BILINEAR))
    expected = torch.from_numpy(resized).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(references[2], expected)


def test_real_images(shared_data: Path) -> None:
    data = module(shared_data / "sample", image_size=32, val_fraction=0.1, batch_size=32)
    data.setup("fit")
    table = data.split_table()
    assert len(table["train"]) + len(table["val"]) == 300
    batch = next(iter(data.train_dataloader()))
    # The alignment of images and masks: lesions are darker than the skin around them.
    luminance = batch["image"].mean(dim=1)
    inside = torch.stack([x[m == 1].mean() for x, m in zip(luminance, batch["mask"], strict=True)])
    outside = torch.stack([x[m == 0].mean() for x, m in zip(luminance, batch["mask"], strict=True)])
    assert (inside < outside).float().mean() > 0.8


def test_real_test_pairs_of_2017_beside_unlabelled_training_images(shared_data: Path) -> None:
    data = module(shared_data / "sample", year=2017)
    data.setup("test")
    assert len(data.split_table()["test"]) == 9
    assert data.item_path("test", 0) == "ISIC-2017/ISIC-2017_Test_v2_Data/ISIC_0012388.jpg"
    with pytest.raises(DataError, match="the masks of 300 images"):
        data.setup("fit")
