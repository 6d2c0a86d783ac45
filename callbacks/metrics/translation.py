"""How near translated slices are to the true ones: PSNR, SSIM and the Dice of K-means clusters."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from callbacks.distributed import gather_rows
from callbacks.files import atomic_write
from callbacks.metrics.kmeans import cluster_dice, fit_clusters, label_clusters, mean_dice
from callbacks.pictures import lines_of, to_colours, to_rgb
from callbacks.predictions import NamesItems
from callbacks.publishing import Kind, first_loader, publish, spread_items
from meddiff.core.protocols import ProvidesReference, SupportsTranslation, can_translate
from meddiff.core.randomness import item_generators

WINDOW = 11
"""Pixels of a side of the SSIM's window."""

HIGHEST_PSNR = 100.0
"""PSNR in dB of equal images: the mean square error is not taken below 1e-10."""


@dataclass(frozen=True)
class TranslationScores:
    """How near each slice's translation is to the true slice.

    Attributes:
        index: Position of the slice in its split, ascending, shape (N,).
        psnr: In dB, shape (N,).
        ssim: Shape (N,).
        kmeans_dice: Mean Dice over the clusters without the darkest, shape (N,); None where there
            are no clusters.
        cluster_dice: Of each cluster, the darkest first, NaN where neither slice has it, shape
            (N, K); K is 0 where there are no clusters.
    """

    index: np.ndarray
    psnr: np.ndarray
    ssim: np.ndarray
    kmeans_dice: np.ndarray | None
    cluster_dice: np.ndarray

    def figures(self) -> dict[str, np.ndarray]:
        """What is logged, one value a slice."""
        dice = {} if self.kmeans_dice is None else {"kmeans_dice": self.kmeans_dice}
        return {"psnr": self.psnr, "ssim": self.ssim} | dice


