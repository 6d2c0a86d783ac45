"""The data module that all sets of images with masks share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import psutil
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import DataError
from data_modules.kinds.base import DataModule, check_positive
from data_modules.kinds.item_cache import ItemCache
from data_modules.kinds.mask_dataset import ImageMaskDataset, Preprocess
from data_modules.kinds.transforms import to_tensor
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.inspection import (
    assign_splits,
    needed_parts,
    raise_problems,
    require_items,
    require_official_disjoint,
)
from data_modules.listing.items import Item, Listing, Part, Problem
from data_modules.listing.mask_problems import foreground_is_255, mask_problems, mask_values
from data_modules.listing.records import Records
from data_modules.listing.split_problems import split_problems
from data_modules.listing.splits import SplitPlan
from data_modules.listing.verify import files_of, verify

_SHARE_OF_MEMORY = 0.5  # of the free memory that `cache: auto` takes at most


@dataclass(frozen=True)
class InspectedMasks:
    """What was read of a stage.

    Attributes:
        splits: The items of each split.
        records: Of all their files.
    """

    splits: dict[str, list[Item]]
    records: Records


class ImageMaskDataModule(DataModule[InspectedMasks, ImageMaskDataset]):
    """Images with masks; a subclass only says where the files are.

    Files that were read before are remembered by size and time.

    Args:
        root: Folder that holds the data set's top-level folders. None: `data/<data set>`.
        num_classes: Classes of the masks, background included.
        test_fraction: Share of the groups held out for test, where there is no official test set.
        cache: `memory` keeps decoded images, `none` does not, `auto` does where they take less than
            half of the free memory.
        num_train_samples: Exactly so many training images, of whole groups; all others are halved
            into validation and test (an official test set is halved instead), and the fractions are
            not used (docs/papers/hybrid.md 2c-8). None: by the fractions.
        num_val_samples: Keeps so many of the validation images. None: all.
        num_test_samples: Keeps so many of the test images. None: all.
        **kwargs: As `DataModule`.
    """

    truths: ClassVar[frozenset[str]] = frozenset({"mask"})
    mask_size_free: ClassVar[bool] = False
    """Whether masks may have another size than their images."""

    def __init__(
        self,
        root: str | None = None,
        num_classes: int = 2,
        test_fraction: float = 0.0,
        cache: Literal["auto", "memory", "none"] = "auto",
        num_train_samples: int | None = None,
        num_val_samples: int | None = None,
        num_test_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        if not 2 <= num_classes <= 64:
            raise DataError(
                f"data.init_args.num_classes: {num_classes} given, expected 2 to 64 (background "
                "too)."
            )
        check_positive(
            num_train_samples=num_train_samples,
            num_val_samples=num_val_samples,
            num_test_samples=num_test_samples,
        )
        self.num_classes = num_classes
        self.test_fraction = test_fraction
        self.cache = cache
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.num_test_samples = num_test_samples

    @abstractmethod
    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the files below `self.root`.

        Raises:
            DataError: If the folders of the data set are not there.
        """

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
        self.require_root()
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

    def inspect(self, stage: str) -> InspectedMasks:
        """Reads all files that a stage needs, and splits them.

        Raises:
            DataError: If something is unpaired or cannot be used; lists it.
        """
        listing = self.list_files()
        plan = self.split_plan(listing)
        parts = needed_parts(stage, listing, plan, self.predict_split)
        predicting = stage == "predict"
        masks = not predicting or all(item.labelled for part in parts for item in part.items)
        records, problems = self._read(parts, masks)
        raise_problems(problems, self.short_name, self.root)
        if predicting and self.predict_split == "all":
            everything = [item for part in parts for item in part.items]
            return InspectedMasks({"predict": everything}, records)
        splits = assign_splits(
            listing.pool if listing.pool in parts else Part(),
            listing.val if listing.val in parts else None,
            listing.test if listing.test in parts else None,
            records,
            plan,
        )
        require_official_disjoint(splits, records)
        require_items(stage, splits, plan, predict_split=self.predict_split, root=self.root)
        if predicting:
            splits = {"predict": splits[self.predict_split]}
        return InspectedMasks(splits, records)

    def check_files(self, note: Callable[[str], None]) -> list[Problem]:
        """Reads every file and lists all that is wrong.

        Args:
            note: Not called: what is no problem is nothing here.
        """
        try:
            listing = self.list_files()
        except DataError as error:
            return [Problem("missing", str(self.root), str(error))]
        records, problems = self._read(listing.parts, masks=True)
        plan = self.split_plan(listing)
        return problems + split_problems(self.root, listing, records, plan)

    def _read(self, parts: list[Part], masks: bool) -> tuple[Records, list[Problem]]:
        """Reads all files of some parts, or looks up that they were read before.

        Returns:
            Records of the readable files, and what is unpaired or cannot be used.
        """
        items = [item for part in parts for item in part.items]
        records, unreadable = verify(self.root, files_of(items, masks))
        if not masks:
            return records, unreadable
        unfit = mask_problems(
            self.root,
            items,
            records,
            num_classes=self.num_classes,
            size_free=self.mask_size_free,
        )
        return records, [p for part in parts for p in part.problems] + unreadable + unfit

    def datasets_of(self, found: InspectedMasks, stage: str) -> dict[str, ImageMaskDataset]:
        """The torch data set of each split."""
        splits, records = found.splits, found.records
        if self.num_train_samples is not None:
            shares = ", ".join(f"{len(items)} {split}" for split, items in splits.items())
            rank_zero_info(f"split: {shares} (seed {self.split_seed})")
        items = [item for split in splits.values() for item in split]
        preprocess = self.preprocessing()
        deep = preprocess is not None or any(records[item.image].deep for item in items)
        masks = any(part.path in records for item in items for part in item.masks)
        binary = foreground_is_255(mask_values(items, records).values())
        cached = self._cached(len(items), deep, masks)
        return {
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
            for split, items in splits.items()
        }

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

        Each is `image` (C, H, W) in [-1, 1], `mask` (H, W) and `index` (): no batch.
        """
        dataset = self._datasets["train"]
        return (dataset.plain(index) for index in range(len(dataset)))


def _has_masks(item: Item, records: Records) -> bool:
    return item.labelled and all(part.path in records for part in item.masks)
