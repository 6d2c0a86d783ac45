"""Trainer settings that a hardware overlay makes for all modules, fitted to the module at hand."""

from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from lightning_app.errors import UsageError
from meddiff.core.protocols import DeclaresHalfPrecision


def precision_for(module: LightningModule, asked: Any) -> Any:
    """The precision, or float32 where the module does not bear fp16.

    Raises:
        UsageError: Where images and weights themselves would be rounded, beyond what any bears.
    """
    if str(asked) in ("16-true", "bf16-true"):
        mixed = str(asked).replace("true", "mixed")
        raise UsageError(f"trainer.precision: {asked} is not supported; give {mixed}")
    half = str(asked) in ("16", "16-mixed")
    if half and isinstance(module, DeclaresHalfPrecision) and not module.supports_fp16:
        rank_zero_info(f"precision: {type(module).__name__} does not bear {asked}; 32-true is used")
        return "32-true"
    return asked


def accumulation_for(module: LightningModule, asked: Any) -> Any:
    """The batches of an optimiser step; 1 where the module takes its steps itself."""
    if module.automatic_optimization or asked in (None, 1):
        return asked
    rank_zero_info(
        f"trainer.accumulate_grad_batches: {asked} is not used, because "
        f"{type(module).__name__} takes its optimiser steps itself"
    )
    return 1


def validation_interval(asked: Any, every_n_epochs: int | None, *, tell: bool) -> Any:
    """The interval; a number of batches is for validation by steps alone.

    Lightning refuses one beyond an epoch.

    Args:
        asked: ``trainer.val_check_interval``.
        every_n_epochs: ``trainer.check_val_every_n_epoch``.
        tell: Whether to say that it is not used.
    """
    if not isinstance(asked, int) or every_n_epochs is None:
        return asked
    if tell:
        rank_zero_info(
            f"trainer.val_check_interval: {asked} batches is not used, because validation "
            f"follows epochs (trainer.check_val_every_n_epoch: {every_n_epochs}); null there "
            "makes it follow batches"
        )
    return None  # Lightning's default, the end of the epoch
