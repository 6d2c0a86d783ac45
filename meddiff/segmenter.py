"""What all modules share that learn masks by cross-entropy."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from meddiff.checkpoint import CheckpointError
from meddiff.losses import cross_entropy
from meddiff.optimization import AdamWModule
from meddiff.randomness import step_generator


class Segmenter(AdamWModule, ABC):
    """A network from images to logits, trained by the mean cross-entropy over the pixels.

    A subclass gives ``segment`` and ``networks``, and its hyper-parameters hold ``seed``,
    ``learning_rate``, ``adam_betas``, ``adam_eps``, ``weight_decay`` and ``warmup_steps``.
    Pixels marked 255 do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self._start_error: CheckpointError | None = None
        self._has_weights = False

    def load_start(self) -> None:
        """Loads the weights that a new fit starts from; without any, training is from scratch.

        Raises:
            CheckpointError: Where they are not there or do not fit.
        """

    def setup(self, stage: str) -> None:
        """Loads, once, what a new fit starts from; a restored module keeps its weights."""
        if stage != "fit" or self._has_weights:
            return
        try:
            self.load_start()
            self._has_weights = True
        except CheckpointError as error:
            # Where the run is resumed its checkpoint is read after this hook.
            self._start_error = error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes that the weights are those of a checkpoint."""
        self._has_weights = True

    def on_fit_start(self) -> None:
        """Stops a new fit whose start could not be loaded; a resumed one does not need it.

        Raises:
            CheckpointError: What loading raised.
        """
        if self._start_error is not None and not self._has_weights:
            raise self._start_error

    @abstractmethod
    def segment(self, image: Tensor) -> Tensor:
        """Logits (B, K, H, W), float32, of images (B, C, H, W) in [-1, 1]."""

    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """The trainable networks."""

    @property
    def supports_fp16(self) -> bool:
        """Cross-entropy at one noise level bears fp16 with a gradient scaler."""
        return True

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy in float32, a scalar.

        Args:
            batch: ``image`` (B, C, H, W) in [-1, 1] and ``mask`` (B, H, W) of class ids.

        Raises:
            ValueError: Where the batch has no masks.
        """
        if "mask" not in batch:
            raise ValueError(f"{type(self).__name__}: the batch has no `mask`; give labels")
        logits = self.segment(batch["image"])
        with torch.autocast(logits.device.type, enabled=False):
            return cross_entropy(logits, batch["mask"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """The loss of one batch; dropout is keyed by (seed, batches seen, rank)."""
        step_generator(self, self.hparams["seed"])
        loss = self.loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs ``val/loss``; the metrics callback calls ``segment``."""
        self.log("val/loss", self.loss(batch), batch_size=len(batch["image"]), sync_dist=True)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: the metrics callback calls ``segment``."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Masks (B, H, W) of a batch of images, and their index.

        Raises:
            ValueError: Where the batch has no images.
        """
        if "image" not in batch:
            raise ValueError(
                f"{type(self).__name__} segments images and generates none; "
                "give a data module with images, not NoiseDataModule"
            )
        return {"mask": self.segment(batch["image"]).argmax(1), "index": batch["index"]}
