"""What is remembered of files that were read: for one way of reading, and one set of rules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.listing import verify
from data_modules.listing.records import Role
from data_modules.reading.options import AS_STORED, RULES, Reading
from data_modules.registry import check
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule

WritePairs = Callable[..., Path]
FILES: dict[str, Role] = {"images/x.png": "image", "masks/x.png": "mask"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read, in the order of their reading."""
    names: list[str] = []
    original = verify.read_whole

    def counted(path: Path, role: Role, reading: Reading) -> Any:
        names.append(path.parent.name)
        return original(path, role, reading)

    monkeypatch.setattr(verify, "read_whole", counted)
    return names


def test_a_file_is_read_once_for_each_way_and_anew_under_other_rules(
    write_pairs: WritePairs, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_pairs("x")
    for reading in (AS_STORED, Reading("upright"), AS_STORED, Reading("upright")):
        records, problems = verify.verify(root, FILES, reading)
        assert len(records) == 2
        assert not problems
    assert sorted(read) == ["images", "images", "masks", "masks"]
    monkeypatch.setattr("data_modules.listing.verify.RULES", RULES + 1)
    verify.verify(root, FILES)
    assert len(read) == 6


def test_a_frame_that_pictures_do_not_have(write_pairs: WritePairs, read: list[str]) -> None:
    root = write_pairs("x", "y")
    assert check("image_mask_folder", root) == []
    problems = check("image_mask_folder", root, frame=1)
    assert [problem.path for problem in problems] == ["images/x.png", "images/y.png"]
    assert "data.init_args.frame is 1, but only DICOM files have frames" in problems[0].text
    with pytest.raises(DataError, match="frame: -1 given, expected a whole number >=0"):
        ImageMaskFolderDataModule(root=str(root), frame=-1)


def test_white_of_four_bits_is_told_from_a_class(write_pairs: WritePairs, tmp_path: Path) -> None:
    root = write_pairs("x", "y")
    for name in "xy":
        Image.fromarray(np.eye(16, 20, dtype=np.uint8) * 15).save(root / f"masks/{name}.png")
    (problem,) = check("image_mask_folder", root)
    assert "holds class 15 (so do 1 other masks)" in problem.text
    assert "set it to 16, or, where 15 is white, save the masks with 0 and 255" in problem.text
    assert check("image_mask_folder", root, num_classes=16) == []
