"""The data module that all sets of images with masks share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import psutil
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from data_modules.batch import Batch
from data_modules.errors import DataError
from data_modules.kinds.base import DataModule
from data_modules.kinds.item_cache import ItemCache
from data_modules.kinds.mask_dataset import Crop, ImageMaskDataset, Preprocess
from data_modules.kinds.ranges import (
    ClosedUnitInterval,
    MaskClasses,
    NonNegativeInt,
    PositiveInt,
    check_ranges,
)
from data_modules.kinds.transforms import to_tensor
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.inspection import (
    assign_splits,
    labelled_parts,
    needed_parts,
    raise_problems,
    require_items,
    require_official_disjoint,
    whole_test,
)
from data_modules.listing.items import Item, Listing, Part, Problem
from data_modules.listing.left_out import notes_of
from data_modules.listing.mask_problems import foreground_is_255, mask_problems, mask_values
from data_modules.listing.records import Records
from data_modules.listing.split_problems import split_problems
from data_modules.listing.splits import SplitPlan, require_training
from data_modules.listing.verify import files_of, verify
from data_modules.reading.formats import IMAGE_KINDS

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
        test_fraction: Share of the groups held out for test, where there is no official test set;
            1 takes all of them, for a folder that is not trained on.
        cache: `memory` keeps decoded images, `none` does not, `auto` does where they take less than
            half of the free memory.
        num_train_samples: Exactly so many training images, of whole groups; all others are halved
            into validation and test (an official test set is halved instead), and the fractions are
            not used (docs/papers/hybrid.md 2c-8). None: by the fractions.
        num_val_samples: Keeps so many of the validation images. None: all.
        num_test_samples: Keeps so many of the test images. None: all.
        frame: Which frame is read of DICOM images that hold several, from 0. None: such files are
            refused.
        **kwargs: As `DataModule`.
    """

    truths: ClassVar[frozenset[str]] = frozenset({"mask"})
    mask_size_free: ClassVar[bool] = False
    """Whether masks may have another size than their images."""

    def __init__(
        self,
        root: str | None = None,
        num_classes: MaskClasses = 2,
        test_fraction: ClosedUnitInterval = 0.0,
        cache: Literal["auto", "memory", "none"] = "auto",
        num_train_samples: PositiveInt | None = None,
        num_val_samples: PositiveInt | None = None,
        num_test_samples: PositiveInt | None = None,
        frame: NonNegativeInt | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        check_ranges(ImageMaskDataModule, locals())
        if num_train_samples is None:
            require_training(self.val_fraction, test_fraction)
        self.reading = replace(self.reading, frame=frame)
        self.num_classes = num_classes
        self.test_fraction = test_fraction
        self.cache = cache
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.num_test_samples = num_test_samples
        self._digests: dict[str, str] = {}

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

    def cropping(self) -> Crop | None:
        """What says which part of each image as decoded is taken, of its mask too; None: all of it.

        As `preprocessing`, it is sent to worker processes.
        """
        return None

    def preprocessing(self) -> Preprocess | None:
        """What changes the pixels of each image, cropped, before channels and size; None: nothing.

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
        if not any(part.items or part.met.problems for part in listing.parts):
            raise self._nothing(listing)
        own_test = self.test_fraction > 0 or self.num_train_samples is not None
        if listing.test is not None and not listing.test.labelled and own_test:
            listing.test = None  # no masks to test on, and the user wants others
        return listing

    def _nothing(self, listing: Listing) -> DataError:
        """The error that no image is listed."""
        folders = [f"{part.folder}/" for part in listing.parts if part.folder]
        where = f"{' and '.join(folders)} in " if folders else ""
        excluded = "" if self.exclude_file is None else f" that {self.exclude_file} does not list"
        return DataError(
            f"data.init_args.root: {where}{self.root} holds no {IMAGE_KINDS} file{excluded}.\n"
            + "".join(f"{note}.\n" for note in self._notes(listing))
            + self.advice()
        )

    def _notes(self, listing: Listing) -> list[str]:
        return notes_of(self.root, (part.met for part in listing.parts))

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
        self.tell(self._notes(listing))
        plan = self.split_plan(listing)
        whole = stage == "test" and self.test_split == "all"
        parts = (
            labelled_parts(listing)
            if whole
            else needed_parts(stage, listing, plan, self.predict_split)
        )
        predicting = stage == "predict"
        masks = not predicting or all(item.labelled for part in parts for item in part.items)
        records, problems = self._read(parts, masks)
        raise_problems(problems, self.short_name, self.root)
        if predicting and self.predict_split == "all":
            everything = [item for part in parts for item in part.items]
            return InspectedMasks({"predict": everything}, records)
        if whole:
            splits = whole_test([item for part in parts for item in part.items], plan)
        else:
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
            note: Gets which files are left out.
        """
        try:
            listing = self.list_files()
        except DataError as error:
            return [Problem("missing", str(self.root), str(error))]
        for line in self._notes(listing):
            note(line)
        records, problems = self._read(listing.parts, masks=True)
        problems += [
            Problem("missing", f"{part.folder}/", f"holds no {IMAGE_KINDS} file that is read")
            for part in listing.parts
            if part.folder and not part.items
        ]
        plan = self.split_plan(listing)
        return problems + split_problems(self.root, listing, records, plan)

    def _read(self, parts: list[Part], masks: bool) -> tuple[Records, list[Problem]]:
        """Reads all files of some parts, or looks up that they were read before.

        Returns:
            Records of the readable files, and what is unpaired or cannot be used.
        """
        items = [item for part in parts for item in part.items]
        records, unreadable = verify(self.root, files_of(items, masks), self.reading)
        if not masks:
            met = dict.fromkeys(p for part in parts for p in part.met.problems)
            return records, [*met, *unreadable]
        unfit = mask_problems(
            self.root,
            items,
            records,
            num_classes=self.num_classes,
            size_free=self.mask_size_free,
            orientation=self.reading.orientation,
        )
        unpaired = dict.fromkeys(p for part in parts for p in part.problems)
        return records, [*unpaired, *unreadable, *unfit]

    def datasets_of(self, found: InspectedMasks, stage: str) -> dict[str, ImageMaskDataset]:
        """The torch data set of each split."""
        splits, records = found.splits, found.records
        self._digests = {path: record.digest for path, record in records.items()}
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
                reading=self.reading,
                binary_masks=binary,
                deep=deep,
                crop=self.cropping(),
                preprocess=preprocess,
                augmentation=self.augmentation if split == "train" else None,
                cached=cached and split != "predict",
                placed=split == "predict",
            )
            for split, items in splits.items()
        }

    def digests_of(self, item: Item) -> tuple[str, ...]:
        """SHA-256 of the image."""
        return (self._digests[item.image],)

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
