"""Dice and Jaccard of predicted masks, and the pooled IoU of each class."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.metrics.bootstrap import Bootstrap
from callbacks.metrics.items import Figures, ItemMetrics, Measured, Stage
from callbacks.metrics.overlap import overlap_of, pixel_counts
from callbacks.pictures import prediction_over_truth
from callbacks.publishing import Kind
from meddiff.core.protocols import can_segment
from meddiff.core.ranges import NonNegativeInt, OpenUnitInterval, Seed, check_ranges


class SegmentationMetrics(ItemMetrics):
    """Measures masks in validation and test, where the module predicts them and the data has them.

    `dice` and `jaccard` are means over images of the foreground's overlap. Pixels marked 255 do
    not count, and an image with no foreground in the mask or in the prediction scores 1. With more
    than two classes an image scores the mean over the foreground classes that it has in the mask or
    in the prediction, and `jaccard_class<k>` is the mean over the images that have class k (1
    where none has it).

    `miou` is the mean over all K classes, background included, of an IoU whose intersection and
    union are pooled over the pixels of the whole set (docs/papers/hybrid.md, 2e, for faces), so
    that a class counts by its pixels and not by its images; a class that is nowhere scores 0. With
    more than two classes `iou_class<k>`, k = 0 to K - 1, is that of each.

    Test adds bootstrap confidence limits over images, `test/jaccard_lo` and `test/jaccard_hi`
    (the same for dice), writes `test_metrics.csv`, one row an image with its file, and draws images
    evenly spread over the set in `samples/test-<step>.png`, the predicted outlines (a colour a
    class) over the true ones (white); the step is that of the checkpoint. The picture goes to
    TensorBoard and W&B where these are on. A run on several processes gives exactly the figures of
    one process.

    Args:
        bootstrap: Resamples of the images for the limits; 0 leaves them out.
        confidence: Share of resamples between the limits.
        seed: Seed of the resampling.
        num: Images in the picture of a test, or all where a set has fewer; 0 draws none.

    Raises:
        ValueError: If an argument is out of its range.
    """

    key = "metrics"
    table = "test_metrics.csv"
    pictures: ClassVar[Mapping[Stage, Kind]] = {"test": "test_segmentations"}

    def __init__(
        self,
        bootstrap: NonNegativeInt = 1000,
        confidence: OpenUnitInterval = 0.95,
        seed: Seed = 0,
        num: NonNegativeInt = 16,
    ) -> None:
        check_ranges(SegmentationMetrics, locals())
        super().__init__(num, Bootstrap(bootstrap, confidence, seed) if bootstrap else None)

    def measure(
        self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]
    ) -> Measured | None:
        """Counts the pixels of each class."""
        if not can_segment(module) or "mask" not in batch:
            return None
        image, mask = batch["image"], batch["mask"]
        with trainer.precision_plugin.forward_context():
            logits = module.segment(image)
        predicted = logits.argmax(dim=1)

        def draw(wanted: Tensor) -> Tensor:
            return prediction_over_truth(image[wanted], predicted[wanted], mask[wanted])

        counts = pixel_counts(predicted, mask, logits.shape[1]).flatten(1)
        return Measured(counts, logits.isfinite().flatten(1).all(1), draw)

    def figures(self, rows: np.ndarray) -> Figures:
        """Computes the overlap of all images from their counts, shape (N, 3 K)."""
        overlap = overlap_of(rows.reshape(len(rows), -1, 3))
        by_image = {"dice": overlap.dice, "jaccard": overlap.jaccard}
        logged = {name: values.mean() for name, values in by_image.items()}
        logged["miou"] = overlap.class_iou.mean()
        by_class = {}
        if len(overlap.class_iou) > 2:
            logged |= {f"iou_class{k}": iou for k, iou in enumerate(overlap.class_iou)}
            by_class = {
                f"jaccard_class{k}": values
                for k, values in enumerate(overlap.class_jaccard.T, start=1)
            }
            logged |= {name: _mean_where_present(values) for name, values in by_class.items()}
        return Figures(logged, by_image | by_class, limited=by_image)


def _mean_where_present(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else 1.0
