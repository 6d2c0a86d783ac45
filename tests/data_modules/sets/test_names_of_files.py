"""Names that people's files have: other Unicode forms, no text at all, and odd characters."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.registry import check
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from data_modules.sets.ixi import IXIDataModule

ODD = [
    "case 01 (2)",
    "a=b",
    "x#1",
    "#2",
    "50%",
    "it's",
    'say "aah"',
    "v1.2.840.10008",
    "日本 語",
    "-dash",
    "tab\tin",
    "line\nbreak",
    "a\\b",
    "[x]*?",
    "~home",
    "dot.",
    "trailing ",
]
LATIN = [os.fsdecode(b"caf\xe9_1"), os.fsdecode(b"caf\xe9_2"), os.fsdecode(b"\xff\xfe"), "plain"]


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def pair(root: Path, image: str, mask: str, grey: int) -> None:
    """Writes a picture of one grey, and a mask of a column that tells it too."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    drawn = np.zeros((8, 8), np.uint8)
    drawn[:, : 1 + grey % 7] = 255
    with (root / "images" / image).open("wb") as file:
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(file, "PNG")
    with (root / "masks" / mask).open("wb") as file:
        Image.fromarray(drawn).save(file, "PNG")


def module(root: Path, **arguments: Any) -> ImageMaskFolderDataModule:
    settings: dict[str, Any] = {"image_size": 8, "num_workers": 0, "val_fraction": 0.0}
    return ImageMaskFolderDataModule(root=str(root), **(settings | arguments))


def require_right_pairs(root: Path, count: int) -> None:
    data = module(root, in_channels=1)
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    assert len(dataset) == count  # type: ignore[arg-type]
    for index in range(count):
        item = dataset[index]
        grey = round((float(item["image"].mean()) + 1) * 127.5)
        assert int(item["mask"][0].sum()) == 1 + grey % 7
    assert check("image_mask_folder", root) == []


@pytest.mark.parametrize("names", [ODD, LATIN], ids=["odd", "latin1"])
def test_any_name_is_paired(tmp_path: Path, names: list[str]) -> None:
    for k, name in enumerate(names):
        pair(tmp_path, name + (".PNG" if k % 2 else ".png"), f"{name}.png", 10 + 9 * k)
    require_right_pairs(tmp_path, len(names))


@pytest.mark.parametrize("name", ODD + LATIN)
def test_any_name_can_be_left_out(tmp_path: Path, name: str) -> None:
    for k, other in enumerate([name, "kept", "kept_2"]):
        pair(tmp_path, f"{other}.png", f"{other}.png", 10 + 9 * k)
    listed = tmp_path / "exclude.txt"
    shown = next(i.path for i in module(tmp_path).list_files().pool.items if "kept" not in i.path)
    shown = shown.replace("\n", "\\x0a")
    listed.write_bytes(f"\ufeff# torn\r\n{shown}\r\n".encode())
    left = module(tmp_path, exclude_file=str(listed)).list_files().pool.items
    assert [item.image for item in left] == ["images/kept.png", "images/kept_2.png"]


@pytest.mark.parametrize(("of_image", "of_mask"), [(nfc, nfd), (nfd, nfc), (nfd, nfd)])
def test_forms_of_unicode_pair(tmp_path: Path, of_image: Any, of_mask: Any) -> None:
    names = ["läsion_1", "läsion_2", "가_3", "Å_4", "plain"]
    for k, name in enumerate(names):
        pair(tmp_path, of_image(name) + ".png", of_mask(name) + ".png", 10 + 9 * k)
    for folder, form in (("images", of_image), ("masks", of_mask)):
        (tmp_path / folder).rename(tmp_path / form(f"{folder}_ü"))
    settings: dict[str, Any] = {"images": "images_ü", "masks": "masks_ü"}
    items = module(tmp_path, **settings).list_files().pool.items
    assert len(items) == 5
    assert all(len(item.masks) == 1 for item in items)
    # Who is in which split does not follow from how a computer writes an umlaut.
    assert sorted(item.group for item in items) == sorted(map(nfc, names))
    module(tmp_path, **settings).setup("fit")


