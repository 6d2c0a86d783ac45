"""The directory of a run: `runs/<config name>/<YYYYmmdd-HHMMSS>/`."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_app.errors import UsageError

if TYPE_CHECKING:
    from lightning_app.process import Launch


_CONFIG = re.compile(r"config(?:\.([1-9]\d*))?\.yaml", re.ASCII)


def is_run_directory(path: str | Path) -> bool:
    """Whether a command made this directory for a run."""
    return (Path(path) / "run.json").is_file()


def is_run(names: set[str]) -> bool:
    """Whether the entries of a folder are those of a run, also of one that lost its record."""
    return "run.json" in names or (
        "config.yaml" in names and not names.isdisjoint({"checkpoints", "metrics.csv", "run.lock"})
    )


def config_name(config_files: list[Path], model_class: str) -> str:
    """The stem of the first config; that of its run for a run's own `config.yaml`.

    Args:
        config_files: In the order given.
        model_class: Names the run where no config was given.
    """
    if not config_files:
        return model_class.rpartition(".")[2]
    first = config_files[0].resolve()
    return first.parent.parent.name if is_run_directory(first.parent) else first.stem


def make_run_directory(parent: Path, launch: Launch) -> Path:
    """Makes a new directory that nothing else writes into.

    Where several processes start together its name follows from their job, and only rank 0 makes
    it; else it is the time, with `-2`, `-3` on a clash.

    Raises:
        UsageError: If the directory of this job is there already, or no folder can be made there.
    """
    try:
        return _make(parent, launch)
    except FileNotFoundError:  # such as /proc, which takes no folders
        raise UsageError(
            f"{parent}: no folder can be made there; give another --run_root"
        ) from None


def _make(parent: Path, launch: Launch) -> Path:
    if launch.job is not None:
        directory = parent / launch.job
        if launch.rank == 0:
            try:
                directory.mkdir(parents=True)
            except FileExistsError:
                raise UsageError(f"{directory}: there already; give --resume {directory}") from None
        return directory
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        directory = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory


def config_files_of(directory: Path) -> list[Path]:
    """`config.yaml`, `config.2.yaml`, ... of a run, the newest last."""
    files = [path for path in directory.glob("config*.yaml") if _CONFIG.fullmatch(path.name)]
    return sorted(files, key=_number_of)


def _number_of(config_file: Path) -> int:
    match = _CONFIG.fullmatch(config_file.name)
    return int(match[1] or 1) if match else 0


def next_config_file(directory: Path) -> Path:
    """Where the config of one more launch goes."""
    files = config_files_of(directory)
    # Not their count: one that was removed must not have a later one overwritten.
    number = 1 if not files else _number_of(files[-1]) + 1
    return directory / ("config.yaml" if number == 1 else f"config.{number}.yaml")


def from_here(path: Path) -> str:
    """A path as it is written in the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
