"""PSNR, SSIM and the Dice of K-means clusters of translated slices."""

from collections.abc import Mapping
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from callbacks.metrics.items import Figures, ItemMetrics, Measured, Stage
from callbacks.metrics.kmeans import fit_clusters, label_clusters
from callbacks.metrics.similarity import check_shapes, check_size, slice_scores
from callbacks.pictures import to_colours, to_rgb
from callbacks.publishing import Kind
from meddiff.core.protocols import ProvidesReference, SupportsTranslation, can_translate
from meddiff.core.randomness import item_generators
from meddiff.core.ranges import NonNegativeInt, Seed, TwoOrMore, check_ranges


class TranslationMetrics(ItemMetrics):
    """Measures translations in validation and test, where batches have `source` and `target`.

    Every slice is translated once, with random numbers keyed by the module's seed and the slice's
    index in its split: the figures depend neither on the batch size nor on the number of processes.
    `predict` draws the same where its split holds the same slices, none without a partner.
    Figures are of grey levels in [0, 1], clamped, a value a slice (docs/papers/lmi.md, 5e):

    - `psnr`: in dB, with data range 1; equal images have 100 dB (an error floored at 1e-10);
    - `ssim`: Gaussian window of 11 x 11 pixels, sigma 1.5, data range 1, the mean over the
      windows that lie inside the slice;
    - `kmeans_dice`: K-means is fitted on the grey levels of all training slices of the target
      (of five million of their pixels where there are more), and its centroids label the translated
      and the true slice. It is the mean Dice over the clusters that either slice has, without the
      darkest, which is the background (5e); a pair of slices with background alone scores 1. Left
      out where the data module has no `reference_images`, or none of the target.

    The mean over slices is logged under these names and the sample standard deviation (0 for one
    slice) under `<name>_sd`. Test writes `test_translation.csv`, one row a slice.

    `test` and `validate` draw slices, evenly spread over the set, from what was measured, in
    `samples/test-<step>.png` and `samples/validate-<step>.png`; the step is that of the
    checkpoint. A line is a slice: source, translated, true target and, where there are clusters,
    those of the translated and of the true slice (the darkest black). They go to TensorBoard and
    W&B where these are on.

    Args:
        clusters: Clusters of grey levels, the background among them.
        seed: Seed of K-means.
        num: Slices in a picture, or all where a set has fewer; 0 draws none.

    Raises:
        ValueError: If an argument is out of its range.
    """

    key = "translation"
    table = "test_translation.csv"
    pictures: ClassVar[Mapping[Stage, Kind]] = {
        "test": "test_translations",
        "val": "validation_translations",
    }

    def __init__(self, clusters: TwoOrMore = 5, seed: Seed = 0, num: NonNegativeInt = 8) -> None:
        check_ranges(TranslationMetrics, locals())
        super().__init__(num)
        self.clusters = clusters
        self.seed = seed
        self._fitted = False
        self._centroids: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets the clusters of other data."""
        super().setup(trainer, pl_module, stage)
        self._fitted, self._centroids = False, None

    def measure(
        self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]
    ) -> Measured | None:
        """Translates a batch and compares it with the truth."""
        if not can_translate(module) or not {"source", "target"} <= set(batch):
            return None
        check_size(batch["target"])
        if not self._fitted:
            self._centroids = self._fit(trainer)
            self._fitted = True
        made = _translated(trainer, module, batch["source"], batch["index"])
        # On the CPU in double precision, so that the figures are those of any machine.
        source, translated, target = (
            tensor.detach().cpu() for tensor in (batch["source"], made, batch["target"])
        )
        check_shapes(translated, target)

        def draw(wanted: Tensor) -> Tensor:
            return self._lines(source[wanted], translated[wanted], target[wanted])

        finite = translated.isfinite().flatten(1).all(1)
        # The scores of what is not finite are looked at by nobody.
        scores = slice_scores(translated.nan_to_num(), target, self._centroids)
        return Measured(scores, finite, draw)

    def figures(self, rows: np.ndarray) -> Figures:
        """Mean and standard deviation of each column of `slice_scores`, the clusters' aside."""
        scores = dict(zip(("psnr", "ssim", "kmeans_dice"), rows.T, strict=False))
        logged = {}
        for name, values in scores.items():
            logged[name] = values.mean()
            logged[f"{name}_sd"] = values.std(ddof=1) if len(values) > 1 else 0.0
        clusters = {f"kmeans_dice_cluster{k}": dice for k, dice in enumerate(rows.T[3:])}
        return Figures(logged, scores | clusters)

    def _fit(self, trainer: Trainer) -> Tensor | None:
        """The clusters, fitted by the first process for all."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ProvidesReference):
            rank_zero_warn(
                "translation: no K-means Dice, since it is fitted on training images of the "
                "target, which a data module gives by `reference_images`"
            )
            return None
        fitted = None
        if trainer.is_global_zero:
            images = data.reference_images("target")
            first = next(images, None)
            if first is None:
                rank_zero_warn(
                    "translation: no K-means Dice, since it is fitted on training images of the "
                    "target, and the data at hand have none"
                )
            else:
                fitted = fit_clusters(chain([first], images), self.clusters, self.seed)
        shared: Tensor | None = trainer.strategy.broadcast(fitted)
        return shared

    def _lines(self, source: Tensor, translated: Tensor, target: Tensor) -> Tensor:
        """Tiles of slices, uint8, shape (n, 3 or 5, 3, H, W)."""
        tiles = [to_rgb(image) for image in (source, translated, target)]
        if self._centroids is not None:
            for image in (translated, target):
                tiles.append(to_colours(label_clusters(image, self._centroids)))
        return torch.stack(tiles, dim=1)


def _translated(
    trainer: Trainer, module: SupportsTranslation, source: Tensor, index: Tensor
) -> Tensor:
    seed = int(module.hparams.get("seed", 0))  # type: ignore[attr-defined]
    with trainer.precision_plugin.forward_context():
        return module.translate(source, item_generators(seed, index))