def test_folders_and_suffixes_in_other_forms_pair(tmp_path: Path) -> None:
    for folder, form in (("images", nfc), ("masks", nfd)):
        (tmp_path / folder / form("Müller")).mkdir(parents=True)
    pair(tmp_path, nfc("Müller/a.png"), nfd("Müller/a_läsion.png"), 20)
    part = module(tmp_path, mask_suffix=nfc("_läsion")).list_files().pool
    assert part.problems == []
    assert len(part.items) == len(part.items[0].masks) == 1


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_files_that_differ_in_the_form_alone_are_named(tmp_path: Path, folder: str) -> None:
    pair(tmp_path, nfc("läsion.png"), nfc("läsion.png"), 20)
    pair(tmp_path, "other.png", "other.png", 40)
    (tmp_path / folder / nfd("läsion.png")).write_bytes(
        (tmp_path / folder / "other.png").read_bytes()
    )
    with pytest.raises(DataError, match=r"Unicode form alone: .*\(NF.\), the other .*\(NF.\)"):
        module(tmp_path).setup("fit")
    (problem,) = [p for p in check("image_mask_folder", tmp_path) if "form" in p.text]
    assert problem.path.startswith(f"{folder}/l")


def test_two_endings_of_one_name_stop_predict_too(tmp_path: Path) -> None:
    pair(tmp_path, "a.png", "a.png", 20)
    pair(tmp_path, "a.jpg", "a.png", 40)
    with pytest.raises(DataError, match=r"a\.png: has the same name as images/a\.jpg"):
        module(tmp_path).setup("predict")


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    for k, name in enumerate(LATIN):
        pair(tmp_path, f"{name}.png", f"{name}.png", 10 + 9 * k)
    data = module(tmp_path, val_fraction=0.3)
    data.setup("fit")
    paths = [path for paths in data.split_table().values() for path in paths]
    assert sorted(paths) == sorted(
        [
            r"images/\xff\xfe.png",
            r"images/caf\xe9_1.png",
            r"images/caf\xe9_2.png",
            "images/plain.png",
        ]
    )
    (tmp_path / "images" / f"{LATIN[0]}.png").write_bytes(b"torn")
    (tmp_path / "masks" / f"{LATIN[1]}.png").unlink()
    with pytest.raises(DataError) as error:
        module(tmp_path).setup("fit")
    assert r"images/caf\xe9_1.png: " in str(error.value)
    assert r"images/caf\xe9_2.png: an image without its mask" in str(error.value)
    for problem in check("image_mask_folder", tmp_path):
        assert str(problem).encode().decode() == str(problem)


def test_subjects_of_scans_in_other_forms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for modality, form in (("T1", nfc), ("PD", nfd)):
        (tmp_path / modality).mkdir()
        for subject in ("müller", "anna", os.fsdecode(b"caf\xe9")):
            grey = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            with (tmp_path / modality / form(f"{subject}_slice3.png")).open("wb") as file:
                Image.fromarray(grey).save(file, "PNG")
    data = IXIDataModule(
        root=str(tmp_path), image_size=16, num_workers=0, test_subjects=[nfd("müller")]
    )
    data.setup("test")
    assert [nfc(path) for path in data.split_table()["test"]] == ["PD/müller_slice3.png"]
    data.setup("fit")
    assert all(path.encode() for paths in data.split_table().values() for path in paths)
    copy = tmp_path / "T1" / nfd("müller_slice3.png")
    copy.write_bytes((tmp_path / "T1/anna_slice3.png").read_bytes())
    with pytest.raises(DataError, match=r"subject m.*Unicode form alone"):
        data.setup("fit")
