from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.nih import write
from data_modules.registry import check
from data_modules.sets.nih import NIHDataModule


def module(root: Path, **arguments: Any) -> NIHDataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return NIHDataModule(root=str(root), **settings)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("suffix", [True, False])
def test_layouts(tmp_path: Path, nested: bool, suffix: bool) -> None:
    base = tmp_path / "data" if nested else tmp_path
    write(base, num=8, seed=0, size=(24, 24))
    if not suffix:
        for file in sorted((base / "NIH/masks").iterdir()):
            file.rename(file.with_name(file.name.replace("_mask", "")))
    assert NIHDataModule.present(tmp_path)
    data = module(tmp_path, num_train_samples=4)
    data.setup("fit")
    assert [len(data.split_table()[s]) for s in ("train", "val", "test")] == [4, 2, 2]
    assert next(iter(data.train_dataloader()))["mask"].unique().tolist() == [0, 1]
    assert check("nih", tmp_path) == []


def test_images_of_one_patient_stay_together(tmp_path: Path) -> None:
    write(tmp_path, num=25, seed=0, size=(16, 16))
    items = module(tmp_path).list_files().pool.items
    groups = {item.image.rsplit("/", 1)[-1]: item.group for item in items}
    assert groups["90000004_000.png"] == groups["90000004_001.png"] == "90000004"
    assert len(set(groups.values())) == 20
    for seed in range(4):
        data = module(tmp_path, num_train_samples=10, split_seed=seed)
        data.setup("fit")
        patients = [{path.split("_")[0] for path in paths} for paths in data.split_table().values()]
        assert sum(map(len, patients)) == 20


def test_100_images_of_100_patients_are_split_as_in_the_paper(tmp_path: Path) -> None:
    for k in range(100):
        for folder, end in (("images", ""), ("masks", "_mask")):
            (tmp_path / "NIH" / folder).mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (4, 4), k if folder == "images" else 255 * (k % 2))
            picture.save(tmp_path / "NIH" / folder / f"{k + 1:08d}_000{end}.png")
    data = module(tmp_path, num_train_samples=20)
    data.setup("fit")
    assert [len(data.split_table()[s]) for s in ("train", "val", "test")] == [20, 40, 40]


def test_names_that_are_not_of_chestxray14_are_their_own_patients(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(16, 16))
    for folder, end in (("images", ""), ("masks", "_mask")):
        file = tmp_path / "NIH" / folder / f"90000001_000{end}.png"
        file.rename(file.with_name(f"extra_1{end}.png"))
    assert [i.group for i in module(tmp_path).list_files().pool.items] == ["90000002", "extra_1"]


def test_images_larger_than_their_masks_are_taken(tmp_path: Path) -> None:
    write(tmp_path, num=3, seed=0, size=(16, 16))
    for file in (tmp_path / "NIH/images").iterdir():
        Image.open(file).resize((32, 32)).save(file)
    data = module(tmp_path, val_fraction=0.0)
    data.setup("fit")
    assert check("nih", tmp_path) == []


@pytest.mark.parametrize("above", ["XLSor_data/data", "data", "."])
def test_the_archive_is_found_from_above(tmp_path: Path, above: str) -> None:
    root = tmp_path / "root"
    write(root, num=3, seed=0, size=(16, 16), folder=f"{above}/NIH")
    assert NIHDataModule.present(root)
    images = [Path(item.image) for item in module(root).list_files().pool.items]
    assert [path.parent for path in images] == [Path(above) / "NIH/images"] * 3
    assert check("nih", root) == []


def test_the_wrong_folder_and_missing_masks_are_explained(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(16, 16))
    with pytest.raises(DataError, match=r"expected NIH/images/ or .* in it: give"):
        module(tmp_path / "NIH").setup("fit")
    (tmp_path / "NIH/masks/90000001_000_mask.png").unlink()
    with pytest.raises(DataError, match=r"without its mask NIH/masks/90000001_000_mask\.png"):
        module(tmp_path).setup("fit")
