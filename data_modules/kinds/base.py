"""The data module that all data sets of files share: settings, preparation and loaders."""

import multiprocessing
import os
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset

from data_modules.batch import Batch
from data_modules.errors import DataError
from data_modules.kinds.augmentation import Augmentation
from data_modules.kinds.ranges import (
    NonNegativeInt,
    PositiveInt,
    Seed,
    ShareBelowOne,
    check_ranges,
)
from data_modules.kinds.sampler import ResumableDataLoader, ResumableSampler, UnpaddedSampler
from data_modules.kinds.told import Inspected, Named, ToldItems
from data_modules.kinds.workers import outlive_signals
from data_modules.listing.files import names_in
from data_modules.listing.items import Problem
from data_modules.reading.options import Orientation, Reading

PredictSplit: TypeAlias = Literal["train", "val", "test", "all"]
TestSplit: TypeAlias = Literal["test", "all"]


InspectedT = TypeVar("InspectedT", bound=Inspected)
DatasetT = TypeVar("DatasetT", bound=Dataset[Batch])


class DataModule(ToldItems, LightningDataModule, Generic[InspectedT, DatasetT]):
    """A data set of files. A kind of data set says how files are read and become a torch data set.

    Before a run starts every file it needs is read once; what is wrong is one `DataError`.

    Args:
        root: Folder that holds the data set's top-level folders. None: `data/<data set>`.
        image_size: Images become squares of this side, in pixels.
        in_channels: 3, or 1 for greyscale.
        batch_size: Images a device and batch.
        num_workers: Processes that decode; 0 decodes in the main one.
        val_fraction: Share of the groups held out for validation; 0 holds out none.
        split_seed: Fixes the split.
        seed: Fixes order and augmentation; the command gives it `seed_everything`.
        augment: Names of `hflip`, `vflip`, `rot90`, `crop`, `blur`, for training alone.
        exclude_file: Text file of images to leave out, a name a line.
        predict_split: What `predict` goes over.
        test_split: What `test` goes over: its split, or `all` that it can measure, of a folder that
            was held out whole.
        drop_last: Whether what does not fill an optimiser step is left out of a training epoch;
            fine-tuning on a handful of images keeps it (docs/papers/hybrid.md 2c-12).
        orientation: `stored` takes the pixels of pictures as they lie in the file, `upright` turns
            them as the file's orientation tag (EXIF or TIFF) says, images and masks alike.

    Raises:
        DataError: If an argument is wrong.
    """

    short_name: ClassVar[str]
    """Short name, as the commands take it."""
    title: ClassVar[str]
    """What it is, in a few words."""
    origin: ClassVar[str]
    """How the real data set is had, for the error that it is missing."""
    citation: ClassVar[str] = ""
    """What to cite, in one line; empty where there is nothing."""
    counted: ClassVar[str] = "training images"
    """What the number of a phantom counts."""
    stand_in: ClassVar[int] = 200
    """A number for a phantom that serves for a first run."""
    truths: ClassVar[frozenset[str]] = frozenset()
    """Keys of a test's batches that predictions are compared with."""

    def __init__(
        self,
        root: str | None = None,
        image_size: PositiveInt = 256,
        in_channels: PositiveInt = 3,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 4,
        val_fraction: ShareBelowOne = 0.05,
        split_seed: Seed = 0,
        seed: Seed = 0,
        augment: list[str] | None = None,
        exclude_file: str | None = None,
        predict_split: PredictSplit = "test",
        test_split: TestSplit = "test",
        drop_last: bool = True,
        orientation: Orientation = "stored",
    ) -> None:
        super().__init__()
        check_ranges(DataModule, locals())
        if in_channels not in (1, 3):
            raise DataError(f"data.init_args.in_channels: {in_channels} given, expected 1 or 3.")
        check_choice(PredictSplit, predict_split=predict_split)
        check_choice(TestSplit, test_split=test_split)
        check_choice(Orientation, orientation=orientation)
        self.root = self.default_root() if root is None else Path(root).expanduser()
        self.image_size = image_size
        self.in_channels = in_channels
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.seed = seed
        self.exclude_file = exclude_file
        self.predict_split = predict_split
        self.test_split = test_split
        self.drop_last = drop_last
        self.reading = Reading(orientation)
        self.augmentation = Augmentation(augment, seed) if augment else None
        self._splits: Mapping[str, Sequence[Named]] = {}
        self._datasets: dict[str, DatasetT] = {}
        self._prepared: tuple[object, InspectedT] | None = None
        self._told: set[str] = set()

    @classmethod
    def default_root(cls) -> Path:
        """Where the data set is looked for if no root is given."""
        return Path("data", cls.short_name)

    @classmethod
    @abstractmethod
    def present(cls, root: Path) -> bool:
        """Whether files of the data set are under a root; reads none."""

    @classmethod
    def variants(cls, root: Path) -> list[dict[str, Any]]:
        """Arguments under which `check` looks at a root: once for each layout found there."""
        return [{}]

    @abstractmethod
    def inspect(self, stage: str) -> InspectedT:
        """Reads all files that a stage needs, and splits them.

        Raises:
            DataError: If something cannot be used; lists it.
        """

    @abstractmethod
    def datasets_of(self, found: InspectedT, stage: str) -> dict[str, DatasetT]:
        """The torch data set of each split that a stage goes over."""

    @abstractmethod
    def check_files(self, note: Callable[[str], None]) -> list[Problem]:
        """Reads every file and lists all that is wrong.

        Args:
            note: Gets what is worth knowing and no problem, as which files are pairs.
        """

    def prepare_data(self) -> None:
        """Reads what the running stage needs; Lightning calls it in one process a node."""
        running = None if self.trainer is None else self.trainer.state.fn
        stage = "fit" if running is None else running.value
        self._prepared = (self._circumstances(stage), self.inspect(stage))

    def setup(self, stage: str) -> None:
        """Makes the data sets of a stage, of what `prepare_data` found for it or else read anew.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            DataError: If the data cannot be used.
        """
        kept, self._prepared = self._prepared, None
        fits = kept is not None and kept[0] == self._circumstances(stage)
        found = kept[1] if kept is not None and fits else self.inspect(stage)
        self._splits = found.splits
        self._datasets = self.datasets_of(found, stage)

    def _circumstances(self, stage: str) -> object:
        """What must be the same for `setup` to take what `prepare_data` found."""
        public = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "trainer"}
        return os.getpid(), stage, repr(public)  # as text: a list may be changed in its place

    def tell(self, lines: Iterable[str]) -> None:
        """Says what is worth knowing and no problem, each line once."""
        for line in dict.fromkeys(lines):
            if line not in self._told:
                rank_zero_info(f"{self.short_name}: {line}")
                self._told.add(line)

    def require_root(self) -> None:
        """Raises DataError if the root is no folder that can be opened."""
        try:
            if self.root.is_dir():
                os.listdir(self.root / ".")
                return
        except OSError as error:
            raise DataError(
                f"data.init_args.root: {self.root} cannot be opened ({error.strerror})."
            ) from error
        raise DataError(f"data.init_args.root: there is no folder {self.root}.\n{self.advice()}")

    def wrong_layout(self, needed: str) -> DataError:
        """The error that the root, which is there, does not hold the data set.

        Args:
            needed: What the data module looks for in it.
        """
        there = [name for name in names_in(self.root) if not name.startswith(".")][:5]
        holds = ", ".join(there) or "nothing"
        return DataError(
            f"data.init_args.root: {self.root} holds {holds}.\n{needed}.\n{self.advice()}"
        )

    def advice(self) -> str:
        """How the data are had, and how a stand-in is made."""
        folder = "DIR" if self.root.exists() else self.root  # phantoms only go into a new folder
        return (
            f"{self.origin}\nA stand-in: lightning phantom {self.short_name} --root {folder} "
            f"--num {self.stand_in} --seed 0"
        )

    def ahead(self) -> tuple[frozenset[str], PredictSplit | None]:
        """What a trained module can be measured and used on, after the `setup` of a fit.

        Returns:
            The truths in the batches of a test, none where there is nothing to test on; and a
            `predict_split` with items, None where no split has any.
        """
        if self._splits.get("test"):
            return self.truths, "test"
        return frozenset(), "val" if self._splits.get("val") else "all"

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; what does not fill an optimiser step is left out of an epoch.

        A smaller last batch, or a smaller last group of accumulated batches, would weigh each of
        its images differently. Where there is not one full one, or `drop_last` is off, all images
        are used; on several devices the first of the order then fill up the last share.
        """
        world, rank = self._place()
        accumulated = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        share = len(self._splits["train"]) // world
        sizes = (self.batch_size * accumulated, self.batch_size)
        sampler = ResumableSampler(
            self._datasets["train"],
            num_replicas=world,
            rank=rank,
            seed=self.seed,
            multiple=next((s for s in sizes if s <= share), None) if self.drop_last else None,
            skip=lambda: self._batches_done() * self.batch_size,
        )
        return ResumableDataLoader(self._datasets["train"], sampler=sampler, **self._loading())

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the validation split in order; no loader where it is empty."""
        return self._ordered("val") if self._splits["val"] else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of the test split in order."""
        return self._ordered("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of `predict_split` in order, with masks where every image has one."""
        return self._ordered("predict")

    def _ordered(self, split: str) -> DataLoader[Any]:
        dataset, images = self._datasets[split], len(self._splits[split])
        world, rank = self._place()
        if images < world:
            raise DataError(
                f"The {split} split has {images} images for {world} processes; "
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
            "worker_init_fn": outlive_signals,
            # Its own generator, so that the loader draws nothing from the global one.
            "generator": torch.Generator().manual_seed(self.seed),
        }


def check_choice(kind: Any, **fields: str) -> None:
    """Raises DataError for the first argument that is none of the values of a `Literal`."""
    for field, value in fields.items():
        if value not in get_args(kind):
            names = ", ".join(get_args(kind))
            raise DataError(f"data.init_args.{field}: {value} given, expected {names}.")
