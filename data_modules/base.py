"""The data module that all sets of images with masks share."""

import multiprocessing
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import psutil
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from data_modules.dataset import ImageMaskDataset, ItemCache
from data_modules.errors import DataError
from data_modules.inspection import (
    assign_splits,
    needed_parts,
    raise_problems,
    require_official_disjoint,
)
from data_modules.layout import Exclusion, Item, Part
from data_modules.sampler import ResumableDataLoader, ResumableSampler, UnpaddedSampler
from data_modules.transforms import Augmentation, to_tensor
from data_modules.verify import (
    Records,
    Role,
    foreground_is_255,
    size_problems,
    value_problems,
    verify,
)

PredictSplit = Literal["train", "val", "test", "all"]
_SHARE_OF_MEMORY = 0.5  # of the free memory that `cache: auto` takes at most


@dataclass
class Listing:
    """Where the items of a data set are.

    Attributes:
        pool: What is split into training, validation and test.
        val: Official validation set, where one is used.
        test: Official test set, where there is one.
    """

    pool: Part
    val: Part | None = None
    test: Part | None = None


class ImageMaskDataModule(LightningDataModule, ABC):
    """Images with masks; a subclass only says where the files are.

    Before a run starts every file it needs is read once (and remembered by size and time); what is
    wrong is one :class:`DataError`.

    Args:
        root: Folder that holds the data set's top-level folders. None: ``data/<data set>``.
        image_size: Images become squares of this side, in pixels.
        in_channels: 3, or 1 for greyscale.
        num_classes: Classes of the masks, background included.
        batch_size: Images a device and batch.
        num_workers: Processes that decode; 0 decodes in the main one.
        val_fraction: Share of the groups held out for validation; 0 holds out none.
        test_fraction: Share of the groups held out for test, where there is no official test set.
        split_seed: Fixes the split.
        seed: Fixes order and augmentation; the command gives it `seed_everything`.
        augment: Names of `hflip`, `vflip`, `rot90`, for training alone.
        exclude_file: Text file of images to leave out, a name a line.
        cache: `memory` keeps decoded images, `none` does not, `auto` does where they take less than
            half of the free memory.
        predict_split: What `predict` goes over.
    """

    short_name: ClassVar[str]
    """Short name, as the commands take it."""
    source: ClassVar[str]
    """How the real data set is had, for the error that it is missing."""

    def __init__(
        self,
        root: str | None = None,
        image_size: int = 256,
        in_channels: int = 3,
        num_classes: int = 2,
        batch_size: int = 64,
        num_workers: int = 4,
        val_fraction: float = 0.05,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        seed: int = 0,
        augment: list[str] | None = None,
        exclude_file: str | None = None,
        cache: Literal["auto", "memory", "none"] = "auto",
        predict_split: PredictSplit = "test",
    ) -> None:
        super().__init__()
        _check_arguments(in_channels, num_classes, image_size, batch_size)
        self.root = Path(root if root is not None else f"data/{self.short_name}").expanduser()
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.seed = seed
        self.exclude_file = exclude_file
        self.cache = cache
        self.predict_split = predict_split
        self.augmentation = Augmentation(augment, seed) if augment else None
        self._splits: dict[str, list[Item]] = {}
        self._datasets: dict[str, ImageMaskDataset] = {}

    @abstractmethod
    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the files below ``self.root``.

        Raises:
            DataError: If the folders of the data set are not there.
        """

    @classmethod
    def variants(cls, root: Path) -> list[dict[str, Any]]:
        """Arguments under which `check` looks at a root: once for each layout found there."""
        return [{}]

    def list_files(self) -> Listing:
        """The listing, with the exclusion file applied and checked.

        Raises:
            DataError: If the root or the folders are missing, or a listed name matches nothing.
        """
        if not self.root.is_dir():
            raise DataError(
                f"data.init_args.root: there is no folder {self.root}.\n{self.advice()}"
            )
        exclusion = Exclusion(self.exclude_file)
        listing = self.listing(exclusion)
        exclusion.require_all_used()
        if listing.test is not None and not listing.test.labelled and self.test_fraction > 0:
            listing.test = None  # no masks to test on, and the user wants others
        return listing

    def fractions(self, listing: Listing) -> dict[str, float]:
        """What is held out of the pool; an official set takes the place of its fraction."""
        return {
            "val_fraction": self.val_fraction if listing.val is None else 0.0,
            "test_fraction": self.test_fraction if listing.test is None else 0.0,
        }

    def advice(self) -> str:
        """How the data are had, and how a stand-in is made."""
        folder = "DIR" if self.root.exists() else self.root  # phantoms only go into a new folder
        return (
            f"{self.source}\n"
            f"A stand-in: lightning phantom {self.short_name} --root {folder} --num 200 --seed 0"
        )

    def verify(self, parts: list[Part], masks: bool) -> Records:
        """Reads all files of some parts, or looks up that they were read before.

        Raises:
            DataError: Lists what is unpaired or cannot be used.
        """
        items = [item for part in parts for item in part.items]
        files: dict[str, Role] = {item.image: "image" for item in items}
        if masks:
            files |= {item.mask: "mask" for item in items if item.mask is not None}
        records, unreadable = verify(self.root, files)
        problems = [p for part in parts for p in part.problems] if masks else []
        problems += unreadable
        if masks:
            problems += size_problems(self.root, items, records)
            problems += value_problems(mask_values(items, records), self.num_classes)
        raise_problems(problems, self.short_name, self.root)
        return records

    def prepare_data(self) -> None:
        """Reads every file of the data set once; Lightning calls it in one process a node."""
        running = None if self.trainer is None else self.trainer.state.fn
        self._inspect("fit" if running is None else running.value)

    def setup(self, stage: str) -> None:
        """Splits the data and makes the data sets of a stage.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            DataError: If the data cannot be used.
        """
        self._splits, records = self._inspect(stage)
        deep = any(records[i.image].deep for items in self._splits.values() for i in items)
        masks = [i.mask for items in self._splits.values() for i in items]
        values = [records[mask].values for mask in masks if mask in records]
        cached = self._cached(sum(map(len, self._splits.values())), deep, bool(values))
        self._datasets = {
            split: ImageMaskDataset(
                self.root,
                items,
                image_size=self.image_size,
                in_channels=self.in_channels,
                with_masks=bool(items) and all(i.mask in records for i in items),
                binary_masks=foreground_is_255(values),
                deep=deep,
                augmentation=self.augmentation if split == "train" else None,
                cached=cached and split != "predict",
            )
            for split, items in self._splits.items()
        }

    def _inspect(self, stage: str) -> tuple[dict[str, list[Item]], Records]:
        listing = self.list_files()
        parts = needed_parts(stage, listing.pool, listing.val, listing.test, self.predict_split)
        predicting = stage == "predict"
        masks = not predicting or all(i.mask is not None for part in parts for i in part.items)
        records = self.verify(parts, masks)
        if predicting and self.predict_split == "all":
            return {"predict": [item for part in parts for item in part.items]}, records
        splits = assign_splits(
            listing.pool if listing.pool in parts else Part(),
            listing.val if listing.val in parts else None,
            listing.test if listing.test in parts else None,
            records,
            **self.fractions(listing),
            seed=self.split_seed,
        )
        require_official_disjoint(splits, records)
        self._require_items(stage, splits)
        return {"predict": splits[self.predict_split]} if predicting else splits, records

    def _require_items(self, stage: str, splits: dict[str, list[Item]]) -> None:
        wanted = {"fit": "train", "validate": "val", "test": "test"}.get(stage, self.predict_split)
        if splits[wanted]:
            return
        groups = {i.group for items in splits.values() for i in items}
        total = sum(map(len, splits.values()))
        samples = "training samples" if wanted == "train" else f"images in the {wanted} split"
        raise DataError(
            f"0 {samples} under {self.root}: {total} images in {len(groups)} groups, with "
            f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction}.\n"
            "Change data.init_args.val_fraction or test_fraction"
            + (", or predict_split." if stage == "predict" else ", or give more data.")
        )

    def _cached(self, count: int, deep: bool, masks: bool) -> bool:
        """Whether decoded images are kept; each process on this machine holds its own."""
        processes = 1 if self.trainer is None else self.trainer.num_devices
        item = ItemCache.bytes_an_item(self.image_size, self.in_channels, deep, masks)
        needed = count * item * processes
        free = psutil.virtual_memory().available
        if self.cache == "memory" and needed > free:
            raise DataError(
                f"data.init_args.cache: memory would take {needed / 2**30:.1f} GiB, but "
                f"{free / 2**30:.1f} GiB are free; use auto or none."
            )
        return self.cache == "memory" or (self.cache == "auto" and needed < _SHARE_OF_MEMORY * free)

    def split_table(self) -> dict[str, list[str]]:
        """Image paths of each split, relative to the root, after :meth:`setup`."""
        return {split: [item.image for item in items] for split, items in self._splits.items()}

    def item_path(self, split: str, index: int) -> str:
        """Path of an image relative to the root.

        Args:
            split: `train`, `val`, `test` or `predict`.
            index: As in the batch.
        """
        return self._splits[split][index].image

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        """Training images (C, H, W) in [-1, 1] without augmentation, in a fixed order.

        Args:
            domain: There is one domain here, so any name gives it.
        """
        dataset = self._datasets["train"]
        return (to_tensor(dataset.load(index)[0]) for index in range(len(dataset)))

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; what does not fill an optimiser step is left out of an epoch.

        A smaller last batch, or a smaller last group of accumulated batches, would weigh each of
        its images differently. Where there is not one full one, all images are used.
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
            multiple=next((size for size in sizes if size <= share), None),
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


def mask_values(items: list[Item], records: Records) -> dict[str, tuple[int, ...]]:
    """The values of each readable mask."""
    return {i.mask: records[i.mask].values for i in items if i.mask and i.mask in records}


def _check_arguments(in_channels: int, num_classes: int, image_size: int, batch_size: int) -> None:
    if in_channels not in (1, 3):
        raise DataError(f"data.init_args.in_channels: {in_channels} given, expected 1 or 3.")
    if not 2 <= num_classes <= 64:
        raise DataError(
            f"data.init_args.num_classes: {num_classes} given, expected 2 to 64 (background too)."
        )
    for field, value in (("image_size", image_size), ("batch_size", batch_size)):
        if value < 1:
            raise DataError(f"data.init_args.{field}: {value} given, expected 1 or more.")