class TranslationMetrics(Callback):
    """Measures translations in validation and test, where batches have ``source`` and ``target``.

    Every slice is translated once, with random numbers keyed by the module's seed and the slice's
    index in its split: the figures depend neither on the batch size nor on the number of processes.
    ``predict`` draws the same where its split holds the same slices, none without a partner.
    Figures are of grey levels in [0, 1], clamped, a value a slice (papers/lmi.md, 5e):

    - ``psnr``: in dB, with data range 1; equal images have 100 dB (an error floored at 1e-10);
    - ``ssim``: Gaussian window of 11 x 11 pixels, sigma 1.5, data range 1, the mean over the
      windows that lie inside the slice;
    - ``kmeans_dice``: K-means is fitted on the grey levels of all training slices of the target
      (of five million of their pixels where there are more), and its centroids label the translated
      and the true slice. It is the mean Dice over the clusters that either slice has, without the
      darkest, which is the background (5e); a pair of slices with background alone scores 1. Left
      out where the data module has no ``reference_images``.

    The mean over slices is logged under these names and the sample standard deviation (0 for one
    slice) under ``<name>_sd``. Test writes ``test_translation.csv``, one row a slice.

    ``test`` and ``validate`` draw slices, evenly spread over the set, from what was measured, in
    ``samples/test-<step>.png`` and ``samples/validate-<step>.png``; the step is that of the
    checkpoint. A line is a slice: source, translated, true target and, where there are clusters,
    those of the translated and of the true slice (the darkest black). They go to TensorBoard and
    W&B where these are on.

    Args:
        clusters: Clusters of grey levels, the background among them.
        seed: Seed of K-means.
        num: Slices in a picture, or all where a set has fewer; 0 draws none.

    Raises:
        ValueError: Where an argument is out of its range.
    """

    def __init__(self, clusters: int = 5, seed: int = 0, num: int = 8) -> None:
        super().__init__()
        if clusters < 2:
            raise ValueError(f"translation.clusters: {clusters} is not at least 2")
        if num < 0:
            raise ValueError(f"translation.num: {num} is negative")
        self.clusters = clusters
        self.seed = seed
        self.num = num
        self._tested_step: int | None = None
        self._fitted = False
        self._centroids: Tensor | None = None
        self._rows: list[Tensor] = []
        self._drawn = torch.empty(0)
        self._panels: list[tuple[Tensor, Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets the clusters of other data."""
        self._fitted, self._centroids = False, None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes the step of weights that are tested, which the Trainer does not restore."""
        if trainer.state.fn in (TrainerFn.TESTING, TrainerFn.VALIDATING):
            self._tested_step = int(checkpoint["global_step"])

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of slices."""
        drawn = self.num if trainer.state.fn == TrainerFn.VALIDATING else 0
        self._begin(trainer, drawn, trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of slices."""
        self._begin(trainer, self.num, trainer.test_dataloaders, trainer.num_test_batches)

    def _begin(self, trainer: Trainer, num: int, loaders: Any, batches: Any) -> None:
        self._rows, self._panels = [], []
        self._drawn = torch.empty(0, dtype=torch.int64)
        loader = first_loader(loaders)
        if loader is None or not num:
            return
        size = len(loader.dataset)  # type: ignore[arg-type]
        # With `limit_test_batches` the slices are spread over those that are measured.
        if loader.batch_size is not None:
            size = min(size, int(batches[0]) * loader.batch_size * trainer.world_size)
        self._drawn = torch.tensor(spread_items(num, size), dtype=torch.int64)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Translates a batch and measures it."""
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Translates a batch and measures it."""
        self._measure(trainer, pl_module, batch)

    def _measure(self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]) -> None:
        if not can_translate(module) or not {"source", "target"} <= set(batch):
            return
        source, target, index = batch["source"], batch["target"], batch["index"]
        check_size(target)
        if not self._fitted:
            self._centroids = self._fit(trainer)
            self._fitted = True
        translated = self._translate(trainer, module, source, index)
        # On the CPU in double precision, so that the figures are those of any machine.
        source, translated, target, index = (
            tensor.detach().cpu() for tensor in (source, translated, target, index)
        )
        check_shapes(translated, target)
        columns = slice_scores(translated, target, self._centroids)
        self._rows.append(torch.cat([index[:, None].double(), columns], dim=1))
        wanted = torch.isin(index, self._drawn)
        panels = self._panels_of(source[wanted], translated[wanted], target[wanted])
        self._panels.append((index[wanted], panels))

    @staticmethod
    def _translate(
        trainer: Trainer, module: SupportsTranslation, source: Tensor, index: Tensor
    ) -> Tensor:
        seed = int(module.hparams.get("seed", 0))  # type: ignore[attr-defined]
        with trainer.precision_plugin.forward_context():
            return module.translate(source, item_generators(seed, index))

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
            fitted = fit_clusters(data.reference_images("target"), self.clusters, self.seed)
        shared: Tensor | None = trainer.strategy.broadcast(fitted)
        return shared

    def _panels_of(self, source: Tensor, translated: Tensor, target: Tensor) -> Tensor:
        """Tiles of slices, uint8, shape (n, 3 or 5, 3, H, W)."""
        tiles = [to_rgb(image) for image in (source, translated, target)]
        if self._centroids is not None:
            for image in (translated, target):
                tiles.append(to_colours(label_clusters(image, self._centroids)))
        return torch.stack(tiles, dim=1)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the figures and, in ``validate``, draws the slices."""
        if trainer.sanity_checking or self._log(trainer, pl_module, "val") is None:
            return
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._draw(trainer, "validation_translations")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the figures, writes the table of slices and draws some."""
        scores = self._log(trainer, pl_module, "test")
        if scores is None:
            return
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "test_translation.csv"
            write_table(path, scores, _sources_of(trainer, scores.index))
        self._draw(trainer, "test_translations")

    def _log(
        self, trainer: Trainer, module: LightningModule, stage: str
    ) -> TranslationScores | None:
        rows, self._rows = self._rows, []
        # All processes or none have rows: Lightning calls no hook where a process has no batch.
        if not rows:
            return None
        scores = scores_of(gather_rows(trainer, torch.cat(rows)))
        for name, values in scores.figures().items():
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            # Every process logs the same values: they were computed from the same rows.
            module.log(f"{stage}/{name}", float(values.mean()), batch_size=1)
            module.log(f"{stage}/{name}_sd", float(spread), batch_size=1)
        return scores

    def _draw(self, trainer: Trainer, kind: Kind) -> None:
        panels, self._panels = self._panels, []
        step, self._tested_step = self._tested_step, None
        if not len(self._drawn):
            return
        index, tiles = (
            gather_rows(trainer, torch.cat(part)).cpu() for part in zip(*panels, strict=True)
        )
        # Each slice once, though a padded sampler gives some twice.
        _, first = np.unique(index.numpy(), return_index=True)
        picture = lines_of(tiles[torch.from_numpy(first)])
        publish(trainer, kind, picture, trainer.global_step if step is None else step)


def check_size(target: Tensor) -> None:
    """Raises ValueError where the SSIM's window does not fit into the slices."""
    height, width = target.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"translation: SSIM looks at windows of {WINDOW} x {WINDOW} pixels, and the slices are "
            f"{height} x {width}; raise data.init_args.image_size"
        )


