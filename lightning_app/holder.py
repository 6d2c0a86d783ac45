"""Which live process holds a run directory, by the lock file in it.

A process of this machine is looked for. One elsewhere shows by the heartbeat of its file, which is
compared with the clock of the file server, and where that clock has jumped with itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from lightning_app.process import Launch

NAME = "run.lock"
HEARTBEAT_SECONDS = 30
STALE_SECONDS = 300
"""A holder on another machine that was silent for so long is taken for dead."""

AHEAD_SECONDS = 5
"""A heartbeat so far in the future is of a clock that has jumped."""

WATCH_SECONDS = HEARTBEAT_SECONDS + 5
"""How long one is watched that the clock tells nothing of."""


def holder_of(directory: Path, launch: Launch | None) -> str | None:
    """Describes the live process that holds a run directory, or None where it is free.

    A process of the same launch does not count: the processes of one job look one after another.

    Args:
        directory: The run directory.
        launch: The launch that this process belongs to; None for one that only looks. That one
            waits for no heartbeat and writes nothing.
    """
    path = directory / NAME
    changed = False
    while True:
        held = _read(path)
        if held is None or (launch is not None and _is_same_job(held, launch)):
            return None
        lives: bool | None = changed
        if _is_here(held):
            lives = _lives_here(held)
        elif not changed:
            lives = _beats(path, looks=launch is None)
        if lives is not None:
            return _described(held) if lives else None
        changed = True


def identity(launch: Launch) -> dict[str, Any]:
    """What a lock file says of the process that holds it."""
    return {
        "host": socket.gethostname(),
        **_place(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "process_ticks": _ticks(os.getpid()),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "launch": launch.job,
    }


def _read(path: Path) -> dict[str, Any] | None:
    """What a lock file holds: nothing is known where it is damaged; None where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _described(held: dict[str, Any]) -> str:
    if not _is_whole(held):
        return (
            f"a process that is not known, since {NAME} is damaged (where none runs, the run is "
            f"free in {STALE_SECONDS / 60:.0f} minutes, or when that file is removed)"
        )
    job = held.get("slurm_job")
    return f"process {held['pid']} on {held['host']}" + (f" (SLURM job {job})" if job else "")


def _is_whole(held: dict[str, Any]) -> bool:
    kinds: dict[str, Any] = {"host": str, "pid": int, "process_started": int | float}
    return all(isinstance(held.get(key), kind) for key, kind in kinds.items())


def _is_same_job(held: dict[str, Any], launch: Launch) -> bool:
    if launch.job is not None and held.get("launch") == launch.job:
        return True
    # A job that was put back into the queue has ended before it starts again.
    job = os.environ.get("SLURM_JOB_ID")
    same = job is not None and held.get("slurm_job") == job
    return same and held.get("slurm_restart") != os.environ.get("SLURM_RESTART_COUNT", "0")


def _place() -> dict[str, Any]:
    """What tells machines of one name apart, and containers on one machine."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    found: dict[str, Any] = {"boot": None, "pid_namespace": None}
    with contextlib.suppress(OSError):  # there is no /proc
        found["boot"] = boot.read_text().strip()
        found["pid_namespace"] = str(namespace.readlink())
    return found


def _is_here(held: dict[str, Any]) -> bool:
    """Whether the holder's process number means here what it meant there."""
    if not _is_whole(held) or held["host"] != socket.gethostname():
        return False
    # An earlier version did not write these.
    return all(held.get(key, value) == value for key, value in _place().items())


def _lives_here(held: dict[str, Any]) -> bool:
    """Whether the process lives; its start tells it from a later one with the same number."""
    try:
        process = psutil.Process(held["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        ticks = held.get("process_ticks")
        if ticks is not None:  # since the machine started, whatever its clock did
            return bool(ticks == _ticks(held["pid"]))
        # One second: the clock ticks of the kernel are coarser than the float.
        return bool(abs(process.create_time() - held["process_started"]) < 1)
    except (psutil.Error, ValueError, OverflowError):
        return False


def _ticks(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None where that is not told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def _beats(path: Path, *, looks: bool) -> bool | None:
    """Whether a holder elsewhere beats; None where its lock has just changed.

    Args:
        path: The lock file.
        looks: Whether nothing is written and nobody waited for.
    """
    try:
        beat = path.lstat().st_mtime_ns
        now = time.time() if looks else _now(path.parent)
    except FileNotFoundError:
        return None
    silent = now - beat / 1e9
    if silent >= -AHEAD_SECONDS or looks:
        return silent < STALE_SECONDS
    return None if _changes(path, beat) else False


def _now(directory: Path) -> float:
    """The time by the clock that stamps the files of a directory, which a server may have."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b".")
            file.flush()
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


@cache
def _changes(path: Path, beat: int) -> bool:
    """Watches a heartbeat from the future for longer than one takes; once for each.

    Args:
        path: The lock file.
        beat: Its time of change, in nanoseconds.
    """
    from lightning.pytorch.utilities import rank_zero_info

    rank_zero_info(
        f"resume: the heartbeat of {path} is in the future, so that a clock has jumped; "
        f"it is watched for {WATCH_SECONDS} s"
    )
    until = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH_SECONDS / 5))
        try:
            with path.open("rb") as file:  # opening asks the server, where `stat` may remember
                if os.fstat(file.fileno()).st_mtime_ns != beat:
                    return True
        except OSError:
            return True
    return False
