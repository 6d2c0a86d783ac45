"""The workers of one machine: started together, looked after, stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

_RESTARTS = 3
"""Workers that are started anew for those that died; a job that kills its worker gives up first."""

_STOP_AGAIN = 5.0


def default_jobs() -> int:
    """One worker a GPU, else two where there are two cores."""
    return torch.cuda.device_count() or min(2, _cores())


def launch(args: list[str], jobs: int, since: float) -> int:
    """Starts workers and waits for them.

    SIGTERM and Ctrl-C are passed on to them; Ctrl-C again kills them.

    Args:
        args: What follows `lightning table`, for the workers to read.
        jobs: How many.
        since: Jobs that failed before are tried again.

    Returns:
        0, 1 if a worker died or a job failed, 128 plus the signal if it was told to stop.
    """
    command = [sys.executable, "-m", "lightning_app", "table", *args, "--worker"]
    command += ["--since", repr(since)]

    def start(number: int) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal reaches the workers through here alone.
        return subprocess.Popen(command, env=environment(number, jobs), start_new_session=True)

    with _noted_signals() as received:
        workers = {number: start(number) for number in range(jobs)}
        restarts, told = _RESTARTS, 0.0
        while any(worker.poll() is None for worker in workers.values()):
            time.sleep(0.2)
            if received and time.monotonic() - told > _STOP_AGAIN:
                told = time.monotonic()
                for worker in workers.values():
                    worker.terminate()
            if received.count(signal.SIGINT) > 1:
                for worker in workers.values():
                    worker.kill()
            for number, worker in workers.items():
                if not received and restarts and worker.poll() not in (None, 0, 1, 2, 143):
                    print(f"a worker died ({worker.returncode}); another takes over", flush=True)
                    restarts -= 1
                    workers[number] = start(number)
    if received:
        return 128 + received[0]
    return int(any(worker.returncode for worker in workers.values()))


def environment(number: int, jobs: int) -> dict[str, str]:
    """The environment of a worker: its share of the cores, and one GPU where there are any."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    gpus = given.split(",") if given else [str(gpu) for gpu in range(count)]
    threads = str(max(1, _cores() // jobs))
    # A user who has chosen the number of threads keeps it.
    own = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    if count:
        own["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return os.environ | own


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
