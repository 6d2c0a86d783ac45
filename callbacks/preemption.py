"""Leaving in good order where the machine is taken away."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from callbacks.boundaries import watch
from callbacks.checkpoints import LastCheckpoint
from callbacks.slurm import requeue_if_taken
from callbacks.steps import Every, fit_ends_here
from meddiff.core.ranges import PositiveInt, check_ranges

_Handler = Callable[[int, FrameType | None], Any] | int | None
_STOPPING = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Checkpoint):
    """On SIGTERM or SIGUSR1, saves `last.ckpt` when the batch is done and ends the process.

    A batch is done when its row is written, the validation that is due after it is made and the
    epoch that it ends is closed: the run that is resumed has nothing of it to do, and ends as one
    that was left alone. Nothing is left where the fit ends with this batch, unless its final
    validation is to come: the resumed run begins with that.

    The exit code is 128 plus the signal's number: 143 for SIGTERM. A SLURM job goes back into the
    queue where its machine is being taken.

    A handler only sets a flag, from `setup` to the end of the fit. Lightning's own handlers save,
    or talk to other processes, in the middle of whatever the program was doing; it sets none where
    this callback is. Those from before are put back when the fit ends.

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
        self._before: dict[signal.Signals, _Handler] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Notes signals from now on; keeps Lightning from handling them."""
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        self._received = 0
        if stage == TrainerFn.FITTING and threading.current_thread() is threading.main_thread():
            for number in _STOPPING:  # Python allows it in no other thread
                self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Puts the handlers from before back."""
        self._put_back()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Puts the handlers from before back."""
        self._put_back()

    def _put_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            # None stands for one that was not set by Python, which Python cannot set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves where a signal came since `setup`: there is nothing to save yet.

        Raises:
            SystemExit: If one came.
        """
        watch(trainer)
        self._every.start(trainer)
        self._stepped.start(trainer)
        # Under DDP Lightning would ask all processes for a signal at each batch, and wait for the
        # device; that is done here, and more rarely.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        received = self.received_by_any(trainer)
        if received:
            rank_zero_info(f"{received.name}: stopping before the first batch")
            _leave(trainer, received)

    def on_boundary(self, trainer: Trainer) -> None:
        """Saves and leaves where a signal came and the fit goes on.

        Raises:
            SystemExit: If that is so.
        """
        # Half an optimiser step cannot be saved.
        looks = (self._stepped if trainer.world_size == 1 else self._every).crossed(trainer)
        if looks and not fit_ends_here(trainer):
            self.leave_if_asked(trainer)

    def leave_if_asked(self, trainer: Trainer) -> None:
        """Saves and leaves where a signal came; to be called on all processes.

        Raises:
            SystemExit: If one came.
        """
        received = self.received_by_any(trainer)
        if received:
            rank_zero_info(f"{received.name}: saving at step {trainer.global_step} and stopping")
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.save(trainer)
            _leave(trainer, received)

    def received_by_any(self, trainer: Trainer) -> signal.Signals | None:
        """The signal that any process got; all of them must ask. None: none did."""
        number = self._received
        if trainer.world_size > 1:
            highest = torch.tensor(number, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(highest, reduce_op="max"))
        return signal.Signals(number) if number else None


def _leave(trainer: Trainer, received: signal.Signals) -> None:
    if trainer.is_global_zero:
        requeue_if_taken(received)
    # Lightning's launcher kills the first process five seconds after another one failed.
    raise SystemExit(128 + received if trainer.is_global_zero else 0)
