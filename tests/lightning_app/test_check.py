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
