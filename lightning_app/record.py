"""`run.json`: what ran, from what code, on what, and how it ended.

What is heavy is imported where it is used: `lightning runs` reads records alone.
"""

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lightning_app.errors import UsageError

PACKAGES = (
    "meddiff",
    "lightning",
    "torch",
    "torchvision",
    "torchmetrics",
    "diffusers",
    "numpy",
    "albumentations",
    "jsonargparse",
)


def read_record(directory: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        UsageError: If it cannot be read, or is none.
    """
    path = directory / "run.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise UsageError(f"{path}: holds a {type(record).__name__}, not the record of a run")
    return record


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Replaces the record of a run, whole."""
    from callbacks.files import atomic_write

    with atomic_write(directory / "run.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def facts(args: list[str], seed: int) -> dict[str, Any]:
    """What is true when a run is launched; no value of it reaches a logger."""
    return {
        "command": shlex.join(["lightning", *args]),
        "working_directory": str(Path.cwd()),
        "seed": seed,
        "git": git_state(),
        "versions": versions(),
        "hardware": hardware(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "started": now(),
        "ended": None,
        "state": "running",
    }


def now() -> str:
    """The time, comparable as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def git_state() -> dict[str, Any] | None:
    """Commit of the code that runs and whether it was changed since; None outside a repository."""
    folder = Path(__file__).parent

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()

    try:
        # Installed inside somebody's repository it would name that one's commit.
        if not git("ls-files", "__init__.py"):
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def versions() -> dict[str, str]:
    """Python's version and those of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine; counting its GPUs does not open them."""
    import torch

    gpus = torch.cuda.device_count()
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(number) for number in range(gpus)],
    }
