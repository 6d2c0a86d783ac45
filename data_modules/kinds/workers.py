"""The processes that load data: they end when their loader says so."""

import os
import signal
import sys
import threading


def outlive_signals(worker: int) -> None:
    """Keeps what stops a run from its loaders' processes; to be called as each of them starts.

    A scheduler may signal all processes of a run at once. The first process then finishes its batch
    or validation, saves and leaves, for which it needs the others; a worker that died of the signal
    would be an error. Their loader's own SIGTERM ends them as ever.

    Args:
        worker: The number of the worker.
    """
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        threading.Thread(target=_end_with_loader, daemon=True, name="end-with-loader").start()


def _end_with_loader() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