def check_shapes(translated: Tensor, target: Tensor) -> None:
    """Raises ValueError where a translation has another shape than the true slice."""
    if translated.shape != target.shape:
        raise ValueError(
            "translation: `translate` gave images of shape (B, C, H, W) = "
            f"{tuple(translated.shape)}, and the true ones are {tuple(target.shape)}"
        )


def slice_scores(translated: Tensor, target: Tensor, centroids: Tensor | None) -> Tensor:
    """Measures slices.

    Args:
        translated: Shape (B, C, H, W) in [-1, 1].
        target: The true slices, the same shape and range.
        centroids: Of K-means, ascending, in [0, 1], shape (K,); None leaves the Dice out.

    Returns:
        PSNR, SSIM and, with centroids, the mean Dice and each cluster's, float64, shape (B, 2) or
        (B, 3 + K).
    """
    made, true = (((image.double() + 1) / 2).clamp(0, 1) for image in (translated, target))
    psnr = peak_signal_noise_ratio(
        made, true, data_range=1.0, reduction="none", dim=(1, 2, 3)
    ).clamp(max=HIGHEST_PSNR)
    columns = torch.stack([psnr, ssim(made, true)], dim=1)
    if centroids is None:
        return columns
    labels, true_labels = (label_clusters(image, centroids) for image in (translated, target))
    dice = cluster_dice(labels, true_labels, len(centroids))
    return torch.cat([columns, mean_dice(dice)[:, None], dice], dim=1)


def ssim(made: Tensor, true: Tensor) -> Tensor:
    """Mean SSIM over the windows inside each image (B, C, H, W) in [0, 1], shape (B,)."""
    # The map is cut here since torchmetrics' mean takes in windows that reach over the edge.
    _, whole = structural_similarity_index_measure(
        made,
        true,
        sigma=1.5,
        kernel_size=WINDOW,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = WINDOW // 2
    inside: Tensor = whole[..., edge:-edge, edge:-edge]
    return inside.flatten(1).mean(dim=1)


def scores_of(rows: Tensor) -> TranslationScores:
    """Sorts what was measured, each slice once.

    Args:
        rows: Index and :func:`slice_scores` of slices in any order, where a slice may come twice,
            shape (N, 3) or (N, 4 + K).
    """
    table = rows.cpu().numpy()
    index, first = np.unique(table[:, 0], return_index=True)
    _, psnr, similarity, *dice = table[first].T
    return TranslationScores(
        index.astype(np.int64),
        psnr,
        similarity,
        dice[0] if dice else None,
        np.stack(dice[1:], axis=1) if dice else np.empty((len(index), 0)),
    )


def write_table(path: Path, scores: TranslationScores, sources: list[str]) -> None:
    """Writes one row a slice.

    Args:
        path: The file.
        scores: The figures, then the Dice of each cluster, darkest first.
        sources: The name of each slice, empty where it has none.
    """
    figures = scores.figures()
    names = [f"kmeans_dice_cluster{k}" for k in range(scores.cluster_dice.shape[1])]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["index", "source", *figures, *names])
    for row, index in enumerate(scores.index.tolist()):
        per_slice = [values[row] for values in figures.values()]
        writer.writerow([index, sources[row], *per_slice, *scores.cluster_dice[row].tolist()])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _sources_of(trainer: Trainer, index: np.ndarray) -> list[str]:
    """The file of each slice, relative to the data root."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    named = isinstance(data, NamesItems)
    return [data.item_path("test", item) if named else "" for item in index.tolist()]
