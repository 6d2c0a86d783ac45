"""The data module that all sets of images with masks share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import psutil
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import DataError
from data_modules.kinds.base import SplitLoaders
from data_modules.kinds.mask_dataset import ImageMaskDataset, ItemCache, Preprocess
from data_modules.kinds.transforms import Augmentation, to_tensor
from data_modules.listing.inspection import (
    assign_splits,
    needed_parts,
    raise_problems,
    require_items,
    require_official_disjoint,
)
from data_modules.listing.pairs import Exclusion, Item, Listing, Part, wrong_layout
from data_modules.listing.splits import SplitPlan
from data_modules.listing.verify import (
    Records,
    files_of,
    foreground_is_255,
    mask_problems,
    mask_values,
    verify,
)

PredictSplit = Literal["train", "val", "test", "all"]
_SHARE_OF_MEMORY = 0.5  # of the free memory that `cache: auto` takes at most


class ImageMaskDataModule(SplitLoaders[Item, ImageMaskDataset], ABC):
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
        augment: Names of `hflip`, `vflip`, `rot90`, `crop`, for training alone.
        exclude_file: Text file of images to leave out, a name a line.
        cache: `memory` keeps decoded images, `none` does not, `auto` does where they take less than
            half of the free memory.
        predict_split: What `predict` goes over.
        num_train_samples: Exactly so many training images, of whole groups; all others are halved
            into validation and test (an official test set is halved instead), and the fractions are
            not used (papers/hybrid.md 2c-8). None: by the fractions.
        num_val_samples: Keeps so many of the validation images. None: all.
        num_test_samples: Keeps so many of the test images. None: all.
        drop_last: Whether what does not fill an optimiser step is left out of a training epoch;
            fine-tuning on a handful of images keeps it (papers/hybrid.md 2c-12).
    """

    short_name: ClassVar[str]
    """Short name, as the commands take it."""
    source: ClassVar[str]
    """How the real data set is had, for the error that it is missing."""
    mask_size_free: ClassVar[bool] = False
    """Whether masks may have another size than their images."""

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
        num_train_samples: int | None = None,
        num_val_samples: int | None = None,
        num_test_samples: int | None = None,
        drop_last: bool = True,
    ) -> None:
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, drop_last=drop_last, seed=seed
        )
        check_channels(in_channels)
        _check_classes(num_classes)
        check_positive(
            image_size=image_size,
            batch_size=batch_size,
            num_train_samples=num_train_samples,
            num_val_samples=num_val_samples,
            num_test_samples=num_test_samples,
        )
        self.root = Path(root if root is not None else f"data/{self.short_name}").expanduser()
        self.image_size = image_size
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.exclude_file = exclude_file
        self.cache = cache
        self.predict_split = predict_split
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.num_test_samples = num_test_samples
        self.augmentation = Augmentation(augment, seed) if augment else None

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

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether the folders of the data set are under a root; reads no file."""
        if not root.is_dir():
            return False
        try:
            cls(root=str(root)).listing(Exclusion(None))
        except DataError:
            return False
        return True

    def preprocessing(self) -> Preprocess | None:
        """What changes each image as decoded, before channels and size; None: nothing.

        It is sent to worker processes: a function of a module, or a `functools.partial` of one.
        """
        return None

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
        own_test = self.test_fraction > 0 or self.num_train_samples is not None
        if listing.test is not None and not listing.test.labelled and own_test:
            listing.test = None  # no masks to test on, and the user wants others
        return listing

    def split_plan(self, listing: Listing) -> SplitPlan:
        """How the images are shared out; an official set takes the place of its fraction."""
        return SplitPlan(
            val_fraction=self.val_fraction if listing.val is None else 0.0,
            test_fraction=self.test_fraction if listing.test is None else 0.0,
            num_train=self.num_train_samples,
            num_val=self.num_val_samples,
            num_test=self.num_test_samples,
            seed=self.split_seed,
            official_val=listing.val is not None,
            official_test=listing.test is not None,
        )

    def advice(self) -> str:
        """How the data are had, and how a stand-in is made."""
        folder = "DIR" if self.root.exists() else self.root  # phantoms only go into a new folder
        return (
            f"{self.source}\n"
            f"A stand-in: lightning phantom {self.short_name} --root {folder} --num 200 --seed 0"
        )

    def wrong_layout(self, needed: str) -> DataError:
        """The error that the root does not hold the data set.

        Args:
            needed: What the data module looks for in it.
        """
        return wrong_layout(self.root, needed, self.advice())

    def verify(self, parts: list[Part], masks: bool) -> Records:
        """Reads all files of some parts, or looks up that they were read before.

        Raises:
            DataError: Lists what is unpaired or cannot be used.
        """
        items = [item for part in parts for item in part.items]
        records, unreadable = verify(self.root, files_of(items, masks))
        problems = [p for part in parts for p in part.problems] if masks else []
        problems += unreadable
        if masks:
            problems += mask_problems(
                self.root,
                items,
                records,
                num_classes=self.num_classes,
                size_free=self.mask_size_free,
            )
        raise_problems(problems, self.short_name, self.root)
        return records

    def prepare_data(self) -> None:
        """Reads every file of the data set once; Lightning calls it in one process a node."""
        self._inspect(self._stage)

    def setup(self, stage: str) -> None:
        """Splits the data and makes the data sets of a stage.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            DataError: If the data cannot be used.
        """
        self._splits, records = self._inspect(stage)
        if self.num_train_samples is not None:
            shares = ", ".join(f"{len(items)} {split}" for split, items in self._splits.items())
            rank_zero_info(f"split: {shares} (seed {self.split_seed})")
        items = [item for split in self._splits.values() for item in split]
        preprocess = self.preprocessing()
        deep = preprocess is not None or any(records[item.image].deep for item in items)
        masks = any(part.path in records for item in items for part in item.masks)
        binary = foreground_is_255(mask_values(items, records).values())
        cached = self._cached(len(items), deep, masks)
        self._datasets = {
            split: ImageMaskDataset(
                self.root,
                items,
                image_size=self.image_size,
                in_channels=self.in_channels,
                with_masks=bool(items) and all(_has_masks(item, records) for item in items),
                binary_masks=binary,
                deep=deep,
                preprocess=preprocess,
                augmentation=self.augmentation if split == "train" else None,
                cached=cached and split != "predict",
            )
            for split, items in self._splits.items()
        }

    def _inspect(self, stage: str) -> tuple[dict[str, list[Item]], Records]:
        listing = self.list_files()
        plan = self.split_plan(listing)
        parts = needed_parts(stage, listing, plan, self.predict_split)
        predicting = stage == "predict"
        masks = not predicting or all(item.labelled for part in parts for item in part.items)
        records = self.verify(parts, masks)
        if predicting and self.predict_split == "all":
            return {"predict": [item for part in parts for item in part.items]}, records
        splits = assign_splits(
            listing.pool if listing.pool in parts else Part(),
            listing.val if listing.val in parts else None,
            listing.test if listing.test in parts else None,
            records,
            plan,
        )
        require_official_disjoint(splits, records)
        require_items(stage, splits, plan, predict_split=self.predict_split, root=self.root)
        return {"predict": splits[self.predict_split]} if predicting else splits, records

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

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        """Training images (C, H, W) in [-1, 1] without augmentation, in a fixed order.

        Args:
            domain: There is one domain here, so any name gives it.
        """
        dataset = self._datasets["train"]
        return (to_tensor(dataset.load(index)[0]) for index in range(len(dataset)))

    def labelled_images(self) -> Iterator[Batch]:
        """Training images with their masks, without augmentation, in a fixed order.

        Each is ``image`` (C, H, W) in [-1, 1], ``mask`` (H, W) and ``index`` (): no batch.
        """
        dataset = self._datasets["train"]
        return (dataset.plain(index) for index in range(len(dataset)))


def _has_masks(item: Item, records: Records) -> bool:
    return item.labelled and all(part.path in records for part in item.masks)


def check_channels(in_channels: int) -> None:
    """Raises DataError unless images are to be grey or coloured."""
    if in_channels not in (1, 3):
        raise DataError(f"data.init_args.in_channels: {in_channels} given, expected 1 or 3.")


def _check_classes(num_classes: int) -> None:
    if not 2 <= num_classes <= 64:
        raise DataError(
            f"data.init_args.num_classes: {num_classes} given, expected 2 to 64 (background too)."
        )


def check_positive(**fields: int | None) -> None:
    """Raises DataError for the first argument below 1; None stands for "not given"."""
    for field, value in fields.items():
        if value is not None and value < 1:
            raise DataError(f"data.init_args.{field}: {value} given, expected 1 or more.")
