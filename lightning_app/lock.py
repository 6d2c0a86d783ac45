"""A run directory is held by one live process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lightning_app.errors import UsageError

if TYPE_CHECKING:
    from lightning_app.process import Launch

NAME = "run.lock"
HEARTBEAT_SECONDS = 30
STALE_SECONDS = 300
"""A holder on another machine that was silent for so long is taken for dead."""


class RunLock:
    """The lock file of a run directory: host, pid, job; its time of change is the heartbeat.

    Args:
        directory: The run directory.
        launch: The launch that this process belongs to.
    """

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.path = directory / NAME
        self._launch = launch
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Takes the lock and keeps its heart beating.

        Raises:
            UsageError: If a live process holds it; names the process.
        """
        while True:
            with self.path.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Whoever released the lock in between removed the file that is open here.
                if not self.path.exists() or not os.path.samestat(
                    os.fstat(file.fileno()), self.path.stat()
                ):
                    continue
                holder = holder_of(self.path.parent, self._launch)
                if holder is not None:
                    raise UsageError(f"{self.path.parent}: held by {holder}; wait for it or end it")
                file.truncate(0)
                file.write(json.dumps(_identity(self._launch)))
                break
        threading.Thread(target=self._beat, daemon=True, name="run-lock").start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:  # the directory is gone, and with it what this guards
                return

    def release(self) -> None:
        """Gives the run directory free."""
        self._stop.set()
        self.path.unlink(missing_ok=True)


def holder_of(directory: Path, launch: Launch | None) -> str | None:
    """Describes the live process that holds a run directory, or None where it is free.

    A process of the same launch does not count: the processes of one job look one after another.

    Args:
        directory: The run directory.
        launch: The launch that this process belongs to; None for one that only looks.
    """
    path = directory / NAME
    try:
        held: dict[str, Any] = json.loads(path.read_text())
        silent = time.time() - path.stat().st_mtime
        if launch is not None and _is_same_job(held, launch):
            return None
        text = f"process {held['pid']} on {held['host']}"
        here = held["host"] == socket.gethostname()
        lives = _is_alive(held["pid"], held["process_started"]) if here else silent < STALE_SECONDS
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it was cut short
        return None
    return text if lives else None


def _identity(launch: Launch) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "launch": launch.job,
    }


def _is_same_job(held: dict[str, Any], launch: Launch) -> bool:
    if launch.job is not None and held["launch"] == launch.job:
        return True
    # A job that was put back into the queue has ended before it starts again.
    same = held["slurm_job"] is not None and held["slurm_job"] == os.environ.get("SLURM_JOB_ID")
    return same and held["slurm_restart"] != os.environ.get("SLURM_RESTART_COUNT", "0")


def _is_alive(pid: int, started: float) -> bool:
    """Whether the process lives; its start tells it from a later one with the same number."""
    try:
        process = psutil.Process(pid)
        # One second: the clock ticks of the kernel are coarser than the float.
        same = abs(process.create_time() - started) < 1
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
