"""Nothing but indices: what a module starts from when it generates."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from data_modules.batch import Batch
from data_modules.errors import DataError
from data_modules.kinds.ranges import (
    MaskClasses,
    NonNegativeInt,
    PositiveInt,
    Seed,
    check_ranges,
)
from data_modules.kinds.sampler import UnpaddedSampler
from data_modules.kinds.workers import outlive_signals


class _Indices(Dataset[Batch]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        return Batch(index=torch.tensor(index))


class NoiseDataModule(LightningDataModule):
    """Indices 0..num_samples-1 for `predict`: the module draws noise keyed by (seed, index).

    Args:
        num_samples: How many images are generated.
        image_size: Height and width in pixels; the command gives it to the model.
        in_channels: Channels of the images; the command gives it to the model.
        num_classes: Classes of the masks, background included; the command gives it to the model.
        batch_size: Images a device generates at a time; does not change them.
        num_workers: Processes that yield indices; 0 is enough.
        seed: The command gives the same seed to the model, which draws the noise.
    """

    def __init__(
        self,
        num_samples: PositiveInt = 16,
        image_size: PositiveInt = 256,
        in_channels: PositiveInt = 3,
        num_classes: MaskClasses = 2,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        check_ranges(NoiseDataModule, locals())
        self.num_samples = num_samples
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed

    def setup(self, stage: str) -> None:
        """Refuses every stage but predict."""
        if stage != "predict":
            raise DataError(
                f"data.class_path: NoiseDataModule has no images, so it only serves `predict`, not "
                f"{stage!r}. Give a data module with images."
            )

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of `index` alone; each rank gets its share, nothing padded."""
        indices = _Indices(self.num_samples)
        world, rank = (
            (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        )
        sampler = UnpaddedSampler(indices, num_replicas=world, rank=rank)
        return DataLoader(
            indices,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
        )
