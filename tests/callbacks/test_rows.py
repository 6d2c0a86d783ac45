import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR

from callbacks import NonFiniteGuard, NonFiniteLossError, TrainingRows
from callbacks.rows import learning_rates
from tests.callbacks.toys import ToyModule, TwoSteps, loader, trainer_in


class Falling(ToyModule):
    """Its rate is 0.1 in the first step, and a tenth less of that in each step after it."""

    def configure_optimizers(self) -> OptimizerLRScheduler:  # type: ignore[override]
        # A rate that is a tensor is changed in its place.
        optimizer = Adam(self.net.parameters(), lr=torch.tensor(0.1), capturable=False)
        schedule = LambdaLR(optimizer, lambda step: 1 - step / 10)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def rows(root: Path, module: ToyModule, *callbacks: Callback, **kwargs: Any) -> dict[int, Any]:
    """The learning rate and the loss by the row's step."""
    trainer = trainer_in(root, TrainingRows(), *callbacks, logger=CSVLogger(root), **kwargs)
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    trainer.fit(module, loader())
    assert trainer.log_every_n_steps == every  # type: ignore[attr-defined]
    path = root / "lightning_logs/version_0/metrics.csv"
    if not path.is_file():
        return {}
    with path.open() as file:
        found = list(csv.DictReader(file))
    assert len({row["step"] for row in found}) == len(found), "a step has one row"
    return {int(row["step"]): (float(row["lr"]), float(row["train/loss"])) for row in found}


@pytest.mark.parametrize(
    ("kwargs", "steps"),
    [
        ({"max_steps": 7, "log_every_n_steps": 50}, [6]),
        ({"max_steps": 7, "log_every_n_steps": 3}, [2, 5, 6]),
        ({"max_steps": 6, "log_every_n_steps": 3}, [2, 5]),
        ({"max_steps": -1, "max_epochs": 2, "log_every_n_steps": 5}, [4, 7]),
        ({"max_steps": 9, "max_epochs": 1, "log_every_n_steps": 5}, [3]),
        ({"max_steps": 3, "accumulate_grad_batches": 3, "log_every_n_steps": 50}, [2]),
        ({"max_steps": 7, "log_every_n_steps": 0}, []),
    ],
    ids=str,
)
def test_the_last_step_has_a_row_with_its_rate(
    tmp_path: Path, kwargs: dict[str, Any], steps: list[int]
) -> None:
    found = rows(tmp_path, Falling(), **kwargs)
    assert list(found) == steps
    for step, (rate, loss) in found.items():
        assert rate == pytest.approx(0.1 * (1 - step / 10))
        assert 0 < loss < 10


def test_a_row_of_the_last_step_is_of_its_loss(tmp_path: Path) -> None:
    every = rows(tmp_path / "a", Falling(), max_steps=7, log_every_n_steps=1)
    last = rows(tmp_path / "b", Falling(), max_steps=7, log_every_n_steps=50)
    assert last == {6: every[6]}


def test_a_run_that_a_callback_ends_has_its_last_row(tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 2

    assert list(rows(tmp_path, Falling(), Stops(), log_every_n_steps=50)) == [1]


def test_a_run_that_fails_leaves_the_interval_of_logging(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, TrainingRows(), NonFiniteGuard(), max_steps=4)
    with pytest.raises(NonFiniteLossError):
        trainer.fit(ToyModule(bad_batch=3), loader())
    assert trainer.log_every_n_steps == 50  # type: ignore[attr-defined]


def test_a_module_of_its_own_steps_logs_its_rate(tmp_path: Path) -> None:
    class OwnSteps(TwoSteps):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train/loss", torch.tensor(1.0))
            super().training_step(batch, batch_idx)

    found = rows(tmp_path, OwnSteps(), max_steps=6, log_every_n_steps=50)
    assert found == {2: pytest.approx((0.01, 1.0))}


def weight() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))


def group(name: str) -> dict[str, Any]:
    return {"params": [weight()], "name": name}


def test_every_optimiser_and_group_has_a_name() -> None:
    one = SGD([weight()], lr=0.1)
    two = SGD([group(""), group("") | {"lr": 0.3}], lr=0.2)
    named = SGD([group("a"), group("b")], lr=0.4)
    alike = SGD([group("a"), group("a")], lr=0.5)  # torch lets several groups have one name
    assert learning_rates([one]) == {"lr": 0.1}
    assert learning_rates([two]) == {"lr/pg1": 0.2, "lr/pg2": 0.3}
    assert learning_rates([named]) == {"lr/a": 0.4, "lr/b": 0.4}
    assert learning_rates([alike]) == {"lr/pg1": 0.5, "lr/pg2": 0.5}
    assert learning_rates([one, two]) == {"lr": 0.1, "lr/2/pg1": 0.2, "lr/2/pg2": 0.3}
