"""Where figures go: `metrics.csv` always, TensorBoard and Weights & Biases where asked for.

What is sent to TensorBoard, Weights & Biases and a user's own loggers is what `redaction.py` lets
through.
"""

import csv
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from callbacks.files import atomic_write
from lightning_app.config_files import carried_configs
from lightning_app.redaction import Redaction

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


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard, whose files are not named after the host."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of event files."""
        if self._experiment is None:
            with _host_unnamed():
                return super().experiment
        return self._experiment


class RunWandbLogger(WandbLogger):
    """Weights & Biases, with or without pictures.

    Args:
        pictures: Whether pictures are sent.
        **kwargs: As `WandbLogger`.
    """

    def __init__(self, pictures: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pictures = pictures

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], *args: Any, **kwargs: Any) -> None:
        """Sends pictures, where they are to be sent."""
        if self._pictures:
            super().log_image(key, images, *args, **kwargs)


@contextmanager
def _host_unnamed() -> Iterator[None]:
    """Hides the host's name from TensorBoard, which makes it a part of its files' names."""
    from tensorboard.summary.writer import event_file_writer

    there = event_file_writer.socket
    event_file_writer.socket = SimpleNamespace(gethostname=lambda: "host")
    try:
        yield
    finally:
        event_file_writer.socket = there


def guarded(logger: Logger, redaction: Redaction) -> Logger:
    """A logger that gets no settings but redacted ones, whoever sends them; changed in place."""
    # On the object: Lightning and a module's own code call this method too.
    send = partial(_send_redacted, logger.log_hyperparams, redaction)
    logger.log_hyperparams = send  # type: ignore[method-assign]
    return logger


def _send_redacted(
    send: Callable[..., None], redaction: Redaction, params: Any, *args: Any, **kwargs: Any
) -> None:
    send(redaction(params), *args, **kwargs)


class _Rows(ExperimentWriter):
    """Rows of `metrics.csv`; earlier ones are kept, and new columns come last."""

    def _check_log_dir_exists(self) -> None:
        """Reads the columns that are there, where Lightning's writer deletes the file."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _record_new_keys(self) -> set[str]:
        new = [key for row in self.metrics for key in row if key not in self.metrics_keys]
        self.metrics_keys.extend(dict.fromkeys(new))
        return set(new)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._rewrite(self._read(), fieldnames)

    def drop_from(self, step: int) -> None:
        """Drops the rows of `step` and later, which a resumed run computes again."""
        if Path(self.metrics_file_path).is_file():
            kept = [row for row in self._read() if float(row["step"] or 0) < step]
            self._rewrite(kept, self.metrics_keys)

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

    @rank_zero_only
    def continue_from(self, step: int) -> None:
        """Drops the rows of `step` and later."""
        self.experiment.drop_from(step)


def make_loggers(
    run_dir: Path,
    tensorboard: TensorBoardSettings,
    wandb: WandbSettings,
    own: Sequence[Logger],
    redaction: Redaction,
    *,
    title: str,
    wandb_id: str | None,
    resumed_step: int | None,
) -> list[Logger]:
    """The loggers of a run.

    Args:
        run_dir: The run directory.
        tensorboard: Settings of TensorBoard.
        wandb: Settings of Weights & Biases.
        own: The user's own ones.
        redaction: What all but `metrics.csv` get of settings.
        title: What the run is called at Weights & Biases where no name is given.
        wandb_id: The run's id there, the same in every launch of the run.
        resumed_step: The step that a resumed run continues from.
    """
    sending: list[Logger] = []
    if tensorboard.enabled:
        sending.append(
            RunTensorBoardLogger(run_dir, name="tensorboard", version="", purge_step=resumed_step)
        )
    if wandb.enabled:
        sending.append(_wandb_logger(run_dir, wandb, title, wandb_id))
    return [RunCSVLogger(run_dir), *(guarded(logger, redaction) for logger in [*sending, *own])]


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
    # Read when its client starts: reports of the client's own errors hold paths and hosts.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    # Neither the command line, nor the printed text, nor the code's place leaves the machine.
    private = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        host="host",
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
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
        settings=private,
    )


def new_wandb_id() -> str:
    """An id for a run that has none."""
    return secrets.token_hex(4)
