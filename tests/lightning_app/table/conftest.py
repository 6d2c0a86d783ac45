from pathlib import Path

import pytest

from tests.lightning_app.table.toys import FIGURES, write_table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the toy table."""
    from lightning_app.table import plan

    write_table(tmp_path)
    monkeypatch.chdir(tmp_path)
    plan._content.cache_clear()  # other tests have other files of these names
    return tmp_path


@pytest.fixture
def figures(folder: Path) -> Path:
    """A working directory with a table of several figures of the same tests."""
    (folder / "toy.yaml").write_text(FIGURES)
    return folder
