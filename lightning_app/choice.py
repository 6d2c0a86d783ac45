"""`--resume`: which run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lightning_app.comparison import batch_of, batch_of_run, difference
from lightning_app.errors import UsageError
from lightning_app.holder import holder_of
from lightning_app.lock import HeldError
from lightning_app.process import Launch
from lightning_app.resume import Limits, is_finished
from lightning_app.run_config import set_aside
from lightning_app.run_directory import is_run, is_run_directory
from lightning_app.soundness import check_files, check_lock, sound_record
from lightning_app.total_batch import other_total
from meddiff.core.checkpoint import CheckpointError

_CLOCKS_DIFFER = timedelta(hours=1)
"""A run that began later than this from now was begun by a clock that was wrong."""


@dataclass(frozen=True)
class Asked:
    """What is to go on.

    Args:
        subcommand: Only runs of this one.
        config: The resolved config now asked for.
        launch: The launch that this process belongs to.
        checkpoint: What was given to go on from in the place of the run's last one.
        given: The keys that were given, by options or in files.
    """

    subcommand: str
    config: dict[str, Any]
    launch: Launch
    checkpoint: Path | None = None
    given: frozenset[str] = frozenset()

    @property
    def limits(self) -> Limits:
        """Where the fit ends."""
        return Limits.of(self.config)


@dataclass
class Choice:
    """What was found among the runs of one config name.

    Args:
        run: The one that goes on, if any.
        known: Whether there are whole runs of this config at all.
        held: The unfinished ones that others hold, each with who does.
    """

    run: Path | None = None
    known: bool = False
    held: list[str] = field(default_factory=list)


def run_to_resume(asked_run: str, parent: Path, asked: Asked) -> Path | None:
    """The run directory to continue in, or None where a new run begins.

    Args:
        asked_run: `auto`, or a run directory.
        parent: The folder of the runs of this config name.
        asked: What is to go on.

    Raises:
        UsageError: If the directory that was named cannot be continued.
        HeldError: If it, or with `auto` every unfinished run, is held by others.
        SystemExit: If there is nothing left to do, with 0.
    """
    if asked_run != "auto":
        return _named(Path(asked_run), asked)
    found = choose_run(parent, asked)
    if found.run is None and found.held:
        raise HeldError(
            "resume: others hold every unfinished run of this config; wait for them or end them\n"
            + "\n".join(found.held)
        )
    if found.run is None and found.known:
        rank_zero_info("resume: no run of this config is unfinished; nothing to do")
        raise SystemExit(0)
    if found.run is None:
        rank_zero_info(f"resume: no run of this config in {parent}; a new one begins")
    else:
        _tell_set_aside(found.run)
    return found.run


def choose_run(parent: Path, asked: Asked) -> Choice:
    """Finds the newest unfinished run of the same config and seed that no live process holds.

    A run that is damaged is named and passed over.

    Args:
        parent: The folder of the runs of one config name.
        asked: What is to go on.
    """
    found = Choice()
    differing: list[str] = []
    for path, record in _runs_in(parent, asked.subcommand):
        try:
            different = difference(asked.config, path, record, asked.given)
            if different is not None:
                differing.append(f"{path}, differs in {different}")
            elif _is_left(path, asked, found):
                found.run = path
                break
        except (UsageError, CheckpointError) as error:
            _tell_passed_over(path, error)
    if differing and not found.known:
        rank_zero_info(f"resume: the newest run, {differing[0]}")
    return found


def _is_left(path: Path, asked: Asked, found: Choice) -> bool:
    """Whether a run of this config is to go on; notes what keeps it from that."""
    if is_finished(path, asked.limits):
        rank_zero_info(f"resume: {path} is finished")
        found.known = True
        return False
    check_lock(path)
    holder = holder_of(path, asked.launch)
    if holder is not None:
        rank_zero_info(f"resume: {path} is held by {holder}")
        found.held.append(f"{path}: held by {holder}")
        found.known = True
        return False
    check_files(path)
    found.known = True
    return True


def _runs_in(parent: Path, subcommand: str) -> list[tuple[Path, dict[str, Any]]]:
    """The runs of a subcommand with their records, the newest first."""
    runs = [
        (path, record) for path, record in _records_in(parent) if record["subcommand"] == subcommand
    ]
    return sorted(runs, key=lambda run: (_started(run[1]), run[0].name), reverse=True)


def _records_in(parent: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(parent.glob("*")):
        try:
            if path.is_dir() and is_run(set(os.listdir(path))):
                yield path, sound_record(path)
        except OSError as error:
            _tell_passed_over(path, UsageError(f"{path}: cannot be read ({error.strerror})"))
        except UsageError as error:
            _tell_passed_over(path, error)


def _tell_passed_over(path: Path, error: Exception) -> None:
    text = "; ".join(str(error).splitlines())
    rank_zero_info(f"resume: {path} is passed over: {text}")


def _started(record: Mapping[str, Any]) -> float:
    """When a run began its last launch; long ago where no clock can have said so."""
    try:
        started = datetime.fromisoformat(str(record.get("started")))
    except ValueError:
        return 0.0
    if started.tzinfo is None or started > datetime.now(UTC) + _CLOCKS_DIFFER:
        return 0.0
    return started.timestamp()


def _named(directory: Path, asked: Asked) -> Path:
    """The run directory that was named, where it can go on."""
    check_resumable(directory, asked)
    # Where a checkpoint is given, what comes after it is done again.
    if asked.checkpoint is None and is_finished(directory, asked.limits):
        rank_zero_info(f"resume: {directory} is finished; raise trainer.max_steps to extend it")
        raise SystemExit(0)
    check_files(directory, checkpoints=asked.checkpoint is None)
    return directory


def check_resumable(directory: Path, asked: Asked) -> None:
    """Checks a run directory that was named.

    Raises:
        UsageError: If it is no run of this subcommand, is damaged or has another total batch.
        HeldError: If a live process holds it.
    """
    if not is_run_directory(directory):
        raise UsageError(f"--resume {directory}: is no run directory (it has no run.json)")
    record = sound_record(directory)
    if record["subcommand"] != asked.subcommand:
        raise UsageError(
            f"--resume {directory}: is a run of {record['subcommand']}, not of {asked.subcommand}"
        )
    check_lock(directory)
    holder = holder_of(directory, asked.launch)
    if holder is not None:
        raise HeldError(f"--resume {directory}: held by {holder}; wait for it or end it")
    before, now = batch_of_run(directory), batch_of(asked.config)
    if asked.subcommand != "fit" or before is None or now is None:
        return
    if before.images != now.images:
        raise other_total(directory, before, now)


def _tell_set_aside(directory: Path) -> None:
    text = set_aside(directory)
    if text is not None:
        rank_zero_info(f"resume: {text}")
