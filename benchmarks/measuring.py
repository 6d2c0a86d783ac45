"""What the benchmarks share: a clock, peaks of memory, and the line that each prints last."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

MIB = 2**20


def now() -> float:
    """Seconds, once the device has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one run, until the device has done it."""
    started = now()
    work()
    return now() - started


def device_name(device: str) -> str:
    """The GPU's name, or the number of threads of the CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"


def peak_of(work: Callable[[], object], device: str) -> int:
    """Bytes at the peak of some work above what was held before it.

    The figure is right for the first work of a process alone, see `peak_of_a_child`.

    Args:
        work: What is measured.
        device: `cuda` asks the GPU's allocator, `cpu` the process.
    """
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        work()
        return int(torch.cuda.max_memory_allocated() - before)
    before = psutil.Process().memory_info().rss
    work()
    return int(max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))


def peak_of_a_child(*arguments: str) -> float:
    """The peak that a fresh process of the same benchmark prints as its last word, in MiB.

    It has to be asked for before this process works: Linux lets a child begin with the peak that
    its parent had.

    Args:
        *arguments: Added to the command line; they tell the child to measure and print `peak_of`
            in bytes.
    """
    command = [sys.executable, *sys.argv, *arguments]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(child.stdout.split()[-1]) / MIB


def print_line(name: str, device: str, figures: dict[str, Any]) -> None:
    """Prints a measurement as one JSON line."""
    print(json.dumps({"name": name, **figures, "device": device_name(device)}))
