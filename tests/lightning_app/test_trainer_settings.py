"""Trainer settings of overlays, fitted to the module."""

from typing import Any

import pytest
from lightning.pytorch import LightningModule

from lightning_app.trainer_settings import accumulation_for, validation_interval


@pytest.mark.parametrize(
    ("automatic", "asked", "used"), [(True, 2, 2), (True, None, None), (False, 2, 1), (False, 1, 1)]
)
def test_a_module_that_takes_its_own_steps_accumulates_nothing(
    automatic: bool, asked: Any, used: Any
) -> None:
    module = LightningModule()
    module.automatic_optimization = automatic
    assert accumulation_for(module, asked) == used


@pytest.mark.parametrize(
    ("asked", "every_n_epochs", "used"),
    [(10, 1, None), (10, None, 10), (0.5, 1, 0.5), (None, 1, None)],
)
def test_an_interval_in_batches_is_for_validation_by_steps(
    asked: Any, every_n_epochs: int | None, used: Any
) -> None:
    assert validation_interval(asked, every_n_epochs, tell=False) == used
