"""Where figures go: `metrics.csv` always, TensorBoard and Weights & Biases where asked for.

What is sent to TensorBoard, Weights & Biases and a user's own loggers is what `redaction.py` lets
through.
"""

import csv
import io
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from callbacks.files import append_lines, atomic_write
from lightning_app.config_files import carried_configs
from lightning_app.redaction import Redaction
from lightning_app.senders import RunTensorBoardLogger, RunWandbLogger, guarded
from lightning_app.trainer_settings import as_list

_MADE_NAME = re.compile(r"\d{8}-\d{6}(?:-\d+)?|slurm-[\d.]+-r\d+")
"""Names of run directories that hold nothing of a user's."""


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
        name: Name of the run; null is the name of the config, where it comes with the package,
            else of the module's class, and the time.
        group: Groups runs, such as the seeds of one experiment.
        tags: Labels of the run.
        notes: A longer description.
        offline: Whether everything stays on this disk; `wandb sync` sends it later.
        pictures: Whether it gets the pictures of `samples/`, of test and validation images too.
    """

    enabled: bool = False
    project: str = "meddiff"
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    offline: bool = False
    pictures: bool = True


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
    config: Namespace,
    parser: ArgumentParser,
    kinds: tuple[type[LightningModule], type[LightningDataModule]],
    *,
    wandb_id: str | None,
    resumed_step: int | None,
) -> list[Logger]:
    """The loggers of a run; all but `metrics.csv` get redacted settings.

    Args:
        run_dir: The run directory.
        config: The instantiated config, with the user's own loggers.
        parser: Knows the types of its keys.
        kinds: The classes of the module and the data module.
        wandb_id: The run's id at Weights & Biases, the same in every launch of the run.
        resumed_step: The step that a resumed run continues from.
    """
    sending: list[Logger] = as_list(config.trainer.get("logger"), Logger)
    if config.wandb.enabled:
        title = run_title(run_dir, kinds[0].__name__)
        sending.insert(0, _wandb_logger(run_dir, config.wandb, title, wandb_id))
    if config.tensorboard.enabled:
        own = RunTensorBoardLogger(run_dir, name="tensorboard", version="", purge_step=resumed_step)
        sending.insert(0, own)
    loggers: list[Logger] = [RunCSVLogger(run_dir)]
    if sending:  # it takes a second to ask all types
        redaction = Redaction(parser, kinds)
        loggers += [guarded(logger, redaction) for logger in sending]
    return loggers


def run_title(run_dir: Path, module_class: str) -> str:
    """A name for a run without a word of the user's: what was not typed for a service stays here.

    Args:
        run_dir: The run directory, `<config name>/<time>`; a user names configs, and may rename it.
        module_class: The name of the module's class.
    """
    carried = {path.stem for path in carried_configs().rglob("*.yaml")}
    config, made = run_dir.absolute().parent.name, run_dir.name
    kind = config if config in carried else module_class
    return f"{kind}-{made}" if _MADE_NAME.fullmatch(made) else kind


def _wandb_logger(run_dir: Path, given: WandbSettings, title: str, wandb_id: str | None) -> Logger:
    return RunWandbLogger(
        pictures=given.pictures,
        name=given.name or title,
        save_dir=run_dir,
        id=wandb_id,
        resume="allow",
        project=given.project,
        entity=given.entity,
        group=given.group,
        tags=given.tags,
        notes=given.notes,
        offline=given.offline,
    )


def new_wandb_id() -> str:
    """An id for a run that has none."""
    return secrets.token_hex(4)
