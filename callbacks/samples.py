"""Pictures of what the module makes while it is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks.distributed import gather_rows
from callbacks.ema import ema_weights
from callbacks.pictures import draw_outlines, grid_of, lines_of, prediction_over_truth, to_rgb
from callbacks.publishing import first_loader, is_missing, publish, spread_items
from callbacks.steps import Every
from meddiff.core.precision import require_finite
from meddiff.core.protocols import (
    SupportsSampling,
    SupportsSegmentation,
    SupportsTranslation,
    can_sample,
    can_segment,
    can_translate,
)
from meddiff.core.randomness import item_generators
from meddiff.core.ranges import NonNegativeInt, PositiveInt, Seed, check_ranges


class SampleGrid(Callback):
    """Every N steps, and at the end of training, draws what the module makes.

    - `samples/step-<step>.png`: images from fixed noise, with the outlines of their masks where
      the module makes masks;
    - `samples/segment-<step>.png`: validation images, evenly spread over the set, with the
      predicted outlines (a colour a class) over the true ones (white);
    - `samples/translate-<step>.png`: where the module translates and makes no samples, validation
      images evenly spread over the set, a line an image: the input (`source` where batches have
      it, else `image`), its translation and, where batches have it, the true `target`. Without
      a validation set they are training images, augmented as they are in training.

    All use the averaged weights where there are any, go to TensorBoard and W&B where these are on,
    and leave training as it was: no random number that training draws depends on them. Each process
    makes its share. A file that is there already is kept. Pictures of a test are drawn by what
    measures it, `SegmentationMetrics` and `TranslationMetrics`.

    Args:
        every_n_steps: Optimiser steps between two grids.
        num: Pictures in a grid, or all where a set has fewer; 0 draws none.
        seed: Seed of the noise of samples and translations.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self, every_n_steps: PositiveInt = 1000, num: NonNegativeInt = 16, seed: Seed = 0
    ) -> None:
        super().__init__()
        check_ranges(SampleGrid, locals())
        self._every = Every(every_n_steps)
        self.num = num
        self.seed = seed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the run stands."""
        self._every.start(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Draws where a multiple of N was reached."""
        if self._every.crossed(trainer):
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the final weights."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.num:
            return
        step = trainer.global_step
        with _for_drawing(trainer, module):
            if can_sample(module) and is_missing(trainer, "samples", step):
                publish(trainer, "samples", grid_of(self._sampled(trainer, module)), step)
            if can_segment(module) and is_missing(trainer, "segmentations", step):
                tiles = self._segmented(trainer, module)
                if tiles is not None:
                    publish(trainer, "segmentations", grid_of(tiles), step)
            if (
                can_translate(module)
                and not can_sample(module)
                and is_missing(trainer, "translations", step)
            ):
                tiles = self._translated(trainer, module)
                if tiles is not None:
                    publish(trainer, "translations", lines_of(tiles), step)

    def _sampled(self, trainer: Trainer, module: SupportsSampling) -> Tensor:
        own = _share(trainer, list(range(self.num)))
        made = module.sample(len(own), generator=item_generators(self.seed, own))
        tiles = to_rgb(made["image"])
        if "mask" in made:
            tiles = draw_outlines(tiles, made["mask"])
        return _joined(trainer, tiles, self.num)

    def _segmented(self, trainer: Trainer, module: SupportsSegmentation) -> Tensor | None:
        loader = first_loader(trainer.val_dataloaders)
        if loader is None:
            return None
        items = spread_items(self.num, len(loader.dataset))  # type: ignore[arg-type]
        batch = _batch_of(trainer, loader, _share(trainer, items))
        if "mask" not in batch:
            return None
        logits = require_finite(module.segment(batch["image"]), "segmentations")
        predicted = logits.argmax(dim=1)
        tiles = prediction_over_truth(batch["image"], predicted, batch["mask"])
        return _joined(trainer, tiles, len(items))

    def _translated(self, trainer: Trainer, module: SupportsTranslation) -> Tensor | None:
        loader = first_loader(trainer.val_dataloaders) or first_loader(trainer.train_dataloader)
        if loader is None:
            return None
        items = spread_items(self.num, len(loader.dataset))  # type: ignore[arg-type]
        own = _share(trainer, items)
        batch = _batch_of(trainer, loader, own)
        source = batch["source" if "source" in batch else "image"]
        shown = [source, module.translate(source, item_generators(self.seed, own))]
        if "target" in batch:
            shown.append(batch["target"])
        tiles = torch.stack([to_rgb(image) for image in shown], dim=1)
        return _joined(trainer, tiles, len(items))


def _batch_of(trainer: Trainer, loader: DataLoader[Any], items: list[int]) -> Any:
    """These items of a loader's set, on the device."""
    batch = loader.collate_fn([loader.dataset[item] for item in items])
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def _share(trainer: Trainer, items: list[int]) -> list[int]:
    """Every world-th item, as many on each process: some get a first item again."""
    per_process = -(-len(items) // trainer.world_size)
    places = [trainer.global_rank + n * trainer.world_size for n in range(per_process)]
    return [items[place % len(items)] for place in places]


def _joined(trainer: Trainer, own: Tensor, num: int) -> Tensor:
    """All shares in the order of the items, without the repeated ones."""
    gathered = gather_rows(trainer, own)
    by_rank = gathered.reshape(trainer.world_size, -1, *gathered.shape[1:])
    return by_rank.transpose(0, 1).flatten(0, 1)[:num]


@contextmanager
def _for_drawing(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """The module as it is used, not trained; everything is as before after it."""
    with (
        torch.no_grad(),
        isolate_rng(),
        _evaluation_mode(module),
        ema_weights(trainer),
        trainer.precision_plugin.forward_context(),
    ):
        yield


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and each part's own mode again after (frozen parts stay frozen)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
