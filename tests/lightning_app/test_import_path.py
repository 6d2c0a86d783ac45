"""A user's folder of the name of one of our packages, and a user's own module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is lacking is told before anything heavy is imported.
COMMAND = ("-m", "lightning_app", "check")
LACKING = "the following arguments are required"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command as one that was installed: found by the path, not in the working directory."""
    return subprocess.run(
        [sys.executable, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["callbacks", "data_modules", "meddiff"])
@pytest.mark.parametrize("form", ["package", "folder of scripts", "module"])
def test_a_package_that_hides_ours_is_named(name: str, form: str, tmp_path: Path) -> None:
    own = tmp_path / (f"{name}.py" if form == "module" else name)
    if form == "module":
        own.touch()
    else:
        own.mkdir()
        (own / ("__init__.py" if form == "package" else "mine.py")).touch()
    done = run(tmp_path, *COMMAND)
    if form == "folder of scripts":
        # Python prefers a regular package, wherever it is, to a folder without __init__.py.
        assert LACKING in done.stderr
        return
    assert done.returncode == 2, done.stderr
    assert f"error: {name}: {own} hides" in done.stderr
    assert "python -P -m lightning_app" in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert LACKING in run(tmp_path, "-P", *COMMAND).stderr


def test_a_class_of_the_working_directory_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "mymod.py").write_text(
        "from tests.lightning_app.toys import ToyModule\nclass MyNet(ToyModule): ...\n"
    )
    (tmp_path / "callbacks.py").write_text("raise RuntimeError('not ours')\n")
    script = "import sys; from lightning_app.cli import main; sys.exit(main())"
    given = ["--model", "mymod.MyNet", "--data", "tests.lightning_app.toys.ToyDataModule"]
    # As the installed script does: without the working directory at the head of the path.
    done = run(tmp_path, "-P", "-c", script, "fit", *given, "--print_config")
    assert done.returncode == 0, done.stderr
    assert "class_path: mymod.MyNet" in done.stdout
