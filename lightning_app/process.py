"""The process around a run: which one it is among several, and leaving it as it was found."""

import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from lightning_app.errors import UsageError

RUN_DIR_VARIABLE = "MEDDIFF_RUN_DIR"
"""Where the process that launches others tells them the run directory."""


@dataclass(frozen=True)
class Launch:
    """Which process of a launch this is.

    Args:
        rank: 0 for the process that makes the run directory and records the run.
        job: Names the launch on every process alike, without communication; None for one process,
            or for those that Lightning launches itself.
        run_dir: Handed over by the launching process, else None.
    """

    rank: int = 0
    job: str | None = None
    run_dir: str | None = None


def this_launch() -> Launch:
    """Finds out how this process was started: alone, by Lightning, by srun or by torchrun."""
    handed_over = os.environ.get(RUN_DIR_VARIABLE)
    if handed_over is not None and int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return Launch(int(os.environ["LOCAL_RANK"]), None, handed_over)
    if TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) > 1:
        return Launch(int(os.environ["RANK"]), _torchrun_job())
    if SLURMEnvironment.detect():
        _check_srun()
    if SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1:
        step, restart = (
            os.environ.get(f"SLURM_{key}", "0") for key in ("STEP_ID", "RESTART_COUNT")
        )
        job = f"slurm-{os.environ['SLURM_JOB_ID']}.{step}-r{restart}"
        return Launch(int(os.environ["SLURM_PROCID"]), job)
    return Launch()


def _check_srun() -> None:
    """Stops in an allocation whose tasks srun did not start."""
    lacking = [key for key in ("SLURM_JOB_ID", "SLURM_PROCID") if key not in os.environ]
    if lacking:
        raise UsageError(
            f"SLURM_NTASKS is set and {', '.join(lacking)} is not: start the command with srun, "
            "or unset SLURM_NTASKS to run outside the job's tasks"
        )


def _torchrun_job() -> str:
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    run_id = os.environ["TORCHELASTIC_RUN_ID"]
    if run_id != "none":
        return f"torchrun-{run_id}-r{restart}"
    if os.environ["WORLD_SIZE"] != os.environ.get("LOCAL_WORLD_SIZE"):
        raise UsageError("torchrun on several nodes: give --rdzv-id a name of its own for this job")
    # Its workers have one parent, which no other launch on this machine shares.
    parent = psutil.Process(os.getppid())
    return f"torchrun-{socket.gethostname()}-{parent.pid}-{parent.create_time():.0f}-r{restart}"


@contextmanager
def left_as_found() -> Iterator[None]:
    """Puts back what a run changes in its process: environment, path, signals, torch's flags."""
    environment, path = dict(os.environ), list(sys.path)
    main_thread = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if main_thread else ()
    handlers = {number: signal.getsignal(number) for number in signals}
    precision = torch.get_float32_matmul_precision()
    cudnn = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    deterministic = torch.are_deterministic_algorithms_enabled()
    deterministic_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        torch.use_deterministic_algorithms(deterministic, warn_only=deterministic_warn)
