"""What every module of the project stands on."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from meddiff.core.checkpoint import IDENTITY, identity_of
from meddiff.core.presets import Preset, PresetTable, resolve_preset
from meddiff.core.ranges import PositiveInt, Seed, check_ranges


class MedDiffModule(LightningModule, ABC):
    """A module with presets, whose checkpoints say what it is.

    A subclass names the arguments that it uses and passes the others on as `**kwargs`. All of them,
    of the subclass and of its bases, are in `hparams` once this class is initialised, those that
    are None replaced by what the preset has for them.

    Args:
        preset: `paper`, `small` (an hour on two cores) or `tiny` (tests and demos): what the
            arguments that are None stand for, see the method's `presets.py`.
        image_size: Height and width in pixels.
        in_channels: Channels of the images.
        seed: Seed of what the module draws: noise, time indices, dropout, new layers.

    Raises:
        ValueError: If there is no such preset, or a number is out of the range that its annotation
            says.
    """

    presets: ClassVar[PresetTable]
    """The sizes of the method by the names of presets."""

    def __init__(
        self,
        preset: Preset = "paper",
        image_size: PositiveInt = 256,
        in_channels: PositiveInt = 3,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        # Resolved values are saved, so that a checkpoint outlives a change of the presets.
        self.hparams.update(self.filled(self.hparams))
        check_ranges(type(self), self.hparams)

    @classmethod
    def preset_table(cls, given: Mapping[str, Any]) -> PresetTable:
        """The table that `preset` is looked up in, for arguments as they were given."""
        return cls.presets

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as a module that is made with them uses them; makes none.

        Args:
            given: Arguments by name, `preset` among them; None stands for "not given".
        """
        return resolve_preset(cls.preset_table(given), given["preset"], given)

    @property
    def hparams_initial(self) -> AttributeDict:
        """What Lightning sends to the loggers: the values that are used, not the Nones given."""
        return copy.deepcopy(AttributeDict(self.hparams))

    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """The trainable networks: what EMA averages and what is compiled."""

    @abstractmethod
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """The loss of one batch; every draw is keyed by (seed, batches seen, rank)."""

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: the metrics callbacks ask the module through its protocols."""

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips in every precision and logs the norm before it."""
        # Those of this optimiser: a module may have several.
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = clip_gradients(parameters, gradient_clip_val, gradient_clip_algorithm)
        self.log("train/grad_norm", norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes which class this is, for `meddiff.load`."""
        checkpoint[IDENTITY] = identity_of(self)


def clip_gradients(
    parameters: Sequence[nn.Parameter], max_norm: int | float | None, algorithm: str | None
) -> Tensor:
    """Clips gradients in place, whatever the precision and the optimiser.

    Lightning's own clipping refuses fused optimisers under mixed precision, and waits for the
    device.

    Args:
        parameters: Those whose gradients are clipped.
        max_norm: The limit; None or 0 only measures.
        algorithm: `norm` (also None) or `value`.

    Returns:
        The gradient norm before clipping, a scalar on the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm and algorithm == "value":
        torch.nn.utils.clip_grad_value_(parameters, max_norm)
    elif max_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, float(max_norm), norm)
    return norm
