"""Nothing of any data set is lost without a word: links, pipes, folders, other endings."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_modules.errors import DataError
from data_modules.listing.items import Listing
from data_modules.registry import DATASETS, check, find_dataset, write_phantom

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
ANNEX = b"/annex/objects/MD5E-s7--0.png\n"


def module(name: str, root: Path) -> Any:
    return find_dataset(name)(root=str(root), num_workers=0, image_size=16, val_fraction=0.0)


def listed(name: str, root: Path) -> tuple[list[str], list[str]]:
    """The images of a data set, and its masks (of IXI: the volumes of another modality)."""
    found = module(name, root)
    if name == "ixi":
        scans = found.list_files(["T1", "PD"]).scans
        return [scan.path for scan in scans["T1"]], [scan.path for scan in scans["PD"]]
    listing: Listing = found.list_files()
    items = [item for part in listing.parts for item in part.items]
    return [i.image for i in items], [m.path for i in items for m in i.masks]


def checked(name: str, root: Path) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return [f"{p.kind}: {p}" for p in check(name, root, note=notes.append)], notes


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name in DATASETS:
        size = (16, 16, 8) if name == "ixi" else (32, 32)
        write_phantom(name, folder / name, num=4, seed=0, size=size)
    return folder


@pytest.fixture(params=DATASETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(phantoms: Path, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantoms / name, tmp_path / "root"))


def test_a_set_on_another_disk_is_the_same_set(name: str, root: Path, tmp_path: Path) -> None:
    before = listed(name, root)
    clean = checked(name, root)[0]
    folders = {str(Path(file).parent) for side in before for file in side}
    for number, folder in enumerate(sorted(folders)):
        if (root / folder).is_symlink() or not (root / folder).is_dir():
            continue
        far = tmp_path / f"disk{number}"
        shutil.move(root / folder, far)
        (root / folder).symlink_to(far)
        (far / "loop").symlink_to(root / folder)
    assert listed(name, root) == before
    found, notes = checked(name, root)
    assert found == clean
    assert any("a folder that holds it" in note for note in notes)


SPOILT: tuple[tuple[Callable[[Path], object], str], ...] = (
    (lambda file: file.symlink_to("/nowhere/x"), "is a broken link: /nowhere/x is not there"),
    (os.mkfifo, "is a pipe (fifo) and no file"),
    (lambda file: file.mkdir(), "is a folder with the name of a file"),
    (lambda file: file.write_bytes(LFS), "content not fetched: a pointer of git-lfs"),
)


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_file_is_named(name: str, root: Path, side: int) -> None:
    paths = listed(name, root)[side]
    for path, (spoil, _) in zip(paths, SPOILT, strict=False):
        (root / path).unlink()
        spoil(root / path)
    found, _ = checked(name, root)
    for path, (_, said) in zip(paths, SPOILT, strict=False):
        assert any(path in problem and said in problem for problem in found), found
    if name != "ixi" or side == 0:  # training reads one modality
        with pytest.raises(DataError, match=SPOILT[0][1]):
            module(name, root).inspect("fit")
    if name != "ixi" and side == 0:
        data = module(name, root)
        data.predict_split = "train"
        with pytest.raises(DataError, match=SPOILT[0][1]):
            data.inspect("predict")


@pytest.mark.parametrize("content", [ANNEX, b"../.git/annex/objects/x/y\n"])
def test_pointers_of_unlocked_files_are_told_from_torn_files(
    phantoms: Path, tmp_path: Path, content: bytes
) -> None:
    for name in ("image_mask_folder", "ixi"):
        root = Path(shutil.copytree(phantoms / name, tmp_path / name))
        path = listed(name, root)[0][0]
        (root / path).write_bytes(content)
        assert "content not fetched: a pointer of git-annex" in " ".join(checked(name, root)[0])
        (root / path).write_bytes(content[:6])
        assert "content not fetched" not in " ".join(checked(name, root)[0])
        (root / path).write_bytes(b"")
        assert f"{path}: " in " ".join(checked(name, root)[0])


def test_files_of_other_endings_are_counted(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = root / listed(name, root)[0][0]
    stem = image.name.split(".")[0]
    image.with_name(f"{stem}.jfif").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    image.with_name(f"{stem}.IMA").write_bytes(bytes(128) + b"DICM")
    image.with_name("Thumbs.db").write_bytes(b"x")
    said: list[str] = []
    monkeypatch.setattr("data_modules.kinds.base.rank_zero_info", said.append)
    data = module(name, root)
    data.setup("fit")
    data.setup("fit")
    found, notes = checked(name, root)
    line = next(note for note in notes if "left out, not" in note)
    assert line.startswith("2 files are left out, not being read by name or ending: ")
    assert f"1 .ima ({stem}.IMA, DICOM: end in .dcm)" in line
    assert f"1 .jfif ({stem}.jfif, JPEG: end in .jpg)" in line
    assert [text for text in said if "left out, not" in text] == [f"{name}: {line}"]
    assert not any(problem.startswith("file") for problem in found)


def test_a_set_without_images_is_a_problem(name: str, root: Path) -> None:
    images, masks = listed(name, root)
    for path in [*images, *masks, *map(str, root.rglob("*-T2.nii.gz"))]:
        (root / path).unlink(missing_ok=True)
    found, _ = checked(name, root)
    assert found
    with pytest.raises(DataError):
        module(name, root).inspect("fit")


def test_a_folder_that_cannot_be_opened_is_a_problem(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = (root / listed(name, root)[0][0]).parent
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if os.fspath(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found, _ = checked(name, root)
    assert any("cannot be opened (Permission denied)" in problem for problem in found), found
