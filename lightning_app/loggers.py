"""Where figures go: `metrics.csv` always, TensorBoard and Weights & Biases where asked for.

What is sent to TensorBoard and Weights & Biases holds no path: a path may name a patient.
"""

import csv
import io
import re
import secrets
from argparse import Namespace
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from callbacks.files import append_lines, atomic_write
from lightning_app.home import PATH_KEY

REDACTED = "<path>"

_METRIC = re.compile(r"^(?:train|val|test|perf)/[\w/]+$")


@dataclass
class TensorBoardSettings:
    """TensorBoard.

    Args:
        enabled: Whether event files are written to `tensorboard/` in the run directory.
    """

    enabled: bool = False


@dataclass
class WandbSettings:
    """Weights & Biases.

    Args:
        enabled: Whether the run is logged there.
        project: Name of the project.
        entity: User or team; null is the one that is logged in.
        name: Name of the run; null is the config's name and the time.
        group: Groups runs, such as the seeds of one experiment.
        tags: Labels of the run.
        notes: A longer description.
        offline: Whether everything stays on this disk; `wandb sync` sends it later.
    """

    enabled: bool = False
    project: str = "meddiff"
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    offline: bool = False


def redact(value: Any, key: str = "") -> Any:
    """A copy of a config in which every path is replaced by `<path>`."""
    if isinstance(value, Mapping):
        return {name: redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item, key) for item in value]
    if isinstance(value, Path):
        return REDACTED
    if not isinstance(value, str):
        return value
    by_name = key != "class_path" and PATH_KEY.search(key) is not None
    looks_so = re.search(r"[/\\]|^~|^\.\.?$", value) is not None and not _METRIC.match(value)
    return REDACTED if value and (by_name or looks_so) else value


class _Redacting:
    """Redacts the hyper-parameters of any module and data module on their way to a service."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        given = vars(params) if isinstance(params, Namespace) else params
        super().log_hyperparams(redact(given), *args, **kwargs)  # type: ignore[misc]

    def finalize(self, status: str) -> None:
        """Ends the logging; after an error, what cannot be written any more does not hide it."""
        with suppress(OSError) if status == "failed" else nullcontext():
            super().finalize(status)  # type: ignore[misc]


class RedactingTensorBoardLogger(_Redacting, TensorBoardLogger):
    """TensorBoard without paths."""

    @rank_zero_only
    def save(self) -> None:
        """Writes what waits in memory, and `hparams.yaml` whole."""
        self.experiment.flush()
        path = Path(self.log_dir) / self.NAME_HPARAMS_FILE
        if not path.is_file():
            with atomic_write(path) as file:
                file.write(yaml.safe_dump(dict(self.hparams)).encode())


class RedactingWandbLogger(_Redacting, WandbLogger):
    """Weights & Biases without paths."""


class _Rows(ExperimentWriter):
    """Rows of `metrics.csv`; earlier ones are kept, and new columns come last."""

    written = 0

    def _check_log_dir_exists(self) -> None:
        """Reads the columns that are there, where Lightning's writer deletes the file."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            append_lines(path, "")  # mends a row that a crash cut short
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])
            self.written = len(self._read())

    def save(self) -> None:
        """Adds the new rows, whole; those that cannot be written are not tried again at the end."""
        rows, path = self.metrics, Path(self.metrics_file_path)
        if not rows:
            return
        new = self._record_new_keys()
        self.metrics = []
        if new or not path.is_file():
            self._rewrite(self._read() if path.is_file() else [], self.metrics_keys)
        text = io.StringIO(newline="")
        csv.DictWriter(text, fieldnames=self.metrics_keys).writerows(rows)
        append_lines(path, text.getvalue())
        self.written += len(rows)

    def _record_new_keys(self) -> set[str]:
        new = [key for row in self.metrics for key in row if key not in self.metrics_keys]
        self.metrics_keys.extend(dict.fromkeys(new))
        return set(new)

    def keep(self, rows: int | None) -> None:
        """Keeps the first rows alone, None all that are whole; a resumed run makes the others."""
        if Path(self.metrics_file_path).is_file():
            kept = self._read()[:rows]
            self._rewrite(kept, self.metrics_keys)
            self.written = len(kept)

    def _read(self) -> list[dict[str, str]]:
        with Path(self.metrics_file_path).open(newline="") as file:
            # A row that a crash cut short has too few fields; it is dropped.
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        with atomic_write(Path(self.metrics_file_path)) as file:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, fieldnames=columns)
            writer.writeheader()
            writer.writerows(rows)
            file.write(text.getvalue().encode())


class RunCSVLogger(CSVLogger):
    """`metrics.csv` in the run directory itself.

    Each row is written at once, so that a run that is killed keeps the rows up to its checkpoint.

    Args:
        run_dir: The run directory.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(save_dir=run_dir, name="", version="", flush_logs_every_n_steps=1)
        self._run_dir = run_dir

    @property
    def log_dir(self) -> str:
        """The run directory."""
        return str(self._run_dir)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of rows."""
        if self._experiment is None:
            self._experiment = _Rows(log_dir=self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: `config.yaml` holds them all."""

    @property
    def rows(self) -> int:
        """How many rows there are; on the first process."""
        return int(self.experiment.written)

    @rank_zero_only
    def continue_behind(self, rows: int | None) -> None:
        """Drops the rows behind the first ones, None only what a crash cut short."""
        self.experiment.keep(rows)


def make_loggers(
    run_dir: Path,
    tensorboard: TensorBoardSettings,
    wandb: WandbSettings,
    wandb_id: str | None,
    resumed_step: int | None,
) -> list[Logger]:
    """The loggers of a run.

    Args:
        run_dir: The run directory.
        tensorboard: Settings of TensorBoard.
        wandb: Settings of Weights & Biases.
        wandb_id: The run's id there, the same in every launch of the run.
        resumed_step: The step that a resumed run continues from.
    """
    loggers: list[Logger] = [RunCSVLogger(run_dir)]
    if tensorboard.enabled:
        loggers.append(
            RedactingTensorBoardLogger(
                run_dir, name="tensorboard", version="", purge_step=resumed_step
            )
        )
    if wandb.enabled:
        loggers.append(_wandb_logger(run_dir, wandb, wandb_id))
    return loggers


def _wandb_logger(run_dir: Path, given: WandbSettings, wandb_id: str | None) -> Logger:
    import wandb

    # Neither the command line, nor the printed text, nor the code's place leaves the machine.
    private = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    return RedactingWandbLogger(
        name=given.name or f"{run_dir.parent.name}-{run_dir.name}",
        save_dir=run_dir,
        id=wandb_id,
        resume="allow",
        project=given.project,
        entity=given.entity,
        group=given.group,
        tags=given.tags,
        notes=given.notes,
        offline=given.offline,
        settings=private,
    )


def new_wandb_id() -> str:
    """An id for a run that has none."""
    return secrets.token_hex(4)
