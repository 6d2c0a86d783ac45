"""Leaving in good order where the machine is taken away."""

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.checkpoints import LastCheckpoint
from callbacks.steps import Every
from meddiff.core.ranges import PositiveInt, check_ranges


class Preemption(Checkpoint):
    """On SIGTERM or SIGUSR1, saves `last.ckpt` at the end of the batch and ends the process.

    The exit code is 128 plus the signal's number: 143 for SIGTERM. On SIGUSR1 inside a SLURM job
    (`#SBATCH --signal=USR1@300`) the job is put back into the queue first.

    A handler only sets a flag. Lightning's own handlers save, or talk to other processes, in the
    middle of whatever the program was doing; it sets them after `on_fit_start`, and this callback
    replaces them at the next hook. After training Lightning puts back those from before.

    It is a `Checkpoint` because Lightning runs these after all other callbacks: everything has
    then seen the batch.

    Args:
        every_n_steps: In a run of several processes, optimiser steps between two times that they
            ask each other for a signal, which waits for the device. One process alone looks after
            every step.

    Raises:
        ValueError: If it is not at least 1.
    """

    def __init__(self, every_n_steps: PositiveInt = 10) -> None:
        super().__init__()
        check_ranges(Preemption, locals())
        self._every = Every(every_n_steps)
        self._stepped = Every(1)
        self._received = 0

    @property
    def has_signal(self) -> bool:
        """Whether this process got a signal to stop."""
        return bool(self._received)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces Lightning's handlers."""
        self._install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces Lightning's handlers.

        Raises:
            SystemExit: If SIGTERM came while Lightning's handler was still in place.
        """
        self._every.start(trainer)
        self._stepped.start(trainer)
        self._install()
        # Under DDP Lightning would ask all processes for a signal at each batch, and wait for the
        # device; that is done here, and more rarely.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)

    def _install(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves and leaves where a signal came.

        Raises:
            SystemExit: If a signal came.
        """
        alone = trainer.world_size == 1
        # Half an optimiser step cannot be saved.
        if not (self._stepped if alone else self._every).crossed(trainer):
            return
        received = self._received if alone else _highest(trainer, self._received)
        if received:
            self._leave(trainer, signal.Signals(received))

    def _leave(self, trainer: Trainer, received: signal.Signals) -> None:
        rank_zero_info(f"{received.name}: saving at step {trainer.global_step} and stopping")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        if trainer.is_global_zero and received == signal.SIGUSR1:
            _requeue()
        # Lightning's launcher kills the first process five seconds after another one failed.
        raise SystemExit(128 + received if trainer.is_global_zero else 0)


def _highest(trainer: Trainer, own: int) -> int:
    """The highest number that any process has; all of them must ask."""
    number = torch.tensor(own, device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(number, reduce_op="max"))


def _requeue() -> None:
    """Puts the SLURM job, if this is one, back into the queue."""
    job = os.environ.get("SLURM_JOB_ID")
    array_job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array_job is not None:
        job = f"{array_job}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        rank_zero_warn(f"SLURM job {job} could not be requeued ({error}); submit it again")
