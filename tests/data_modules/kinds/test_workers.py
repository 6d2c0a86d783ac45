import os
import signal
import sys
from typing import Any

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from data_modules.kinds.workers import outlive_signals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


def loading() -> DataLoader[Any]:
    return DataLoader(
        torch.arange(8),  # type: ignore[arg-type]
        num_workers=1,
        worker_init_fn=outlive_signals,
        multiprocessing_context="fork",
    )


def worker_pids(batches: Any) -> list[int]:
    return [int(worker.pid) for worker in batches._workers]


def send(pid: int, number: signal.Signals) -> None:
    """From another process, as a scheduler does."""
    child = os.fork()
    if child == 0:
        os.kill(pid, number)
        os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_for_all_processes_leaves_the_loading_whole(number: signal.Signals) -> None:
    batches = iter(loading())
    found = [int(next(batches))]
    send(worker_pids(batches)[0], number)
    found += [int(batch) for batch in batches]
    assert found == list(range(8))


def test_the_loader_can_still_end_its_workers() -> None:
    batches = iter(loading())
    next(batches)
    worker = psutil.Process(worker_pids(batches)[0])
    worker.suspend()
    worker.terminate()
    worker.resume()
    assert worker.wait(10) == 0
    del batches
