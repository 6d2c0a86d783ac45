"""What a job leaves behind: its state, its figures, its runs and what it was done with."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callbacks.files import atomic_write
from lightning_app.comparison import differences
from lightning_app.errors import UsageError
from lightning_app.lock import HeldError, RunLock
from lightning_app.process import Launch
from lightning_app.record import read_record
from lightning_app.run_directory import is_run_directory
from lightning_app.seen import marked_name
from lightning_app.table.plan import LACKING, Job
from meddiff.core.checkpoint import read_checkpoint

Record = dict[str, Any]


class JobError(RuntimeError):
    """A job failed; the message says why, in one line."""


class Records:
    """The records of a table's jobs, a JSON file each.

    Args:
        folder: Where they are.
        option: The option of the command that named it, for messages.
    """

    def __init__(self, folder: Path, option: str = "--out") -> None:
        self._folder = folder
        self._option = option

    def read(self, name: str) -> Record:
        """The record of a job; its state is `new` if it was never begun.

        Raises:
            UsageError: If the file is damaged.
        """
        path = self._path(name)
        try:
            record: Record = json.loads(path.read_text())
        except FileNotFoundError:
            return {"state": "new"}
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}: is no record of a job ({error})") from error
        return record

    def write(self, name: str, record: Record) -> None:
        """Replaces the record of a job, whole."""
        write_text(self._path(name), json.dumps({"job": name, **record}, indent=1) + "\n")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def is_done(self, name: str) -> bool:
        """Whether a job has its figures, and what else it was to leave."""
        return bool(self.read(name)["state"] == "done")

    def is_settled(self, name: str, since: float) -> bool:
        """Whether a job is done, or failed after a time; what failed before is tried again."""
        record = self.read(name)
        failed = record["state"] == "failed" and float(record["ended"]) >= since
        return failed or record["state"] == "done"

    def check(self, jobs: Iterable[Job]) -> None:
        """Compares those of the jobs that are done with what is asked for now.

        Raises:
            UsageError: If they differ; names what does.
        """
        for job in jobs:
            record, figures = self.read(job.name), f"{job.name}.json there"
            if record["state"] != "done":
                continue
            lacking = [m for m in job.metrics if m not in record.get("figures", {})]
            if lacking:
                raise UsageError(
                    f"{self._folder}: {job.name} was done without {', '.join(lacking)}, by another "
                    f"version of the table\nRemove {figures} to have it tested again (its fit is "
                    f"kept), or give another {self._option}"
                )
            then, now = record.get("settings", {}), job.settings
            if not then.get(LACKING):  # weights that are not here may have been where it was done
                now = now | {LACKING: None}
            found = differences(now, then)
            if found:
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                raise UsageError(
                    f"{self._folder}: {job.name} was done with other settings: "
                    f"{found[0].removeprefix('config.')} was {_value_at(then, found[0])!r} and is "
                    f"{_value_at(now, found[0])!r} now{more}\n"
                    f"Give another {self._option}, so that the figures of one table belong "
                    f"together, or remove {figures} to have it done again"
                )


def _value_at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def write_text(path: Path, text: str, flush: bool = True) -> None:
    """Writes a text file, whole or not at all; `flush` guards against the machine's crash too."""
    with atomic_write(path, flush) as file:
        file.write(text.encode())


def claim(directory: Path) -> RunLock | None:
    """The lock of a folder, which is made if there is none; None if a live process has it."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = RunLock(directory, Launch())
    try:
        lock.acquire()
    except HeldError:
        return None
    return lock


@contextmanager
def exclusive(directory: Path, seconds: float = 600) -> Iterator[None]:
    """Locks a folder that several processes write into, after waiting for the others.

    Raises:
        UsageError: If others have it locked all the time.
    """
    until = time.monotonic() + seconds
    while (lock := claim(directory)) is None:
        if time.monotonic() > until:
            raise UsageError(f"{directory}: others have it locked for {seconds:.0f} s now")
        time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


def newest_run(root: Path, subcommand: str) -> Path:
    """The last finished run under a `--run_root`, or else the last begun.

    Raises:
        JobError: If there is none.
    """
    runs = {path: read_record(path) for path in root.glob("*/*") if is_run_directory(path)}
    found = {path: run for path, run in runs.items() if run["subcommand"] == subcommand}
    if not found:
        raise JobError(f"`lightning {subcommand}` left no run directory")
    return max(found, key=lambda path: (found[path]["state"] == "finished", found[path]["started"]))


def read_figures(test_run: Path, metrics: Sequence[str]) -> dict[str, float]:
    """The figures that a test measured, by metric.

    Raises:
        JobError: If it lacks one.
    """
    with (test_run / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    figures: dict[str, float] = {}
    for metric in metrics:
        values = [line[metric] for line in lines if line.get(metric)]
        seen = marked_name(metric)
        if not values and any(line.get(seen) for line in lines):
            raise JobError(
                f"the test measured {seen}, on images that were trained on, and no {metric}; leave "
                "out allow_seen"
            )
        if not values:
            raise JobError(f"the test measured no {metric}")
        figures[metric] = float(values[-1])
    return figures


def read_validation(fit_run: Path) -> dict[str, float]:
    """What the best checkpoint of a fit reached on its validation images, by figure.

    Settings are chosen by it, since nothing may be chosen on test images. Empty where a fit has no
    validation.
    """
    file = fit_run / "checkpoints" / "best.ckpt"
    if not file.is_file():
        return {}
    best = read_checkpoint(file)["callbacks"]["BestCheckpoint"]
    return {str(best["monitor"]): float(best["best_model_score"])}
