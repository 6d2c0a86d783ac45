"""How much predicted and true masks overlap."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchmetrics.functional.classification import multiclass_stat_scores

from meddiff.core.losses import IGNORE


@dataclass(frozen=True)
class Overlap:
    """Overlap of each image's predicted and true mask.

    Attributes:
        dice: 2 |P and T| / (|P| + |T|) of the foreground, shape (N,).
        jaccard: |P and T| / |P or T| of the foreground, shape (N,).
        class_jaccard: The same a foreground class, NaN where an image has it neither in the mask
            nor in the prediction, shape (N, K - 1).
        class_iou: |P and T| / (|P or T| + 1e-8) of every class, background first, both sums over
            the pixels of all images together, shape (K,); 0 for a class that no image has.
    """

    dice: np.ndarray
    jaccard: np.ndarray
    class_jaccard: np.ndarray
    class_iou: np.ndarray


def pixel_counts(predicted: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts pixels of each class in each image.

    Args:
        predicted: Class ids, shape (B, H, W).
        mask: Class ids, 255 where a pixel does not count, shape (B, H, W).
        num_classes: K.

    Returns:
        True positives, false positives and false negatives, int64, shape (B, K, 3), background
        first.
    """
    counts = multiclass_stat_scores(
        predicted,
        mask,
        num_classes=num_classes,
        average="none",
        multidim_average="samplewise",
        ignore_index=IGNORE,
        validate_args=False,  # it looks at the values, which waits for the device
    )
    return counts[:, :, [0, 1, 3]]


def overlap_of(counts: np.ndarray) -> Overlap:
    """Computes the overlap of images from their `pixel_counts`, shape (N, K, 3)."""
    # Summed as integers, so that the order of the images cannot matter.
    pooled = counts.sum(axis=0)
    hit, extra, missed = counts[:, 1:].astype(np.float64).T
    present = (hit + extra + missed).T > 0
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that marks an absent class
        class_dice = (2 * hit / (2 * hit + extra + missed)).T
        class_jaccard = (hit / (hit + extra + missed)).T
    return Overlap(
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
