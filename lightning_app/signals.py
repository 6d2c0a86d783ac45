"""Told to stop: the one way out of the command, from its first moment on.

The standard library alone, since the handlers are in place before anything else is imported.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


class Stopped(SystemExit):
    """The process was told to stop, and leaves with 128 plus the signal's number.

    Args:
        received: The signal.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(128 + received)
        self.received = received
        self.outcome = "nothing was begun yet; give the same command again"
        """What is left behind and how to go on; a run that had begun says it."""


@contextmanager
def handled() -> Iterator[None]:
    """Raises `Stopped` where a signal comes inside the context.

    A signal that whoever started this handles or ignores stays his affair. While a fit trains,
    `Preemption` has SIGTERM and SIGUSR1.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows no other
        yield
        return
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            _in_worker(number)
        # A second one is no news to a process that leaves.
        elif not isinstance(sys.exc_info()[1], SystemExit):
            raise Stopped(signal.Signals(number))

    before = {number: signal.getsignal(number) for number in STOPPING}
    ours = [number for number in STOPPING if before[number] in _DEFAULT]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def release() -> None:
    """Lets those signals come that were held back until now (`env --block-signal=USR1,TERM`)."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def ignore_more() -> None:
    """Ignores signals until `handled` is left: what is left to do is short, and must be whole."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if getattr(signal.getsignal(number), "__module__", None) == __name__:
                signal.signal(number, signal.SIG_IGN)


def leave(stopped: Stopped, rank: int) -> int:
    """Says what was stopped, and puts a SLURM job back into the queue if its machine is taken.

    Args:
        stopped: What ended the command.
        rank: The number of this process among those that were started together.

    Returns:
        The exit status. Launchers kill the first process where another one fails, so that only
        the first one fails.
    """
    if rank > 0:
        return 0
    print(f"{stopped.received.name}: stopped; {stopped.outcome}", file=sys.stderr, flush=True)
    # The file without its package, whose heavy imports may just have been cut off.
    slurm = runpy.run_path(str(Path(__file__).parents[1] / "callbacks" / "slurm.py"))
    slurm["requeue_if_taken"](stopped.received)
    return 128 + stopped.received


def _in_worker(number: int) -> None:
    """A forked worker ends when its loader says so; by SIGTERM, as if nobody had handled it."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
