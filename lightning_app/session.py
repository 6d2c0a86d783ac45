"""One launch of a run: its directory, its lock, its record, from before the Trainer to the end."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from callbacks import best_of
from callbacks.files import atomic_write, naming, remove_temporaries
from lightning_app.behind import id_of_run
from lightning_app.errors import describe
from lightning_app.leaving import finish_wandb, not_hiding, nothing_left, state_after
from lightning_app.lock import RunLock
from lightning_app.loggers import new_wandb_id
from lightning_app.measured import check_measured
from lightning_app.process import RUN_DIR_VARIABLE, Launch
from lightning_app.record import facts, now, read_record, write_record
from lightning_app.resolved import optimizer_values, trainer_values
from lightning_app.run_directory import from_here, make_run_directory, next_config_file
from lightning_app.signals import Stopped, ignore_more
from lightning_app.system_errors import name_place


class Session:
    """One launch of a run, as a context.

    Args:
        subcommand: What is done.
        args: The command line.
        parent: The folder of the runs of this config name.
        launch: Which process of a launch this is.
        resumed: The run directory to continue in; None makes a new one.
    """

    def __init__(
        self, subcommand: str, args: list[str], parent: Path, launch: Launch, resumed: Path | None
    ) -> None:
        self.subcommand = subcommand
        self._directory = resumed
        self.resumed = resumed is not None
        self.trainer: Trainer | None = None
        self._args = args
        self._parent = parent
        self._launch = launch
        self._lock: RunLock | None = None
        self._record: dict[str, Any] = {}

    @property
    def directory(self) -> Path:
        """The run directory.

        Raises:
            RuntimeError: If `begin` was not called.
        """
        if self._directory is None:
            raise RuntimeError("the session has not begun")
        return self._directory

    @property
    def writes(self) -> bool:
        """Whether this process makes, holds and records the run."""
        return self._launch.rank == 0

    @property
    def wandb_id(self) -> str:
        """The run's id at Weights & Biases."""
        return str(self._record.get("wandb_id", ""))

    def begin(
        self,
        *,
        seed: int,
        limits: dict[str, int],
        checkpoint: Path | None,
        config: str,
        resolved: dict[str, Any],
    ) -> Path:
        """Makes or takes the run directory and writes down what is launched.

        Args:
            seed: The seed of the run.
            limits: Where a fit ends.
            checkpoint: What it starts from.
            config: The text of `config.yaml`.
            resolved: The values that are used, for `run.json` and the loggers.

        Returns:
            The run directory.
        """
        if self._launch.run_dir is not None:
            self._directory = Path(self._launch.run_dir)
        elif self._directory is None:
            self._directory = make_run_directory(self._parent.absolute(), self._launch)
        os.environ[RUN_DIR_VARIABLE] = str(self.directory)
        if not self.writes:
            return self.directory
        self._take()
        earlier = read_record(self.directory) if self.resumed else {}
        earlier.pop("resolved", None)  # stands in the config file of that launch
        launches = earlier.pop("earlier_launches", [])
        config_file = next_config_file(self.directory)
        record = {
            "name": self.directory.parent.name,
            "subcommand": self.subcommand,
            **facts(self._args, seed),
            "config": config_file.name,
            "limits": limits,
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "checkpoint_run": None if checkpoint is None else id_of_run(checkpoint),
            "last_step": None,
            "best": None,
            "wandb_id": earlier.pop("wandb_id", new_wandb_id()),
            "earlier_launches": [*launches, earlier] if earlier else [],
            "resolved": resolved,
        }
        self._write_down(config_file, config, record)
        rank_zero_info(f"run directory: {from_here(self.directory)}")
        return self.directory

    @property
    def _made(self) -> list[Path]:
        """What this launch made before anything was written into it."""
        return [] if self.resumed else [self.directory]

    def _take(self) -> None:
        """Takes the lock, and removes what a killed launch was writing."""
        self._lock = RunLock(self.directory, self._launch)
        with nothing_left(*self._made), naming(self._lock.path):
            self._lock.acquire()
        if self.resumed:
            remove_temporaries(self.directory)

    def _write_down(self, config_file: Path, config: str, record: dict[str, Any]) -> None:
        """Writes the config and the record of this launch, both or none."""
        with nothing_left(config_file, *self._made):
            with atomic_write(config_file) as file:
                file.write(config.encode())
            write_record(self.directory, record)
        self._record = record

    def note(self, **found: Any) -> None:
        """Adds to the record what was found on the way; on the process that writes it."""
        if self._record:
            self._record |= found
            write_record(self.directory, self._record)

    @property
    def resolved(self) -> dict[str, Any]:
        """The values that are used; empty in a process that does not record the run."""
        return dict(self._record.get("resolved", {}))

    def note_used(self, section: str, used: Any) -> None:
        """Adds to the values that are used what shows only when the run goes on.

        Args:
            section: Their key; values by name are laid over those that are there.
            used: Plain values.
        """
        there = self.resolved.get(section)
        merged = there | used if isinstance(there, dict) else used
        self.note(resolved=self.resolved | {section: merged})

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ignore_more()
        if isinstance(error, Stopped) and self._record:
            error.outcome = self._outcome()
        if self._directory is not None:
            name_place(error, self._directory)
        with ExitStack() as ending:
            if self._lock is not None:
                ending.callback(self._lock.release)
            ending.enter_context(not_hiding(error))
            try:
                finish_wandb(self.trainer)
            finally:
                if self._record:
                    self._record_end(error)
        with not_hiding(error):
            self._remove_where_empty(error)

    def _remove_where_empty(self, error: BaseException | None) -> None:
        """A mistake that was found before anything was done leaves no trace, nor does a signal."""
        mistaken = error is not None and describe(error) is not None and not self._last_step()
        idle = mistaken or (error is not None and not self._record)
        made = self._lock is not None and not self.resumed and self.directory.is_dir()
        if idle and made and self._is_empty():
            shutil.rmtree(self.directory)
            rank_zero_info(f"nothing was done in it: {from_here(self.directory)} is removed again")

    def _record_end(self, error: BaseException | None) -> None:
        self._record |= {
            "ended": now(),
            "state": state_after(error),
            "last_step": self._last_step(),
        }
        self._record["best"] = self._best()
        if isinstance(error, Exception):
            self._record["error"] = (describe(error) or repr(error)).splitlines()[0]
        write_record(self.directory, self._record)

    def _outcome(self) -> str:
        """What a signal leaves of the run, and how to go on."""
        run = from_here(self.directory)
        if self.subcommand != "fit":
            return f"{run} is left unfinished; give the same command again"
        last = Path(run, "checkpoints", "last.ckpt")
        kept = f"{last} is kept" if last.is_file() else f"{run} has no checkpoint yet"
        return f"{kept}; the same command with --resume auto goes on there"

    def _last_step(self) -> int | None:
        fitted = self.trainer is not None and self.subcommand == "fit"
        return self.trainer.global_step if fitted and self.trainer else None

    def _best(self) -> dict[str, Any] | None:
        fitted = self.trainer is not None and self.subcommand == "fit"
        best = best_of(self.trainer) if fitted and self.trainer else None
        return None if best is None else asdict(best)

    def _is_empty(self) -> bool:
        """Whether nothing but this class wrote into the run directory."""
        own = {"run.json", "config.yaml", "splits.json"}
        return all(path.name in own for path in self.directory.iterdir())


class SessionCallback(Callback):
    """Writes down what is known only when the Trainer runs.

    Args:
        session: The launch.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sends the config to the loggers."""
        if not trainer.is_global_zero:
            return
        self._session.note_used("trainer", trainer_values(trainer))
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self._session.resolved})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes down the optimisers."""
        if trainer.is_global_zero:
            optimizers = [optimizer_values(optimizer) for optimizer in trainer.optimizers]
            self._session.note_used("optimizers", optimizers)
            named = {
                str(number): optimizers[number] | {"class": type(optimizer)}
                for number, optimizer in enumerate(trainer.optimizers)
            }
            for logger in trainer.loggers:
                logger.log_hyperparams({"optimizers": named})

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops where a test measured nothing.

        Raises:
            UsageError: If it did.
        """
        check_measured(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops where a run that only validates measured nothing.

        Raises:
            UsageError: If it did.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            check_measured(trainer, pl_module, "validate")
