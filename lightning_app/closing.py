"""The last lines of a fit: its figures, its best, where it is, what to do next."""

import re
import shlex
from pathlib import Path
from typing import Protocol, runtime_checkable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks import FinalValidation, best_of
from meddiff.core.protocols import (
    SupportsClassification,
    can_sample,
    can_segment,
    can_translate,
)

_OF_ONE_CLASS = re.compile(r"_(?:class|cluster)\d+$")


@runtime_checkable
class LooksAhead(Protocol):
    """A data module that knows what a trained module can be measured and used on."""

    def ahead(self) -> tuple[frozenset[str], str | None]:
        """Returns the truths in the batches of a test, and a `predict_split` with items."""
        ...


def tell_end(trainer: Trainer, module: LightningModule, run: str) -> None:
    """Prints the last lines of a fit.

    Args:
        trainer: The trainer that did it.
        module: What was trained.
        run: The run directory as the user would write it.
    """
    lines = [f"ended at step {trainer.global_step}: {_figures(trainer)}"]
    best = best_of(trainer)
    if best is not None:
        at = "" if best.step is None else f" at step {best.step}"
        path = Path(run) / "checkpoints" / "best.ckpt"
        lines.append(f"best: {best.figure} {best.value:.4g}{at} ({path})")
    lines.append(f"run directory: {run}")
    data = trainer.datamodule  # type: ignore[attr-defined]
    command = next_command(module, data, run)
    # A fast_dev_run leaves no weights.
    if command is not None and any(Path(run, "checkpoints").glob("*.ckpt")):
        lines.append(f"next: {command}")
    for line in lines:
        rank_zero_info(line)


def _figures(trainer: Trainer) -> str:
    """The training loss and the figures of the last validation, those of single classes aside."""
    metrics = trainer.callback_metrics
    names = [name for name in metrics if not _OF_ONE_CLASS.search(name)]
    losses = [name for name in names if name.startswith("train/") and "loss" in name]
    shown = [f"{name} {float(metrics[name]):.4g}" for name in losses]
    validated = [f"{n} {float(metrics[n]):.4g}" for n in names if n.startswith("val/")]
    finals = [c for c in trainer.checkpoint_callbacks if isinstance(c, FinalValidation)]
    step = finals[0].step if finals else None
    if validated and step is not None and step != trainer.global_step:
        validated[0] = f"at step {step} {validated[0]}"
    return ", ".join([*shown, *validated]) or "no figures"


def next_command(module: LightningModule, data: object, run: str) -> str | None:
    """What is done with a trained module: a test where the data have one, else what it makes.

    Args:
        module: What was trained.
        data: The data module that it was trained on, if any.
        run: The run directory.

    Returns:
        A command line; None where there is nothing to do with it on these data.
    """
    measured = {
        truth
        for truth, can in (
            ("mask", can_segment(module)),
            ("target", can_translate(module)),
            ("label", isinstance(module, SupportsClassification)),
        )
        if can
    }
    if can_sample(module) and not measured:
        noise = ("--data", "NoiseDataModule", "--data.init_args.num_samples", "16")
        return _command("predict", run, *noise)
    if not isinstance(data, LooksAhead):
        tests = is_overridden("test_step", module) and is_overridden("test_dataloader", data)
        return _command("test", run) if tests else None
    truths, split = data.ahead()
    if measured & truths:
        return _command("test", run)
    if split is None or not measured:
        return None
    other = split != getattr(data, "predict_split", split)
    return _command("predict", run, *(("--data.init_args.predict_split", split) if other else ()))


def _command(subcommand: str, run: str, *more: str) -> str:
    return shlex.join(["lightning", subcommand, "--ckpt_path", run, *more])
