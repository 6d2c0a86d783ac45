"""What a job leaves behind: its state, its figure, its runs and what it was done with."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callbacks.files import atomic_write
from lightning_app.errors import UsageError
from lightning_app.lock import RunLock
from lightning_app.process import Launch
from lightning_app.record import read_record
from lightning_app.resume import differences
from lightning_app.run_directory import is_run_directory
from lightning_app.table.plan import Job, Plan

Record = dict[str, Any]


class JobError(RuntimeError):
    """A job failed; the message says why, in one line."""


class Records:
    """The records of a table's jobs, a JSON file each.

    Args:
        out: The table's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def read(self, name: str) -> Record:
        """The record of a job; its state is ``new`` where it was never begun."""
        try:
            record: Record = json.loads(self._path(name).read_text())
        except FileNotFoundError:
            return {"state": "new"}
        if "metric" in record:  # as written when a test had one figure
            record.setdefault("figures", {record["metric"]: record["figure"]})
        return record

    def write(self, name: str, record: Record) -> None:
        """Replaces the record of a job, whole."""
        write_text(self._path(name), json.dumps({"job": name, **record}, indent=1) + "\n")

    def _path(self, name: str) -> Path:
        return self.out / "jobs" / f"{name}.json"

    def is_settled(self, name: str, since: float) -> bool:
        """Whether a job is done, or failed after a time; what failed before is tried again."""
        record = self.read(name)
        failed = record["state"] == "failed" and float(record["ended"]) >= since
        return failed or record["state"] == "done"

    def check(self, plan: Plan) -> None:
        """Compares the finished jobs with what is asked for now.

        Raises:
            UsageError: Names what differs.
        """
        for job in plan.jobs.values():
            record = self.read(job.name)
            if record["state"] != "done":
                continue
            lacking = [m for m in job.metrics if m not in record.get("figures", {})]
            if lacking:
                raise UsageError(
                    f"{self.out}: {job.name} was done without {', '.join(lacking)}, by another "
                    f"version of the table\nRemove jobs/{job.name}.json there to have it tested "
                    "again (its fit is kept), or give another --out"
                )
            found = differences(job.settings, record.get("settings", job.settings))
            if not found:
                continue
            key = found[0]
            then, now = _at(record["settings"], key), _at(job.settings, key)
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UsageError(
                f"{self.out}: {job.name} was done with other settings: "
                f"{key.removeprefix('config.')} was {then!r} and is {now!r} now{more}\n"
                "Give another --out, so that the figures of one table belong together"
            )


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def write_text(path: Path, text: str, flush: bool = True) -> None:
    """Writes a text file, whole or not at all; ``flush`` guards against the machine's crash too."""
    with atomic_write(path, flush) as file:
        file.write(text.encode())


def claim(job: Job, out: Path) -> RunLock | None:
    """The lock of a job, or None where a live process has it."""
    directory = out / "runs" / job.name
    directory.mkdir(parents=True, exist_ok=True)
    lock = RunLock(directory, Launch())
    try:
        lock.acquire()
    except UsageError:
        return None
    return lock


@contextmanager
def held(directory: Path, seconds: float = 600) -> Iterator[None]:
    """Holds a folder that several processes write into, after waiting for the others.

    Raises:
        UsageError: Where another process holds it all the time.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock, until = RunLock(directory, Launch()), time.monotonic() + seconds
    while True:
        try:
            lock.acquire()
            break
        except UsageError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.release()


def newest_run(root: Path, subcommand: str) -> Path:
    """The last finished run under a ``--run_root``, or else the last begun.

    Raises:
        JobError: Where there is none.
    """
    runs = {path: read_record(path) for path in root.glob("*/*") if is_run_directory(path)}
    found = {path: run for path, run in runs.items() if run["subcommand"] == subcommand}
    if not found:
        raise JobError(f"`lightning {subcommand}` left no run directory")
    return max(found, key=lambda path: (found[path]["state"] == "finished", found[path]["started"]))


def read_figures(test_run: Path, metrics: Sequence[str]) -> dict[str, float]:
    """The figures that a test measured, by metric.

    Raises:
        JobError: Where it lacks one.
    """
    with (test_run / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    figures: dict[str, float] = {}
    for metric in metrics:
        values = [line[metric] for line in lines if line.get(metric)]
        if not values:
            raise JobError(f"the test measured no {metric}")
        figures[metric] = float(values[-1])
    return figures
