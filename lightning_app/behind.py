"""Which run is behind a checkpoint, and which checkpoint behind a test, also after a move.

Nothing heavy is imported here: `lightning runs` asks it about every run that it lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_app.errors import UsageError, did_you_mean
from lightning_app.record import read_record
from lightning_app.run_directory import is_run_directory

RUN_ID = "wandb_id"
"""Of `run.json`: what no other run has."""


@dataclass(frozen=True)
class Start:
    """What a path that was given for a checkpoint stands for.

    Args:
        checkpoint: A checkpoint file, or the directory of a fit.
        run: The run that wrote it, where it lies in one; it may be of another kind than a fit only
            where its checkpoint lies in no run.
        through: The tests and predictions that were followed to get there.
    """

    checkpoint: Path
    run: Path | None
    through: tuple[Path, ...] = ()


def find_start(given: Path, option: str) -> Start:
    """Follows a checkpoint, a run, or the run of a test or a prediction to the fit behind it.

    Args:
        given: What was given.
        option: Where it was given, for messages.

    Raises:
        UsageError: If there is nothing of that path, or what is behind it is not to be found.
    """
    if not given.exists():
        raise UsageError(f"{option} {given}: no such checkpoint or run directory{_near(given)}")
    if given.is_file():
        if is_run_directory(given.absolute().parent):
            raise UsageError(
                f"{option} {given}: is no checkpoint, but a file of the run {given.parent}; "
                "give that directory"
            )
        return Start(given, run_of(given))
    if not (is_run_directory(given) or any((given / "checkpoints").glob("*.ckpt"))):
        raise UsageError(f"{option} {given}: is no run directory{_runs_near(given)}")
    through: list[Path] = []
    run = given
    while is_run_directory(run) and not any((run / "checkpoints").glob("*.ckpt")):
        record = read_record(run)
        if record.get("subcommand") == "fit":
            break
        through.append(run)
        found = checkpoint_behind(run, record)
        if found is None:
            raise UsageError(f"{option} {given}: {_not_found(run, record)}")
        if found.resolve() in {path.resolve() for path in through}:
            raise UsageError(f"{option} {given}: leads back to itself, by way of {found}")
        if found.is_file():
            return Start(found, run_of(found) or run, tuple(through))
        run = found
    return Start(run, run if is_run_directory(run) else None, tuple(through))


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint file lies in, or None."""
    for folder in (checkpoint.absolute().parent, checkpoint.resolve().parent):
        if folder.name == "checkpoints" and is_run_directory(folder.parent):
            return folder.parent
    return None


def checkpoint_behind(run: Path, record: dict[str, Any]) -> Path | None:
    """Where the checkpoint of a test, validation or prediction is now, or None.

    It is looked for where it was, seen from where the command ran then, and, for folders that were
    moved together, at the same place relative to any folder above the run.

    Args:
        run: The run directory.
        record: Its `run.json`.
    """
    recorded = record.get("checkpoint")
    if not isinstance(recorded, str) or not recorded:
        return None
    run_id = record.get("checkpoint_run")
    return next(
        (
            path
            for path in _places(Path(recorded), run, record.get("working_directory"))
            if path.exists() and run_id in (None, id_of_run(path))
        ),
        None,
    )


def _places(recorded: Path, run: Path, working_directory: Any) -> Iterator[Path]:
    if recorded.is_absolute():
        yield recorded
    elif isinstance(working_directory, str):
        yield Path(working_directory) / recorded
    above = list(dict.fromkeys([*run.absolute().parents, *run.resolve().parents]))
    parts = recorded.parts[1:] if recorded.is_absolute() else recorded.parts
    # A name alone, or `checkpoints/best.ckpt`, would be found in runs that it is not of.
    least = 3 if "checkpoints" in parts[-2:] else 2
    for length in range(len(parts), least - 1, -1):
        yield from (folder.joinpath(*parts[-length:]) for folder in above)


def id_of_run(checkpoint: Path) -> str | None:
    """The id of the run that a checkpoint lies in, which no other run has; None where unknown."""
    run = run_of(checkpoint)
    try:
        return None if run is None else read_record(run).get(RUN_ID)
    except UsageError:
        return None


def _not_found(run: Path, record: dict[str, Any]) -> str:
    kind, recorded = record.get("subcommand", "no fit"), record.get("checkpoint")
    if not recorded:
        return f"{run} is a run of {kind} without a checkpoint; give the run directory of a fit"
    return (
        f"{run} is a run of {kind} on {recorded}, which is not there any more\n"
        "Give the run directory of the fit where it is now"
    )


def _runs_near(folder: Path) -> str:
    """The run that a folder belongs to, or the newest that is right below it."""
    if is_run_directory(folder.absolute().parent):
        return f"; give {folder.parent}, or a checkpoint file"
    runs = sorted(path for path in folder.glob("*") if is_run_directory(path))
    return f"; it holds {len(runs)}, the last is {runs[-1]}" if runs else " (it has no run.json)"


def _near(missing: Path) -> str:
    """The nearest names beside a path that is not there."""
    parent = missing.parent
    if not parent.is_dir():
        return ""
    return did_you_mean(missing.name, sorted(path.name for path in parent.iterdir()))
