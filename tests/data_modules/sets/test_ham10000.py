import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from data_modules.errors import DataError
from data_modules.phantoms.ham10000 import write
from data_modules.registry import check
from data_modules.sets.ham10000 import HAM10000DataModule

METADATA = "HAM10000/HAM10000_metadata.csv"


def module(root: Path, **arguments: Any) -> HAM10000DataModule:
    settings: dict[str, Any] = {"image_size": 16, "num_workers": 0, "val_fraction": 0.0}
    return HAM10000DataModule(root=str(root), **(settings | arguments))


def table(root: Path, **arguments: Any) -> dict[str, list[str]]:
    data = module(root, **arguments)
    data.setup("fit")
    return data.split_table()


def lesion_of(metadata: Path) -> dict[str, str]:
    with metadata.open(newline="") as file:
        return {row["image_id"]: row["lesion_id"] for row in csv.DictReader(file)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, num=12, seed=0, size=(32, 24))
    return tmp_path


def test_both_folders_of_images_are_one_data_set(root: Path) -> None:
    found = table(root)["train"]
    assert len(found) == 12
    assert {path.split("/")[1][-1] for path in found} == {"1", "2"}
    assert len(table(root / "HAM10000")["train"]) == 12
    assert HAM10000DataModule.present(root)
    assert not HAM10000DataModule.present(root / "HAM10000" / "HAM10000_images_part_1")


def test_images_of_one_lesion_stay_in_one_split(root: Path) -> None:
    lesions = lesion_of(root / METADATA)
    assert len(set(lesions.values())) == 8
    for seed in range(5):
        splits = table(root, num_train_samples=5, split_seed=seed)
        groups = [{lesions[Path(path).stem] for path in paths} for paths in splits.values()]
        assert sum(map(len, groups)) == 8
        assert len(splits["train"]) == 5


def test_metadata_without_its_ending_are_found(root: Path) -> None:
    (root / METADATA).rename(root / "HAM10000" / "HAM10000_metadata")
    assert len(table(root)["train"]) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"{METADATA}: missing: it tells which images show one lesion"),
        ("lesion,image_id\nHAM_1,ISIC_9800000\n", f"{METADATA}: has no column lesion_id"),
        (
            "lesion_id\timage_id\nHAM_1\tISIC_9800000\n",
            "expected lesion_id and image_id, with commas",
        ),
        ("lesion_id,image_id\nHAM_1,\xff\n", f"{METADATA}: cannot be read as a table"),
        ("lesion_id,image_id\nHAM_1,ISIC_9800000\n", "ISIC_9800001.jpg: is not in HAM10000_meta"),
    ],
)
def test_metadata_that_do_not_tell_lesions(root: Path, content: str | None, message: str) -> None:
    if content is None:
        (root / METADATA).unlink()
    else:
        (root / METADATA).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as error:
        table(root)
    assert message in str(error.value)
    assert HAM10000DataModule.present(root)


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    folder = root / "HAM10000"
    name = "ISIC_9800002"
    mask = folder / "HAM10000_segmentations_lesion_tschandl" / f"{name}_segmentation.png"
    mask.unlink()
    copy = folder / "HAM10000_images_part_2" / "ISIC_9800000.jpg"
    copy.write_bytes((folder / "HAM10000_images_part_1" / "ISIC_9800000.jpg").read_bytes())
    found = {problem.path.rsplit("/", 1)[-1]: str(problem) for problem in check("ham10000", root)}
    assert "without its mask" in found[f"{name}.jpg"]
    assert "has the same name as" in found["ISIC_9800000.jpg"]
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="HAM10000 needs HAM10000/HAM10000_images_part_1/"):
        table(tmp_path / "other")


@pytest.mark.parametrize(
    ("pack", "images", "lesions"), [("sample", 300, 300), ("train128", 2954, 0)]
)
def test_real_images(shared_data: Path, pack: str, images: int, lesions: int) -> None:
    root = shared_data / pack
    listing = module(root).list_files()
    assert len(listing.pool.items) == images
    assert listing.pool.problems == []
    groups = {item.group for item in listing.pool.items}
    assert len(groups) == lesions or (not lesions and len(groups) < images)


def test_real_lesions_are_darker_than_the_skin_around_them(shared_data: Path) -> None:
    data = module(
        shared_data / "sample", image_size=32, num_train_samples=20, batch_size=20, drop_last=False
    )
    data.setup("fit")
    assert [len(paths) for paths in data.split_table().values()] == [20, 140, 140]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[0] == 20
    pairs = list(zip(batch["image"].mean(dim=1), batch["mask"], strict=True))
    darker = [float(x[m == 1].mean()) < float(x[m == 0].mean()) for x, m in pairs]
    assert torch.tensor(darker).float().mean() > 0.8
