"""What all modules share that learn masks by cross-entropy."""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from meddiff.core.losses import cross_entropy
from meddiff.core.module import MedDiffModule
from meddiff.core.randomness import step_generator
from meddiff.core.ranges import ClassCount


class Segmenter(MedDiffModule):
    """A network from images to logits, trained by the mean cross-entropy over the pixels.

    Pixels marked 255 do not count.

    Args:
        num_classes: K, background included.
        **kwargs: As `MedDiffModule`.
    """

    def __init__(self, num_classes: ClassCount = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @abstractmethod
    def segment(self, image: Tensor) -> Tensor:
        """Logits (B, K, H, W), float32, of images (B, C, H, W) in [-1, 1]."""

    @property
    def supports_fp16(self) -> bool:
        """Cross-entropy at one noise level can take fp16 with a gradient scaler."""
        return True

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy in float32, a scalar.

        Args:
            batch: `image` (B, C, H, W) in [-1, 1] and `mask` (B, H, W) of class ids.

        Raises:
            ValueError: If the batch has no masks.
        """
        if "mask" not in batch:
            raise ValueError(f"{type(self).__name__}: the batch has no `mask`; give labels")
        return cross_entropy(self.segment(batch["image"]), batch["mask"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """The loss of one batch; dropout is keyed by (seed, batches seen, rank)."""
        step_generator(self, self.hparams["seed"])
        loss = self.loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs `val/loss`; the metrics callback calls `segment`."""
        self.log("val/loss", self.loss(batch), batch_size=len(batch["image"]), sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Masks (B, H, W) of a batch of images, the logits they are the argmax of, their index.

        Raises:
            ValueError: If the batch has no images.
        """
        if "image" not in batch:
            raise ValueError(
                f"{type(self).__name__} segments images and generates none; "
                "give a data module with images, not NoiseDataModule"
            )
        logits = self.segment(batch["image"])
        return {"mask": logits.argmax(1), "logits": logits, "index": batch["index"]}
