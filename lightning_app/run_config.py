"""The config that a run goes on with: that of the last launch which began in it."""

from pathlib import Path
from typing import Any

from lightning_app.config_files import read_yaml
from lightning_app.errors import UsageError
from lightning_app.record import read_record
from lightning_app.run_directory import config_files_of

_SECTIONS = ("model", "data", "trainer")


def config_file_of(directory: Path) -> Path:
    """The config of the last launch of a run that began.

    A launch writes its config before its record, so that a file after the one that the record
    names is of a launch that came no further, as on a full disk.

    Raises:
        UsageError: If the directory has none.
    """
    files = config_files_of(directory)
    if not files:
        raise UsageError(f"{directory}: holds no config.yaml; give a run directory, or --config")
    try:
        recorded = read_record(directory).get("config")
    except UsageError:
        return files[-1]
    return next((file for file in files if file.name == recorded), files[-1])


def set_aside(directory: Path) -> str | None:
    """Says which newer config of a run does not count, and why; None where there is none."""
    file, newest = config_file_of(directory), config_files_of(directory)[-1]
    if file == newest:
        return None
    return f"{newest} is of a launch that did not begin; {file.name} counts"


def read_config(directory: Path) -> dict[str, Any]:
    """The resolved config of the last launch of a run.

    Raises:
        UsageError: If it is damaged; says how to mend it.
    """
    file = config_file_of(directory)
    try:
        content = read_yaml(file)
        wrong = [key for key in _SECTIONS if not isinstance(content.get(key), dict)]
        if wrong:
            raise UsageError(f"{file}: is damaged, it has no section {', '.join(wrong)}")
        lacking = [key for key in _recorded_keys(directory) if key not in content]
        if lacking:
            raise UsageError(f"{file}: is cut short, it has no {', '.join(lacking[:3])}")
    except UsageError as error:
        raise UsageError(f"{error}\n{_how_to_mend(directory, file)}") from error
    return content


def _recorded_keys(directory: Path) -> list[str]:
    """The keys that a config had when it was used."""
    try:
        resolved = read_record(directory).get("resolved")
    except UsageError:
        return []
    keys = list(resolved) if isinstance(resolved, dict) else []
    return [key for key in keys if key != "optimizers"]  # which no config has


def _how_to_mend(directory: Path, file: Path) -> str:
    older = [other for other in config_files_of(directory) if other != file]
    remove = f", or remove the file: {older[-1].name} then counts" if older else ""
    return f"Give the config of the run {directory} as --config FILE{remove}"
