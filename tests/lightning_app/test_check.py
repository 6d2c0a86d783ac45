import os
from pathlib import Path

import pytest

from data_modules.registry import find_dataset
from lightning_app.cli import main


@pytest.mark.parametrize("name", ["isic", "image_mask_folder"])
def test_the_last_line_says_what_to_cite(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert main(["phantom", name, "--root", str(root), "--num", "3"]) == 0
    assert main(["check", name, "--root", str(root)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    citation = find_dataset(name).citation
    assert last == (f"cite: {citation}" if citation else f"{name} in {root}: no problem(s)")


def test_what_is_left_out_or_lost_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    assert main(["phantom", "image_mask_folder", "--root", str(root), "--num", "3"]) == 0
    (root / "images/IM000001").write_bytes(bytes(128) + b"DICM")
    (root / "images/d.IMA").write_bytes(b"x")
    assert main(["check", "image_mask_folder", "--root", str(root)]) == 0
    (root / "images" / os.fsdecode(b"gone\xff.png")).symlink_to("/nowhere/x.png")
    assert main(["check", "image_mask_folder", "--root", str(root)]) == 1
    told = capsys.readouterr().out
    assert "2 files are left out" in told
    assert "1 without ending (IM000001, DICOM: end in .dcm); 1 .ima (d.IMA)" in told
    assert r"file: images/gone\xff.png: is a broken link: /nowhere/x.png is not there" in told
    assert r"caf\xe9: 1 problem(s)" in told
    assert told.encode()


@pytest.mark.parametrize("make", ["empty", "excluded"])
def test_an_empty_set_is_a_problem(make: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    arguments = []
    if make == "excluded":
        for folder in ("images", "masks"):
            (tmp_path / folder / "a.png").write_bytes(b"x")
        (tmp_path / "exclude.txt").write_text("a\n")
        arguments = ["--set", f"exclude_file={tmp_path / 'exclude.txt'}"]
    assert main(["check", "image_mask_folder", "--root", str(tmp_path), *arguments]) == 1
