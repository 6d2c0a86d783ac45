"""Dice and Jaccard of predicted masks, and the pooled IoU of each class."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.functional.classification import multiclass_stat_scores

from callbacks.distributed import gather_rows
from callbacks.files import atomic_write
from meddiff.core.losses import IGNORE
from meddiff.core.protocols import can_segment


@dataclass(frozen=True)
class Scores:
    """Overlap of each image's predicted and true mask.

    Attributes:
        index: Position of the image in its split, ascending, shape (N,).
        dice: 2 |P and T| / (|P| + |T|) of the foreground, shape (N,).
        jaccard: |P and T| / |P or T| of the foreground, shape (N,).
        class_jaccard: The same a foreground class, NaN where an image has it neither in the mask
            nor in the prediction, shape (N, K - 1).
        class_iou: |P and T| / (|P or T| + 1e-8) of every class, background first, both sums over
            the pixels of all images together, shape (K,); 0 for a class that no image has.
    """

    index: np.ndarray
    dice: np.ndarray
    jaccard: np.ndarray
    class_jaccard: np.ndarray
    class_iou: np.ndarray


class SegmentationMetrics(Callback):
    """Measures masks in validation and test, where the module predicts them and the data has them.

    ``dice`` and ``jaccard`` are means over images of the foreground's overlap. Pixels marked 255 do
    not count, and an image with no foreground in the mask or in the prediction scores 1. With more
    than two classes an image scores the mean over the foreground classes that it has in the mask or
    in the prediction, and ``jaccard_class<k>`` is the mean over the images that have class k (1
    where none has it).

    ``miou`` is the mean over all K classes, background included, of an IoU whose intersection and
    union are pooled over the pixels of the whole set (papers/hybrid.md, 2e, for faces), so that a
    class counts by its pixels and not by its images; a class that is nowhere scores 0. With more
    than two classes ``iou_class<k>``, k = 0 to K - 1, is that of each.

    Test adds bootstrap confidence limits over images, ``test/jaccard_lo`` and ``test/jaccard_hi``
    (the same for dice), and writes ``test_metrics.csv``, one row an image. A run on several
    processes gives exactly the figures of one process.

    Args:
        bootstrap: Resamples of the images for the limits; 0 leaves them out.
        confidence: Share of resamples between the limits.
        seed: Seed of the resampling.

    Raises:
        ValueError: Where an argument is out of its range.
    """

    def __init__(self, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0) -> None:
        super().__init__()
        if bootstrap < 0:
            raise ValueError(f"metrics.bootstrap: {bootstrap} is negative")
        if not 0 < confidence < 1:
            raise ValueError(f"metrics.confidence: {confidence} is not between 0 and 1")
        self.bootstrap = bootstrap
        self.confidence = confidence
        self.seed = seed
        self._rows: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of images."""
        self._rows = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of images."""
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts pixels of a batch."""
        if not trainer.sanity_checking:
            self._count(trainer, pl_module, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts pixels of a batch."""
        self._count(trainer, pl_module, batch)

    def _count(self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]) -> None:
        if not can_segment(module) or "mask" not in batch:
            return
        with trainer.precision_plugin.forward_context():
            logits = module.segment(batch["image"])
        counts = pixel_counts(logits, batch["mask"])
        index = batch["index"].to(counts.device)
        self._rows.append(torch.cat([index[:, None], counts.flatten(1)], dim=1))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the means."""
        if not trainer.sanity_checking:
            self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the means with their limits and writes the table of images."""
        scores = self._log(trainer, pl_module, "test")
        if scores is None:
            return
        if self.bootstrap:
            for name, values in (("dice", scores.dice), ("jaccard", scores.jaccard)):
                low, high = bootstrap_limits(values, self.bootstrap, self.confidence, self.seed)
                _log(pl_module, {f"test/{name}_lo": low, f"test/{name}_hi": high})
        if trainer.is_global_zero:
            write_table(Path(trainer.default_root_dir) / "test_metrics.csv", scores)

    def _log(self, trainer: Trainer, module: LightningModule, stage: str) -> Scores | None:
        rows, self._rows = self._rows, []
        # All processes or none have rows: Lightning calls no hook where a process has no batch.
        if not rows:
            return None
        scores = scores_of(gather_rows(trainer, torch.cat(rows)))
        figures = {
            f"{stage}/dice": scores.dice.mean(),
            f"{stage}/jaccard": scores.jaccard.mean(),
            f"{stage}/miou": scores.class_iou.mean(),
        }
        if len(scores.class_iou) > 2:
            for k, iou in enumerate(scores.class_iou):
                figures[f"{stage}/iou_class{k}"] = iou
            for k, values in enumerate(scores.class_jaccard.T, start=1):
                present = values[~np.isnan(values)]
                mean = present.mean() if len(present) else 1.0
                figures[f"{stage}/jaccard_class{k}"] = mean
        _log(module, figures)
        return scores


def _log(module: LightningModule, figures: Mapping[str, float]) -> None:
    # Every process logs the same values: they were computed from the same rows.
    module.log_dict({name: float(value) for name, value in figures.items()}, batch_size=1)


def pixel_counts(logits: Tensor, mask: Tensor) -> Tensor:
    """Counts pixels of each class in each image.

    Args:
        logits: Predictions, shape (B, K, H, W).
        mask: Class ids, 255 where a pixel does not count, shape (B, H, W).

    Returns:
        True positives, false positives and false negatives, int64, shape (B, K, 3), background
        first.
    """
    counts = multiclass_stat_scores(
        logits.argmax(dim=1),
        mask,
        num_classes=logits.shape[1],
        average="none",
        multidim_average="samplewise",
        ignore_index=IGNORE,
        validate_args=False,  # it looks at the values, which waits for the device
    )
    return counts[:, :, [0, 1, 3]]


def scores_of(rows: Tensor) -> Scores:
    """Turns counts into scores, each image once and in the order of the split.

    Args:
        rows: Index and flattened :func:`pixel_counts` of images in any order, where an image may
            come twice, shape (N, 1 + 3 K).
    """
    table = rows.cpu().numpy()
    index, first = np.unique(table[:, 0], return_index=True)
    counts = table[first, 1:].reshape(len(index), -1, 3)
    # Summed as integers, so that the order of the images cannot matter.
    pooled = counts.sum(axis=0)
    hit, extra, missed = counts[:, 1:].astype(np.float64).T
    present = (hit + extra + missed).T > 0
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that marks an absent class
        class_dice = (2 * hit / (2 * hit + extra + missed)).T
        class_jaccard = (hit / (hit + extra + missed)).T
    return Scores(
        index,
        _mean_of_present(class_dice, present),
        _mean_of_present(class_jaccard, present),
        class_jaccard,
        pooled[:, 0] / (pooled.sum(axis=1) + 1e-8),
    )


def _mean_of_present(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    total = np.where(present, values, 0).sum(axis=1)
    number = present.sum(axis=1)
    mean: np.ndarray = np.where(number > 0, total / np.maximum(number, 1), 1.0)
    return mean


def bootstrap_limits(
    values: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Percentile confidence limits of a mean.

    Args:
        values: One value an image, shape (N,).
        resamples: How often N images are drawn with replacement.
        confidence: Share of the drawn means between the limits.
        seed: Seed of the draws.
    """
    draw = np.random.default_rng(seed)
    size = len(values)
    means = [values[draw.integers(size, size=size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def write_table(path: Path, scores: Scores) -> None:
    """Writes one row an image: index, dice, jaccard and, with several classes, each class's."""
    classes = scores.class_jaccard.shape[1]
    names = [f"jaccard_class{k}" for k in range(1, classes + 1)] if classes > 1 else []
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["index", "dice", "jaccard", *names])
    for row, index in enumerate(scores.index.tolist()):
        per_class = scores.class_jaccard[row].tolist() if names else []
        writer.writerow([index, scores.dice[row], scores.jaccard[row], *per_class])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
