import shutil
from pathlib import Path
from typing import Any

import pytest

from data_modules.errors import DataError
from data_modules.phantoms.dermis import write
from data_modules.sets.dermis import DermISDataModule

FIRST, SECOND = "Skin Image Data Set-1", "Skin Image Data Set-2"


def module(root: Path, **arguments: Any) -> DermISDataModule:
    settings: dict[str, Any] = {"image_size": 16, "num_workers": 0, "val_fraction": 0.0}
    return DermISDataModule(root=str(root), **(settings | arguments))


def table(root: Path, **arguments: Any) -> dict[str, list[str]]:
    data = module(root, **arguments)
    data.setup("fit")
    return data.split_table()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, num=10, seed=0, size=(32, 24))
    return tmp_path


def dermquest(root: Path) -> Path:
    """Moves a photograph of each half to DermQuest's folder."""
    for archive, kind, name in ((FIRST, "melanoma", "P1"), (SECOND, "notmelanoma", "P2")):
        folder = root / archive / "skin_data" / kind
        (folder / "dermquest").mkdir()
        for ending in ("_orig.jpg", "_contour.png"):
            (folder / "dermis" / (name + ending)).rename(folder / "dermquest" / (name + ending))
    return root


def test_both_archives_are_one_data_set(root: Path) -> None:
    found = table(root)["train"]
    assert len(found) == 10
    assert f"{FIRST}/skin_data/melanoma/dermis/P1_orig.jpg" in found
    assert f"{SECOND}/skin_data/notmelanoma/dermis/P2_orig.jpg" in found
    assert DermISDataModule.present(root)


@pytest.mark.parametrize("layout", ["zip names", "merged", "upper case"])
def test_other_ways_to_unpack_give_the_same_splits(root: Path, layout: str, tmp_path: Path) -> None:
    before = table(root, num_train_samples=4)
    for archive in (FIRST, SECOND):
        if layout == "zip names":
            (root / archive.lower().replace(" ", "_")).mkdir()
            (root / archive).rename(root / archive.lower().replace(" ", "_") / archive)
        elif layout == "merged":
            shutil.copytree(root / archive / "skin_data", root / "skin_data", dirs_exist_ok=True)
            shutil.rmtree(root / archive)
        elif archive == FIRST:
            folder = root / archive / "skin_data" / "melanoma"
            (folder / "dermis").rename(folder / "dermIS")
    after = table(root, num_train_samples=4)
    names = [{s: {p.split("/")[-1] for p in t[s]} for s in t} for t in (before, after)]
    assert names[0] == names[1]


def test_dermquest_is_only_read_where_it_is_asked_for(root: Path) -> None:
    dermquest(root)
    assert len(table(root)["train"]) == 8
    assert len(table(root, dermquest=True)["train"]) == 10


def test_a_second_picture_of_a_lesion_stays_with_the_first(root: Path) -> None:
    folder = root / FIRST / "skin_data" / "melanoma" / "dermis"
    for ending in ("_orig.jpg", "_contour.png"):
        (folder / f"P3{ending}").rename(folder / f"P1_2{ending}")
    for seed in range(6):
        splits = table(root, num_train_samples=3, split_seed=seed)
        both = {f"{FIRST}/skin_data/melanoma/dermis/{name}_orig.jpg" for name in ("P1", "P1_2")}
        assert sorted(len(both & set(paths)) for paths in splits.values()) == [0, 0, 2]


def test_what_is_missing_is_named(root: Path) -> None:
    folder = root / SECOND / "skin_data" / "notmelanoma" / "dermis"
    (folder / "P2_contour.png").unlink()
    (folder / "P4_orig.jpg").unlink()
    (folder / "Thumbs.db").write_bytes(b"")
    with pytest.raises(DataError, match="2 problems") as error:
        table(root)
    assert f"without its mask {SECOND}/skin_data/notmelanoma/dermis/P2_contour.png" in str(
        error.value
    )
    assert "P4_contour.png: a mask without an image" in str(error.value)
    shutil.rmtree(root / SECOND)
    with pytest.raises(DataError, match=f"{SECOND}/skin_data/notmelanoma/dermis/: missing folder"):
        table(root)


def test_another_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing") as error:
        table(tmp_path)
    assert "DermIS needs Skin Image Data Set-1/skin_data/melanoma/dermis/" in str(error.value)
    assert not DermISDataModule.present(tmp_path)
