from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.celebamask_hq import write
from data_modules.registry import check
from data_modules.sets.celebamask_hq import PARTS, CelebAMaskHQDataModule

IMAGES = "CelebAMask-HQ/CelebA-HQ-img"
MASKS = "CelebAMask-HQ/CelebAMask-HQ-mask-anno"


def module(root: Path, **arguments: Any) -> CelebAMaskHQDataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return CelebAMaskHQDataModule(root=str(root), **settings)


def put(root: Path, number: int, folder: str, parts: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    """Writes an image of 16 pixels and part files of 8."""
    (root / IMAGES).mkdir(parents=True, exist_ok=True)
    (root / MASKS / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / IMAGES / f"{number}.jpg")
    for part, cover in parts.items():
        mask = Image.fromarray(cover.astype(np.uint8) * 255)
        mask.convert("RGB").save(root / MASKS / folder / f"{number:05d}_{part}.png")


def region(rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    cover = np.zeros((8, 8), bool)
    cover[rows, columns] = True
    return cover


def masks_of(root: Path) -> dict[str, torch.Tensor]:
    data = module(root, image_size=8, val_fraction=0.0, batch_size=1)
    data.setup("fit")
    batches = list(data.train_dataloader())
    return {data.item_path("train", int(b["index"])): b["mask"][0] for b in batches}


def test_labels_are_those_of_the_official_list() -> None:
    official = {1: "skin", 2: "nose", 3: "eye_g", 4: "l_eye", 9: "r_ear", 10: "mouth"}
    official |= {13: "hair", 14: "hat", 15: "ear_r", 16: "neck_l", 17: "neck", 18: "cloth"}
    assert len(PARTS) == 18
    assert all(PARTS[label - 1] == part for label, part in official.items())


def test_skin_has_the_lowest_priority_and_absent_parts_are_background(tmp_path: Path) -> None:
    skin = region(slice(1, 7), slice(1, 7))
    put(tmp_path, 3, "0", {"skin": skin, "nose": region(slice(3, 5), slice(3, 5))})
    hair = region(slice(0, 4), slice(0, 8))
    put(tmp_path, 12345, "6", {"hair": hair, "skin": skin, "l_lip": region(slice(5, 6), slice(5))})
    masks = masks_of(tmp_path)
    expected = torch.zeros(8, 8, dtype=torch.int64)
    expected[1:7, 1:7] = 1
    expected[3:5, 3:5] = 2
    assert torch.equal(masks[f"{IMAGES}/3.jpg"], expected)
    expected = torch.zeros(8, 8, dtype=torch.int64)
    expected[1:7, 1:7] = 1
    expected[5, :5] = 12
    expected[:4] = 13
    assert torch.equal(masks[f"{IMAGES}/12345.jpg"], expected)


def test_all_nineteen_classes_in_batches_of_a_phantom(tmp_path: Path) -> None:
    write(tmp_path, num=16, seed=0, size=(64, 64))
    data = module(tmp_path, image_size=64, val_fraction=0.0)
    data.setup("fit")
    found = torch.cat([batch["mask"].flatten() for batch in data.train_dataloader()]).unique()
    assert found.tolist() == list(range(19))


def test_the_two_folders_may_be_the_root(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(32, 32))
    data = module(tmp_path / "CelebAMask-HQ", val_fraction=0.25)
    data.setup("fit")
    assert data.item_path("train", 0).startswith("CelebA-HQ-img/")


def test_present(tmp_path: Path) -> None:
    assert not CelebAMaskHQDataModule.present(tmp_path)
    assert not CelebAMaskHQDataModule.present(tmp_path / "gone")
    write(tmp_path, num=1, seed=0, size=(32, 32))
    assert CelebAMaskHQDataModule.present(tmp_path)


def test_what_is_wrong_is_listed(tmp_path: Path) -> None:
    part = {"skin": region(slice(1, 7), slice(1, 7)), "nose": region(slice(3, 5), slice(3, 5))}
    for number in range(4):
        put(tmp_path, number, "0", part)
    put(tmp_path, 2, "1", part)
    put(tmp_path, 4, "0", {})
    (tmp_path / IMAGES / "3.jpg").unlink()
    put(tmp_path, 1, "0", {"beard": part["skin"]})
    found = {(p.kind, p.path) for p in check("celebamask_hq", tmp_path)}
    assert found == {
        ("duplicate", f"{MASKS}/1/00002_skin.png"),
        ("duplicate", f"{MASKS}/1/00002_nose.png"),
        ("unpaired", f"{IMAGES}/4.jpg"),
        ("unpaired", f"{MASKS}/0/00003_skin.png"),
        ("unpaired", f"{MASKS}/0/00001_beard.png"),
    }


def test_other_files_are_no_concern(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(32, 32))
    (tmp_path / "CelebAMask-HQ" / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx")
    (tmp_path / MASKS / "Thumbs.db").write_text("")
    (tmp_path / MASKS / "0" / ".DS_Store").write_text("")
    assert check("celebamask_hq", tmp_path) == []


def test_an_image_may_be_excluded_by_its_number(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(32, 32))
    listed = tmp_path / "bad.txt"
    listed.write_text("00002\n3.jpg  # no hair\n")
    data = module(tmp_path, exclude_file=str(listed), val_fraction=0.0)
    data.setup("fit")
    assert data.split_table()["train"] == [f"{IMAGES}/0.jpg", f"{IMAGES}/1.jpg"]


def test_a_missing_folder_of_masks_is_named(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(32, 32))
    (tmp_path / MASKS).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"{MASKS}/: missing folder: the masks of 4 images"):
        module(tmp_path).setup("fit")


def test_wrong_folder_and_arguments_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing") as error:
        module(tmp_path).setup("fit")
    assert "lightning phantom celebamask_hq" in str(error.value)
    write(tmp_path, num=1, seed=0, size=(32, 32))
    with pytest.raises(DataError, match="give the folder above"):
        module(tmp_path / IMAGES).setup("fit")
    with pytest.raises(DataError, match="num_classes: 2 given, expected 19"):
        module(tmp_path, num_classes=2)
    with pytest.raises(DataError, match="hflip would give left eyes"):
        module(tmp_path, augment=["hflip"])


FACE = {"skin": region(slice(1, 7), slice(1, 7)), "nose": region(slice(3, 5), slice(3, 5))}


def mapping(root: Path, rows: Mapping[int, int]) -> None:
    """The official table: numbers here and in CelebA, and the file there, in columns."""
    lines = [f"{here:<8}{there:<12}{there + 1:06d}.jpg" for here, there in rows.items()]
    text = "\n".join(["idx     orig_idx    orig_file", *lines, ""])
    (root / "CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt").write_text(text)


def test_the_official_split_follows_the_numbers_in_celeba(tmp_path: Path) -> None:
    places = {0: 162770, 1: 162771, 2: 182637, 3: 182638, 4: 7, 5: 202598}
    for number in places:
        put(tmp_path, number, "0", FACE)
    mapping(tmp_path, places)
    data = module(tmp_path, official_split=True, val_fraction=0.5, split_seed=3)
    data.setup("fit")
    numbers = {split: [int(Path(p).stem) for p in v] for split, v in data.split_table().items()}
    assert numbers == {"train": [0, 4], "val": [1, 2], "test": [3, 5]}
    assert check("celebamask_hq", tmp_path, official_split=True) == []
    plain = module(tmp_path, val_fraction=0.0)
    plain.setup("fit")
    assert len(plain.split_table()["train"]) == 6


def test_the_official_split_needs_its_table(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, number, "0", FACE)
    with pytest.raises(DataError, match=r"official_split: .*mapping\.txt cannot be read"):
        module(tmp_path, official_split=True).setup("fit")
    mapping(tmp_path, {0: 1, 1: 170000})
    for stage in ("fit", "test"):
        with pytest.raises(DataError, match=r"2\.jpg: is not in CelebA-HQ-to-CelebA-mapping\.txt"):
            module(tmp_path, official_split=True).setup(stage)
    mapping(tmp_path, {})
    with (tmp_path / "CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt").open("a") as file:
        file.write("0 none 000001.jpg\n")
    with pytest.raises(DataError, match=r"is no table with the numbers"):
        module(tmp_path, official_split=True).setup("fit")


def test_the_folder_of_masks_under_the_name_of_the_scripts(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path, number, "0", FACE)
    before = masks_of(tmp_path)
    (tmp_path / MASKS).rename(tmp_path / "CelebAMask-HQ/CelebAMaskHQ-mask-anno")
    after = masks_of(tmp_path)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[path], after[path]) for path in before)
    # Half of them under each name, as two unpackings leave it.
    (tmp_path / MASKS / "1").mkdir(parents=True)
    half = tmp_path / "CelebAMask-HQ/CelebAMaskHQ-mask-anno/0/00001_skin.png"
    half.rename(tmp_path / MASKS / "1/00001_skin.png")
    parted = masks_of(tmp_path)
    assert all(torch.equal(before[path], parted[path]) for path in before)


def test_images_of_other_names_are_told(tmp_path: Path) -> None:
    put(tmp_path, 1, "0", FACE)
    (tmp_path / IMAGES / "face.jpg").write_bytes((tmp_path / IMAGES / "1.jpg").read_bytes())
    (problem,) = [p for p in check("celebamask_hq", tmp_path) if p.kind == "unpaired"]
    assert str(problem) == f"{IMAGES}/face.jpg: is no face: expected NUMBER.jpg"


def test_a_phantom_has_the_official_split(tmp_path: Path) -> None:
    write(tmp_path, num=10, seed=0, size=(32, 32))
    data = module(tmp_path, official_split=True)
    data.setup("fit")
    assert {split: len(paths) for split, paths in data.split_table().items()} == {
        "train": 8,
        "val": 1,
        "test": 1,
    }
