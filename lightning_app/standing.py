"""The callbacks that every run has."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar

from callbacks import FinalValidation, NewestFigures, RunProgressBar, TrainingRows
from lightning_app.trainer_settings import as_list

# Their order is the order in which they are called: metrics are logged before `best` looks at
# them, a broken state is found before it is saved, and `last` holds the count of `early_stopping`.
STANDING = {
    "performance": "Performance",
    "ema": "EMACallback",
    "guard": "NonFiniteGuard",
    "metrics": "SegmentationMetrics",
    "translation": "TranslationMetrics",
    "samples": "SampleGrid",
    "predictions": "PredictionWriter",
    "throughput": "Throughput",
    "progress": "Progress",
    "early_stopping": "EarlyStopping",
    "best": "BestCheckpoint",
    "last": "LastCheckpoint",
    "preemption": "Preemption",
}


def without_arguments() -> list[Callback]:
    """Those that have no key; they come after the others."""
    return [NewestFigures(), TrainingRows(), FinalValidation()]


def sections_of_classes(config: Mapping[str, Any]) -> dict[str, str]:
    """Which section of a config makes an object of which class, by short names."""
    chosen = {str(config[part].class_path).rpartition(".")[2]: part for part in ("model", "data")}
    return {"Trainer": "trainer"} | {name: key for key, name in STANDING.items()} | chosen


def users_callbacks(asked: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """The callbacks of `trainer.callbacks` and the progress bar, and whether there is one.

    A bar needs a terminal; without one `Progress` prints lines.

    Args:
        asked: The arguments of the Trainer that were asked for.
    """
    given = as_list(asked.get("callbacks"), object)
    wanted = asked.get("enable_progress_bar") is not False
    if any(isinstance(callback, ProgressBar) for callback in given):
        return given, wanted
    if not (wanted and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"):
        return given, False
    return [*given, RunProgressBar()], True
