"""What the rows of a training hold beside its losses, and that the last step has one."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from torch.optim import Optimizer

from callbacks.steps import is_last_batch_of_fit


class TrainingRows(Checkpoint):
    """Logs the learning rates with the losses, and all of them at the last step as well.

    `lr` is the rate of the step that the losses are of. An optimiser with several groups of
    parameters has `lr/<name>`, or `lr/pg1`, `lr/pg2`, ... where its groups have no names of their
    own; the second of several optimisers has `lr/2` for `lr`, and `lr/2/<name>` of a group.

    A run logs every `trainer.log_every_n_steps`; the step that it ends with is logged whatever its
    number, but where logging is off (0).

    It is a `Checkpoint` because Lightning runs these after all other callbacks: one of those may
    have ended the run with this batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rates: dict[str, float | Tensor] = {}
        self._every: int | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the rates, which a schedule may change before the losses are logged."""
        self._rates = learning_rates(trainer.optimizers)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Adds the rates to what Lightning logs next."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self._every is None and is_last_batch_of_fit(trainer):
            self._every = every
            trainer.log_every_n_steps = 1  # type: ignore[attr-defined]
        if trainer._logger_connector.should_update_logs:
            pl_module.log_dict(self._rates, batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the Trainer as it was."""
        self._put_back(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the Trainer as it was."""
        self._put_back(trainer)

    def _put_back(self, trainer: Trainer) -> None:
        if self._every is not None:
            trainer.log_every_n_steps = self._every  # type: ignore[attr-defined]
        self._every = None


def learning_rates(optimizers: Iterable[Optimizer]) -> dict[str, float | Tensor]:
    """The rates of all groups of parameters, by the names of `TrainingRows`."""
    optimizers = list(optimizers)
    rates = {}
    for number, optimizer in enumerate(optimizers, start=1):
        key = "lr" if number == 1 else f"lr/{number}"
        groups = optimizer.param_groups
        times = Counter(group.get("name") for group in groups)
        for place, group in enumerate(groups, start=1):
            name = group.get("name")
            own = name if name and times[name] == 1 else f"pg{place}"
            rate = group["lr"]
            # A schedule changes a rate that is a tensor in its place.
            rates[key if len(groups) == 1 else f"{key}/{own}"] = (
                rate.clone() if isinstance(rate, Tensor) else rate
            )
    return rates
