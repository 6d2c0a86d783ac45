import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lightning_app.seen_data import Runs

# The tests of this folder share `tests.lightning_app.toys`. Appended, so that installed packages
# win.
sys.path.append(str(Path(__file__).parents[2]))

Command = Callable[..., int]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a subcommand on the toy module, with `tmp_path` as working directory."""
    from lightning_app.cli import main
    from tests.lightning_app.toys import ARGS

    monkeypatch.chdir(tmp_path)

    def command(subcommand: str, *args: str) -> int:
        return main([subcommand, *ARGS, *args])

    return command


@pytest.fixture
def toy_runs(tmp_path: Path) -> Callable[[], list[Path]]:
    """The run directories of the toy, oldest first."""
    return lambda: sorted((tmp_path / "runs" / "ToyModule").glob("*"))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> "Runs":
    """Two fits, the second started from the first, for the tests of what was seen."""
    from tests.lightning_app.seen_data import make_runs

    return make_runs(tmp_path_factory.mktemp("seen"))
