from pathlib import Path

import pytest

from tests.lightning_app.table.toys import write_table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the toy table."""
    from lightning_app.table import plan

    write_table(tmp_path)
    monkeypatch.chdir(tmp_path)
    plan._content.cache_clear()  # other tests have other files of these names
    return tmp_path
