"""Who is in which split of IXIDataModule, and that no training subject becomes one for test."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.listing.subjects import split_subjects
from data_modules.sets.ixi import IXIDataModule

pytestmark = pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")


def write(folder: Path, count: int) -> None:
    """One slice each of IXI000, IXI001, ... in T1 and PD."""
    rng = np.random.default_rng(0)
    for modality in ("T1", "PD"):
        (folder / modality).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / modality / f"IXI{k:03d}_slice1.png")


def module(root: Path, **arguments: Any) -> IXIDataModule:
    return IXIDataModule(root=str(root), **{"image_size": 8, "num_workers": 0, **arguments})


def splits(root: Path, stage: str = "fit", **arguments: Any) -> dict[str, set[str]]:
    data = module(root, **arguments)
    data.setup(stage)
    return {name: {Path(p).name[:6] for p in paths} for name, paths in data.split_table().items()}


@pytest.mark.parametrize("numbers", [{}, {"num_train_subjects": 4, "num_test_subjects": 2}])
@pytest.mark.parametrize("line", ["IXI000", "T1/IXI000_slice1.png"])
def test_leaving_a_test_subject_out_after_training_moves_nobody(
    line: str, numbers: dict[str, Any], tmp_path: Path
) -> None:
    """A test subject without a partner shows at `test`; what the error advises leaks nobody."""
    root, listed = tmp_path / "root", tmp_path / "out.txt"
    write(root, 10)
    (root / "PD" / "IXI000_slice1.png").unlink()
    before = splits(root, **numbers)
    assert {"IXI000"} < before["test"]
    with pytest.raises(DataError, match=r"IXI000: has no PD.*exclude_file, which leaves the spl"):
        splits(root, "test", **numbers)
    listed.write_text(f"{line}\n")
    for stage in ("fit", "test"):
        after = splits(root, stage, exclude_file=str(listed), **numbers)
        assert after == before | {"test": before["test"] - {"IXI000"}}


def test_nobody_takes_the_place_of_a_subject_that_is_left_out(tmp_path: Path) -> None:
    root, listed = tmp_path / "root", tmp_path / "out.txt"
    write(root, 5)
    before = splits(root)
    assert {name: len(own) for name, own in before.items()} == {"train": 3, "val": 1, "test": 1}
    for split in ("train", "val", "test"):
        gone = min(before[split])
        listed.write_text(f"{gone}\n")
        after = splits(root, exclude_file=str(listed))
        assert after == before | {split: before[split] - {gone}}
    with pytest.raises(DataError, match=r"(?s)0 test slices.*4 subjects.*not trained on"):
        splits(root, "test", exclude_file=str(listed))
    named = ["IXI002", *before["test"]]  # left out counts, by whichever way one is test
    assert splits(root, "test", exclude_file=str(listed), test_subjects=named)["test"] == {"IXI002"}


def shared_out(number: int, seed: int, **arguments: Any) -> dict[str, str]:
    """The splits of some subjects of the paper's numbers."""
    numbers = {"test_subjects": None, "num_train": 100, "num_test": 25, "val_fraction": 0.05}
    names = [f"IXI{k:03d}" for k in range(number)]
    return dict(split_subjects(names, seed=seed, **(numbers | arguments)))


def count(split: dict[str, str]) -> tuple[int, ...]:
    return tuple(list(split.values()).count(name) for name in ("train", "val", "test"))


@pytest.mark.parametrize("number", [10, 60, 100])
def test_few_subjects_are_shared_out_in_proportion_on_average(number: int) -> None:
    counts = np.array([count(shared_out(number, seed)) for seed in range(100)])
    assert (counts >= 1).all()
    assert abs(counts[:, 2].mean() / number - 0.2) < 0.03
    assert abs(counts[:, :2].sum(1).mean() / number - 0.8) < 0.03


def test_many_subjects_fill_the_limits_and_one_subject_trains() -> None:
    for seed in range(20):
        assert count(shared_out(578, seed)) == (95, 5, 25)
        assert count(shared_out(578, seed, val_fraction=0)) == (100, 0, 25)
        assert count(shared_out(578, seed, num_test=0)) == (95, 5, 0)
        assert count(shared_out(1, seed)) == (1, 0, 0)
        assert count(shared_out(2, seed)) == (1, 0, 1)
        assert count(shared_out(9, seed, num_train=1, num_test=1))[:2] == (1, 0)


def test_more_subjects_make_no_training_subject_one_for_test() -> None:
    for seed in range(10):
        before = shared_out(6, seed)
        for number in range(7, 150):
            after = shared_out(number, seed)
            for name, split in before.items():
                if split == "train":
                    assert after.get(name, "none") in ("train", "none")
            before = after
