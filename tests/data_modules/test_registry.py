import errno
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import LightningDataModule
from PIL import Image

import data_modules
from data_modules.errors import DataError
from data_modules.registry import DATASETS, check, find_dataset, write_phantom

WritePairs = Callable[..., Path]
REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_module_a_clean_phantom_and_its_name(
    name: str, tmp_path: Path
) -> None:
    module = find_dataset(name)
    assert issubclass(module, LightningDataModule)
    assert module.short_name == name
    write_phantom(name, tmp_path, num=6, seed=0)
    assert check(name, tmp_path) == []
    data = module(root=str(tmp_path), image_size=16, num_workers=0)
    data.setup("fit")
    table = data.split_table()
    whole = 6 * 3 if name == "ixi" else 6  # of IXI six subjects of three slices
    held_out = len(table["test"]) if name == "ixi" else 0  # which has no official test set
    assert len(table["train"]) + len(table["val"]) == whole - held_out


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_says_what_it_is_and_has_its_page_and_overlay(name: str) -> None:
    kind = find_dataset(name)
    assert kind.title
    assert "\n" not in kind.citation
    # A user's own folder is nobody's, and has its settings in the config that names it.
    own = name == "image_mask_folder"
    assert bool(kind.citation) is not own
    page = (REPOSITORY / "docs" / "data" / f"{name}.md").read_text(encoding="utf-8")
    assert f"data_modules/sets/{name}.py" in page
    overlay = REPOSITORY / "configs" / "data" / f"{name}.yaml"
    assert own or f"class_path: {kind.__name__}\n" in overlay.read_text(encoding="utf-8")


def test_the_package_gives_the_data_modules_of_the_registry() -> None:
    for kind in map(find_dataset, DATASETS):
        assert getattr(data_modules, kind.__name__) is kind
        assert kind.__name__ in data_modules.__all__
    assert not [name for name in data_modules.__all__ if not hasattr(data_modules, name)]


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(DataError, match=r"no data set 'isicc'.*Did you mean isic"):
        find_dataset("isicc")


def test_check_lists_everything_at_once(write_pairs: WritePairs) -> None:
    root = write_pairs(*(f"x{k}" for k in range(30)))
    images, masks = root / "images", root / "masks"
    (images / "x1.png").write_bytes(b"junk")
    (masks / "x2.png").unlink()
    (images / "x3.png").unlink()
    Image.new("L", (4, 4)).save(masks / "x4.png")
    grey = np.zeros((16, 20), np.uint8)
    grey[0, 0] = 100
    Image.fromarray(grey).save(masks / "x5.png")
    (images / "x7.png").write_bytes((images / "x6.png").read_bytes())
    found = {(p.kind, p.path) for p in check("image_mask_folder", root)}
    assert found == {
        ("unreadable", "images/x1.png"),
        ("unpaired", "images/x2.png"),
        ("unpaired", "masks/x3.png"),
        ("size", "images/x4.png"),
        ("values", "masks/x5.png"),
        ("duplicate", "images/x6.png"),
    }


def test_check_lists_leaks_between_official_splits(tmp_path: Path) -> None:
    write_phantom("isic", tmp_path, num=5, seed=0)
    train = sorted((tmp_path / "ISIC2018_Task1-2_Training_Input").iterdir())[0]
    test = sorted((tmp_path / "ISIC2018_Task1-2_Test_Input").iterdir())[0]
    test.write_bytes(train.read_bytes())
    leak = [p for p in check("isic", tmp_path) if p.kind == "leak"]
    assert [p.path for p in leak] == [f"ISIC2018_Task1-2_Test_Input/{test.name}"]
    assert train.name in str(leak[0])


def test_check_looks_at_every_layout_that_is_there(tmp_path: Path) -> None:
    from data_modules.phantoms.isic import write

    for year in (2016, 2018):
        write(tmp_path, num=3, seed=year, size=(32, 24), year=year)
    assert check("isic", tmp_path) == []
    (tmp_path / "ISBI2016_ISIC_Part1_Training_Data" / "ISIC_9000001.jpg").unlink()
    assert [p.kind for p in check("isic", tmp_path)] == ["unpaired"]
    assert check("isic", tmp_path, year=2018) == []


def test_check_names_an_argument_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"isic: .*unexpected keyword argument 'yaer'"):
        check("isic", tmp_path, yaer=2018)


def test_check_of_a_missing_root_and_of_a_wrong_layout(tmp_path: Path) -> None:
    for root in (tmp_path / "gone", tmp_path):
        (problem,) = check("isic", root)
        assert problem.kind == "missing"
        assert "data.init_args.root" in str(problem)


def test_check_says_that_nothing_is_left_for_training(write_pairs: WritePairs) -> None:
    root = write_pairs("a", "b", "c")
    (problem,) = check("image_mask_folder", root, val_fraction=0.99)
    assert problem.kind == "split"


def test_phantoms_never_mix_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_phantom("isic", tmp_path, num=2, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="is a file"):
        write_phantom("isic", tmp_path / "thesis.txt", num=2, seed=0)
    with pytest.raises(DataError, match="--num: 0 given"):
        write_phantom("isic", tmp_path / "new", num=0, seed=0)


def test_writing_again_replaces_the_phantom_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_phantom("isic", root, num=6, seed=0)
    write_phantom("image_mask_folder", root, num=2, seed=0)
    (root / "notes.txt").write_text("mine")
    write_phantom("isic", root, num=3, seed=0)
    assert len(list((root / "ISIC2018_Task1-2_Training_Input").iterdir())) == 3
    assert len(list((root / "images").iterdir())) == 2
    assert (root / "notes.txt").read_text() == "mine"


def test_a_command_that_was_killed_can_be_given_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_phantom("isic", root, num=3, seed=0)
    (root / ".meddiff-phantom.json").write_text(json.dumps({"isic": []}))  # as before the pictures
    write_phantom("isic", root, num=3, seed=0)
    assert check("isic", root) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_a_full_disk_is_told_with_the_folder(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy and Pillow give no number; the phantoms of other data sets there stay known."""
    root = tmp_path / "data"
    write_phantom("isic", root, num=1, seed=0)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(number, "No space left") if number else OSError("9 requested and 0 written")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError if number else DataError, match=re.escape(str(root))):
            write_phantom("ph2", root, num=1, seed=0)
    marker = json.loads((root / ".meddiff-phantom.json").read_text())
    assert len(marker["isic"]) > 0
    assert marker["ph2"] == []
    assert len(list(root.glob(".*"))) == 1


def test_real_data_have_no_problem(shared_data: Path) -> None:
    assert check("isic", shared_data / "sample", year=2018) == []
    (problem,) = check("isic", shared_data / "sample")  # 2017 has no training masks there
    assert problem.path == "ISIC-2017/ISIC-2017_Training_Part1_GroundTruth/"
