"""Splits to batches: the loaders of every data module."""

import multiprocessing
import sys
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from data_modules.errors import DataError
from data_modules.kinds.mask_dataset import ImageMaskDataset
from data_modules.kinds.sampler import ResumableDataLoader, ResumableSampler, UnpaddedSampler
from data_modules.kinds.slice_reader import SliceDataset


class Named(Protocol):
    """An item of a split."""

    @property
    def path(self) -> str:
        """What names it: its file relative to the root, or made from that."""
        ...


ItemT = TypeVar("ItemT", bound=Named)
DatasetT = TypeVar("DatasetT", ImageMaskDataset, SliceDataset)


class SplitLoaders(LightningDataModule, Generic[ItemT, DatasetT]):
    """What Lightning asks of a data module, over the data sets that a subclass makes.

    Args:
        batch_size: Images a device and batch.
        num_workers: Processes that decode; 0 decodes in the main one.
        drop_last: Whether what does not fill an optimiser step is left out of an epoch.
        seed: Fixes the order.
    """

    def __init__(self, *, batch_size: int, num_workers: int, drop_last: bool, seed: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.drop_last = drop_last
        self.seed = seed
        self._splits: dict[str, list[ItemT]] = {}
        self._datasets: dict[str, DatasetT] = {}

    @property
    def _stage(self) -> str:
        """What the trainer is running; without one, `fit`."""
        running = None if self.trainer is None else self.trainer.state.fn
        return "fit" if running is None else running.value

    def split_table(self) -> dict[str, list[str]]:
        """The items of each split, as :meth:`item_path` names them, after `setup`."""
        return {split: [item.path for item in items] for split, items in self._splits.items()}

    def item_path(self, split: str, index: int) -> str:
        """What names an item: its file relative to the root, or a slice of that volume.

        Args:
            split: `train`, `val`, `test` or `predict`.
            index: As in the batch.
        """
        return self._splits[split][index].path

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; what does not fill an optimiser step is left out of an epoch.

        A smaller last batch, or a smaller last group of accumulated batches, would weigh each of
        its images differently. Where there is not one full one, or ``drop_last`` is off, all images
        are used; on several devices the first of the order then fill up the last share.
        """
        dataset = self._datasets["train"]
        world, rank = self._place()
        accumulated = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        share = len(dataset) // world
        sizes = (self.batch_size * accumulated, self.batch_size)
        sampler = ResumableSampler(
            dataset,
            num_replicas=world,
            rank=rank,
            seed=self.seed,
            multiple=next((s for s in sizes if s <= share), None) if self.drop_last else None,
            skip=lambda: self._batches_done() * self.batch_size,
        )
        return ResumableDataLoader(dataset, sampler=sampler, **self._loading())

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the validation split in order; no loader where it is empty."""
        return self._ordered("val") if self._datasets["val"].items else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split in order."""
        return self._ordered("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of ``predict_split`` in order, with masks where every image has one."""
        return self._ordered("predict")

    def _ordered(self, split: str) -> DataLoader[Any]:
        dataset = self._datasets[split]
        world, rank = self._place()
        if len(dataset) < world:
            raise DataError(
                f"The {split} split has {len(dataset)} images for {world} processes; "
                "use fewer devices or a larger split."
            )
        sampler = UnpaddedSampler(dataset, num_replicas=world, rank=rank)
        return DataLoader(dataset, sampler=sampler, **self._loading())

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which this one is."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def _batches_done(self) -> int:
        """Batches of the running epoch that were trained on before a resume."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def _loading(self) -> dict[str, Any]:
        # Forked workers start at once and share the cache. Elsewhere than on Linux fork is unsafe.
        forks = self.num_workers > 0 and sys.platform == "linux"
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "multiprocessing_context": multiprocessing.get_context("fork") if forks else None,
            # Its own generator, so that the loader draws nothing from the global one.
            "generator": torch.Generator().manual_seed(self.seed),
        }
