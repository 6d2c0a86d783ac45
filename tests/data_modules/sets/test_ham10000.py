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


def rows_of(metadata: Path) -> list[list[str]]:
    with metadata.open(newline="") as file:
        return list(csv.reader(file))


def groups(root: Path) -> dict[str, str]:
    return {item.image: item.group for item in module(root).list_files().pool.items}


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
            "lesion_id;image_id\nHAM_1;ISIC_9800000\n",
            "expected lesion_id and image_id, with commas or tabs between",
        ),
        ("lesion_id,image_id\nHAM_1,\xff\n", f"{METADATA}: cannot be read as a table"),
        (
            "lesion_id,image_id\nHAM_1,ISIC_9800000\n",
            "ISIC_9800001.jpg: has no lesion in HAM10000_meta",
        ),
        (
            "lesion_id,image_id\nHAM_1,ISIC_9800000\n,ISIC_9800001\n",
            "ISIC_9800001.jpg: has no lesion",
        ),
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


@pytest.mark.parametrize("ending", [".tab", ""])
@pytest.mark.parametrize("quote", ["", '"'])
def test_the_table_of_dataverse_has_tabs(root: Path, ending: str, quote: str) -> None:
    official = root / METADATA
    before = groups(root)
    cells = [[f"{quote}{cell}{quote}" for cell in row] for row in rows_of(official)]
    official.unlink()
    text = "\r\n".join("\t".join(row) for row in cells)
    (root / f"HAM10000/HAM10000_metadata{ending}").write_text(text)
    assert groups(root) == before
    assert len(set(before.values())) == 8


def test_two_tables_that_disagree_are_told(root: Path) -> None:
    rows = rows_of(root / METADATA)
    other = root / "HAM10000/HAM10000_metadata.tab"
    other.write_text("\n".join("\t".join(row) for row in rows))
    assert check("ham10000", root) == []
    rows[1][0] = "HAM_7"
    other.write_text("\n".join("\t".join(row) for row in rows))
    (problem,) = check("ham10000", root)
    assert "HAM10000_metadata.tab: tells other lesions than HAM10000_metadata.csv" in str(problem)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("masks_too", [True, False])
def test_archives_that_unpack_without_a_folder(root: Path, inside: bool, masks_too: bool) -> None:
    before = {Path(image).name: group for image, group in groups(root).items()}
    base = root / "HAM10000"
    for folder in sorted(base.glob("HAM10000_*/")):
        if masks_too or "images" in folder.name:
            for file in folder.iterdir():
                file.rename(base / file.name)
            folder.rmdir()
    (base / "README.png").write_bytes(b"no image of the set")
    top = root if inside else base
    after = groups(top)
    assert {Path(image).name: group for image, group in after.items()} == before
    assert check("ham10000", top) == []
    assert HAM10000DataModule.present(top)
    copy = base / "HAM10000_images_part_1" / "ISIC_9800000.jpg"
    copy.parent.mkdir()
    copy.write_bytes((base / copy.name).read_bytes())
    assert "has the same name as" in " ".join(map(str, check("ham10000", top)))


def test_a_phantom_of_the_other_layouts_is_the_same_set(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", num=12, seed=0, size=(32, 24), loose=True, tabs=True)
    before = {Path(image).name: group for image, group in groups(root).items()}
    after = groups(tmp_path / "other")
    assert {Path(image).name: group for image, group in after.items()} == before
    assert check("ham10000", tmp_path / "other") == []


def test_loose_images_of_another_set_are_none_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "ISIC_0000001.jpg").write_bytes(b"x")
    assert not HAM10000DataModule.present(tmp_path)


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
