"""The images of an optimiser step, over all processes: what a run on other machines must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from lightning_app.errors import UsageError

KEY = "total_batch"
"""Key of a checkpoint for the batch that its counters count in."""

SIZE, ACCUMULATED = "data.init_args.batch_size", "trainer.accumulate_grad_batches"


@dataclass(frozen=True)
class TotalBatch:
    """What makes an optimiser step.

    Args:
        size: Images a process and batch; 1 where the data module has no `batch_size`.
        processes: How many there are, over all machines.
        accumulated: Batches a step.
    """

    size: int
    processes: int
    accumulated: int

    @property
    def images(self) -> int:
        """Images a step."""
        return self.size * self.processes * self.accumulated

    def __str__(self) -> str:
        return (
            f"{self.images} images a step ({self.processes} "
            f"{'process' if self.processes == 1 else 'processes'} x batch {self.size} x "
            f"{self.accumulated} accumulated)"
        )

    @classmethod
    def of_config(cls, config: Mapping[str, Any], processes: int) -> TotalBatch:
        """That of a resolved config."""
        arguments = config["data"].get("init_args") or {}
        accumulated = config["trainer"].get("accumulate_grad_batches")
        return cls(_count(arguments.get("batch_size")), processes, _count(accumulated))

    @classmethod
    def of_trainer(cls, trainer: Trainer) -> TotalBatch:
        """That of a fit which runs."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        size = _count(getattr(data, "batch_size", None))
        return cls(size, trainer.world_size, _count(trainer.accumulate_grad_batches))

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any]) -> TotalBatch | None:
        """That of the fit which wrote a checkpoint; None of an earlier version."""
        kept = checkpoint.get(KEY)
        keys = cls.__dataclass_fields__.keys()
        if not isinstance(kept, Mapping) or kept.keys() != keys:
            return None
        return cls(**{key: _count(kept[key]) for key in keys})

    def advice(self, before: TotalBatch) -> str:
        """How as many images a step are had on the processes that there are now."""
        options = [f"as many processes as before ({before.processes})"]
        if before.images % (self.processes * self.accumulated) == 0:
            options.append(f"--{SIZE} {before.images // (self.processes * self.accumulated)}")
        if before.images % (self.processes * self.size) == 0:
            options.append(f"--{ACCUMULATED} {before.images // (self.processes * self.size)}")
        return f"Give {', or '.join(reversed(options))}"


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def processes_of(asked: Mapping[str, Any]) -> int | None:
    """The processes that arguments of the Trainer stand for; None where only the Trainer can tell.

    Args:
        asked: As plain values; `auto` stands for what this machine has.
    """
    given = {key: asked.get(key) for key in ("accelerator", "devices", "num_nodes")}
    settings = {key: value for key, value in given.items() if value is not None}
    try:
        connector = _AcceleratorConnector(**settings)
        return len(connector._parallel_devices) * int(asked.get("num_nodes") or 1)
    except (ValueError, RuntimeError, TypeError, MisconfigurationException):
        return None  # told when the Trainer itself is made


def recorded_processes(record: Mapping[str, Any]) -> int | None:
    """The processes of the last launch of a run; None where it came to no training."""
    resolved = record.get("resolved")
    trainer = resolved.get("trainer") if isinstance(resolved, Mapping) else None
    if not isinstance(trainer, Mapping):
        return None
    counts = (trainer.get("devices"), trainer.get("num_nodes"))
    if not all(type(count) is int for count in counts):
        return None
    return int(counts[0] * counts[1])  # type: ignore[operator]


class KeepTotalBatch(Callback):
    """Goes on at the same image on another number of processes.

    The counters of a checkpoint count batches of one process. Where as many images make a step as
    before, the images of the epoch so far are the first ones of its order, however many processes
    shared them; the counters are brought to batches of now.

    Args:
        before: Of the run that is resumed, for checkpoints of earlier versions.
        resumed: Whether the run itself goes on; a new one may have other batches.
    """

    def __init__(self, before: TotalBatch | None, resumed: bool) -> None:
        self._before = before
        self._resumed = resumed

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes down what the counters count in."""
        checkpoint[KEY] = asdict(TotalBatch.of_trainer(trainer))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Brings the counters in memory to batches of now.

        Raises:
            UsageError: If the run that goes on had other images a step.
        """
        before = TotalBatch.of_checkpoint(checkpoint) or self._before
        now = TotalBatch.of_trainer(trainer)
        if trainer.state.fn != TrainerFn.FITTING or before in (None, now):
            return
        if before.images != now.images:
            if self._resumed:
                raise other_total("the run", before, now)
            rank_zero_info(f"ckpt_path: {before} before, {now} now; the epoch goes on elsewhere")
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        if before.accumulated != now.accumulated:
            for counts in (progress["current"], progress["total"]):
                _rescale(
                    counts, before.accumulated, now.accumulated, last=progress["is_last_batch"]
                )
        rank_zero_info(
            f"resume: {now} now, {before} before: each step has the same images; noise and dropout "
            f"are other ones, so that the weights are not bit for bit those{_intervals(trainer)}"
        )


def other_total(run: object, before: TotalBatch, now: TotalBatch) -> UsageError:
    """The error that a run would go on with other images a step.

    Args:
        run: The run, for the message.
        before: Of its earlier launches.
        now: Of this one.
    """
    return UsageError(f"--resume {run}: had {before}, and this is {now}\n{now.advice(before)}")


def _rescale(counts: dict[str, int], before: int, now: int, *, last: bool) -> None:
    """Counts batches of another accumulation; what the last batch had still before it stays so.

    Args:
        counts: Of batches, changed in place.
        before: Batches a step then.
        now: Batches a step now.
        last: Whether the epoch was at its end.
    """
    steps = counts["ready"] // before
    if last and counts["ready"] % before:  # the epoch ended with fewer batches in a step
        steps += 1
    ready = steps * now
    counts |= {key: ready - (counts["ready"] - value) for key, value in counts.items()}


def _intervals(trainer: Trainer) -> str:
    by_batches = trainer.check_val_every_n_epoch is None
    return "; trainer.val_check_interval counts batches of now" if by_batches else ""
