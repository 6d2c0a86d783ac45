"""A test or a validation that measures nothing is a mistake, and no success in silence."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_app.errors import UsageError
from meddiff.core.protocols import SupportsSampling


def check_measured(trainer: Trainer, module: LightningModule, subcommand: str) -> None:
    """Stops where neither the module nor a metric logged a figure; to be called on all processes.

    Args:
        trainer: At the end of the test or validation.
        module: The module that was to be measured.
        subcommand: `test` or `validate`.

    Raises:
        UsageError: If nothing was logged; says what can be done with the module.
    """
    if trainer.strategy.broadcast(bool(trainer.callback_metrics)):
        return
    name = type(module).__name__
    instead = []
    if subcommand == "test" and is_overridden("validation_step", module, LightningModule):
        instead.append("`lightning validate` gives its validation loss")
    if isinstance(module, SupportsSampling):
        instead.append("`lightning predict --data NoiseDataModule` its samples")
    raise UsageError(
        f"{subcommand}: nothing was measured. {name} as it is set up logs no figure itself, and "
        "the metrics take one that segments or translates, on images with masks or targets\n"
        + (f"For the same checkpoint {', '.join(instead)}" if instead else "Give such a one")
    )
