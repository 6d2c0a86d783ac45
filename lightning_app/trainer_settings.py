"""Trainer settings that a hardware overlay makes for all modules, fitted to the module at hand."""

from collections.abc import Mapping
from typing import Any

from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeInt,
    PositiveInt,
    restricted_number_type,
)
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info

from lightning_app.errors import UsageError
from lightning_app.ranges import check_number
from meddiff.core.protocols import DeclaresHalfPrecision
from meddiff.core.ranges import NonNegativeNumber

_OrEndless = restricted_number_type("OrEndless", int, (">=", -1))
_OrAll = restricted_number_type("OrAll", int, [("==", -1), (">=", 1)], join="or")
_ShareAboveZero = restricted_number_type("ShareAboveZero", float, [(">", 0), ("<=", 1)])
_LIMIT = (NonNegativeInt, ClosedUnitInterval)

RANGES: dict[str, tuple[Any, ...]] = {
    "num_nodes": (PositiveInt,),
    "fast_dev_run": (NonNegativeInt,),
    "max_epochs": (_OrEndless,),
    "min_epochs": (NonNegativeInt,),
    "max_steps": (_OrEndless,),
    "min_steps": (NonNegativeInt,),
    "limit_train_batches": _LIMIT,
    "limit_val_batches": _LIMIT,
    "limit_test_batches": _LIMIT,
    "limit_predict_batches": _LIMIT,
    "overfit_batches": _LIMIT,
    "val_check_interval": (PositiveInt, _ShareAboveZero),
    "check_val_every_n_epoch": (PositiveInt,),
    "num_sanity_val_steps": (_OrEndless,),
    "log_every_n_steps": (NonNegativeInt,),
    "accumulate_grad_batches": (PositiveInt,),
    "gradient_clip_val": (NonNegativeNumber,),
    "reload_dataloaders_every_n_epochs": (NonNegativeInt,),
}
"""What the numbers among the Trainer's arguments may be; Lightning checks few of them."""

DEFAULTS: dict[str, Any] = {
    "precision": "32-true",
    "limit_train_batches": 1.0,
    "limit_val_batches": 1.0,
    "limit_test_batches": 1.0,
    "limit_predict_batches": 1.0,
    "val_check_interval": 1.0,
    "num_sanity_val_steps": 2,
    "log_every_n_steps": 50,
    "enable_checkpointing": True,
    "enable_progress_bar": True,
    "enable_model_summary": True,
    "deterministic": False,
}
"""What Lightning's Trainer takes where an argument is None, as its documentation says."""


def check_trainer(asked: Mapping[str, Any]) -> None:
    """Checks what was asked of the Trainer.

    Args:
        asked: Its arguments by name.

    Raises:
        UsageError: If one is out of its range, or is ours to give.
    """
    if asked.get("default_root_dir") is not None:
        raise UsageError("trainer.default_root_dir: is the run directory; give --run_root")
    for name, kinds in RANGES.items():
        if isinstance(value := asked.get(name), int | float) and not isinstance(value, bool):
            check_number(f"trainer.{name}", value, *kinds)
    for unit in ("steps", "epochs"):
        least, most = asked.get(f"min_{unit}"), asked.get(f"max_{unit}")
        if least is not None and most is not None and 0 <= most < least:
            raise UsageError(f"trainer.min_{unit}: {least} given, and max_{unit} is {most}")
    _check_devices(asked.get("devices"))
    for name in ("max_time", "val_check_interval"):
        if not isinstance(value := asked.get(name), int | float | None):
            _check_duration(f"trainer.{name}", value)


def _check_devices(devices: Any) -> None:
    if isinstance(devices, list):
        if not devices:
            raise UsageError("trainer.devices: [] given, expected one or more")
        for device in devices:
            check_number("trainer.devices", device, NonNegativeInt)
    elif isinstance(devices, int) or str(devices).lstrip("-").isdigit():
        check_number("trainer.devices", devices, _OrAll)


def _check_duration(key: str, value: Any) -> None:
    expected = f"{key}: {value} given, expected DD:HH:MM:SS, or timedelta's arguments, above 0"
    try:
        seconds = Timer(value).time_remaining()
    except (MisconfigurationException, TypeError, OverflowError) as error:
        raise UsageError(expected) from error
    if seconds is None or seconds <= 0:
        raise UsageError(expected)


def fitted_settings(
    module: LightningModule, asked: Mapping[str, Any], *, tell: bool
) -> dict[str, Any]:
    """Precision, accumulation and interval of validation, as the module can use them.

    Args:
        module: The module of the run.
        asked: The arguments of the Trainer that were asked for.
        tell: Whether to say that an interval is not used.

    Raises:
        UsageError: If the precision would round images and weights themselves.
    """
    return {
        "precision": precision_for(module, asked.get("precision")),
        "accumulate_grad_batches": accumulation_for(module, asked.get("accumulate_grad_batches")),
        "val_check_interval": validation_interval(
            asked.get("val_check_interval"), asked.get("check_val_every_n_epoch"), tell=tell
        ),
    }


def defaults_for(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What Lightning takes for those arguments of the Trainer that are there and null.

    Those that are off where they are null are not among them.

    Args:
        asked: The arguments of the Trainer.
    """
    if asked.get("fast_dev_run"):  # replaces most of them
        return {}
    endless = asked.get("max_steps", -1) != -1 or asked.get("max_time") is not None
    values = DEFAULTS | {"max_epochs": -1 if endless else 1000}
    return {key: value for key, value in values.items() if key in asked and asked[key] is None}


def as_list(value: Any, kind: type) -> list[Any]:
    """A Trainer argument that may be one, several or, as a bool or None, none."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, kind) and not isinstance(item, bool | None)]


def precision_for(module: LightningModule, asked: Any) -> Any:
    """The precision, or float32 where the module cannot take fp16.

    Raises:
        UsageError: If images and weights themselves would be rounded, which no module can take.
    """
    if str(asked) in ("16-true", "bf16-true"):
        mixed = str(asked).replace("true", "mixed")
        raise UsageError(f"trainer.precision: {asked} is not supported; give {mixed}")
    half = str(asked) in ("16", "16-mixed")
    if half and isinstance(module, DeclaresHalfPrecision) and not module.supports_fp16:
        rank_zero_info(f"precision: {type(module).__name__} cannot take {asked}; 32-true is used")
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
        asked: `trainer.val_check_interval`.
        every_n_epochs: `trainer.check_val_every_n_epoch`.
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
