"""IXI: T1, T2 and PD of the brains of healthy people, and other MR slices in folders.

Layouts, pairs, splits, licence and traps: docs/data/ixi.md.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, get_args

from torch import Tensor

from data_modules.errors import DataError
from data_modules.kinds.base import SplitLoaders
from data_modules.kinds.masks import PredictSplit, check_channels, check_positive
from data_modules.kinds.slice_pairs import Pairing, match, size_problems
from data_modules.kinds.slice_reader import (
    SliceDataset,
    SliceItem,
    SliceReader,
    items_of,
    whole_cut,
)
from data_modules.kinds.transforms import Augmentation
from data_modules.listing.inspection import raise_problems
from data_modules.listing.modalities import (
    MODALITIES,
    Modality,
    Scan,
    find_modalities,
    require_known,
    split_subjects,
    warn_of_few,
)
from data_modules.listing.pairs import Problem
from data_modules.listing.splits import Split, assert_disjoint, leaks
from data_modules.reading.io import read_bytes
from data_modules.sets.ixi_files import Found, list_root, nothing_predicted, nothing_split

_STAGES = {"fit": "train", "validate": "val", "test": "test"}


class IXIDataModule(SplitLoaders[SliceItem, SliceDataset]):
    """Axial slices of one MR modality to train on, and of two in pairs to measure a translation.

    `fit` reads the target modality alone, as ``image``; `validate` and `test` give ``source`` and
    ``target`` on one grid, `predict` ``source`` alone. All are (B, C, S, S) float32 in [-1, 1].
    Splits are by subject, and the files of the target modality alone decide them.

    Args:
        root: Folder that holds the volumes, or folders `T1`, `T2`, `PD`. None: `data/ixi`.
        source: Modality that is translated from: T1, T2 or PD.
        target: Modality that is trained on and translated to.
        image_size: Slices become squares of this side, in pixels.
        in_channels: 1, or 3 that are equal.
        batch_size: Slices a device and batch.
        num_workers: Processes that augment; slices are in memory.
        seed: Fixes order and augmentation; the command gives it `seed_everything`.
        split_seed: Fixes the split.
        val_fraction: Share of the training subjects held out for validation; 0 holds out none.
        num_train_subjects: At most so many subjects for training and validation.
        num_test_subjects: At most so many for test; fewer than both are split in this proportion,
            on average: the name of each decides.
        slices: Where volumes are cut, as fractions of the axial extent.
        percentiles: Of a volume's intensities, that are mapped to -1 and 1.
        test_subjects: These subjects are test and all others train. None: by the numbers.
        registration: Whether volumes of a pair on different grids are registered.
        augment: Names of :class:`Augmentation`, for training alone; the paper's: `hflip`, `blur`.
        exclude_file: Text file of subjects or files to leave out, a name a line; moves no others.
        predict_split: What `predict` goes over; `all` needs no target files.
        drop_last: Whether what does not fill an optimiser step is left out of a training epoch.

    Raises:
        DataError: If an argument is wrong.
    """

    short_name: ClassVar[str] = "ixi"

    def __init__(
        self,
        root: str | None = None,
        source: Modality = "PD",
        target: Modality = "T1",
        image_size: int = 128,
        in_channels: int = 1,
        batch_size: int = 4,
        num_workers: int = 4,
        seed: int = 0,
        split_seed: int = 0,
        val_fraction: float = 0.05,
        num_train_subjects: int = 100,
        num_test_subjects: int = 25,
        slices: Sequence[float] = (0.45, 0.50, 0.55),
        percentiles: Sequence[float] = (0.5, 99.5),
        test_subjects: list[str] | None = None,
        registration: bool = True,
        augment: list[str] | None = None,
        exclude_file: str | None = None,
        predict_split: PredictSplit = "test",
        drop_last: bool = True,
    ) -> None:
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, drop_last=drop_last, seed=seed
        )
        _check_modalities(source, target)
        check_positive(
            image_size=image_size,
            batch_size=batch_size,
            num_train_subjects=num_train_subjects,
        )
        if num_test_subjects < 0:
            raise DataError(
                f"data.init_args.num_test_subjects: {num_test_subjects} given, expected 0 or more."
            )
        _check_fractions(val_fraction, slices, percentiles)
        check_channels(in_channels)
        _check_predict_split(predict_split)
        self.root = Path(root if root is not None else f"data/{self.short_name}").expanduser()
        self.source = source
        self.target = target
        self.image_size = image_size
        self.in_channels = in_channels
        self.split_seed = split_seed
        self.val_fraction = val_fraction
        self.num_train_subjects = num_train_subjects
        self.num_test_subjects = num_test_subjects
        self.slices = tuple(slices)
        self.test_subjects = test_subjects
        self.exclude_file = exclude_file
        self.predict_split = predict_split
        self.augmentation = Augmentation(augment, seed) if augment else None
        self._pairing = Pairing(source, target, self.slices, registration)
        self._reader = SliceReader(self.root, image_size, (percentiles[0], percentiles[1]))
        self._digests: dict[str, str] = {}
        self._subjects: dict[str, Split] = {}

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether files of some modality are under a root; reads none."""
        return root.is_dir() and bool(find_modalities(root))

    @classmethod
    def variants(cls, root: Path) -> list[dict[str, Any]]:
        """Arguments under which `check` looks at a root: each two modalities that are there."""
        found = find_modalities(root) if root.is_dir() else {}
        there = [modality for modality in MODALITIES if modality in found]
        if len(there) == 1:
            there += [modality for modality in MODALITIES if modality not in there][-1:]
        pairs = combinations(there, 2)
        return [{"target": target, "source": source} for target, source in pairs] or [{}]

    def prepare_data(self) -> None:
        """Reads what the running stage needs; Lightning calls it in one process a node."""
        self._inspect(self._stage)

    def setup(self, stage: str) -> None:
        """Splits the subjects and makes the data sets of a stage.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            DataError: If the data cannot be used.
        """
        self._splits, wanted = self._inspect(stage)
        if stage == "fit" and self.test_subjects is None:
            warn_of_few(self._subjects, self.num_train_subjects, self.num_test_subjects)
        self._datasets = {split: self._dataset(split, self._splits[split]) for split in wanted}

    def _inspect(self, stage: str) -> tuple[dict[str, list[SliceItem]], list[str]]:
        """The slices of each split, and the splits that a stage goes over, all read."""
        if stage == "fit":
            wanted, found = ["train", "val"], self._found([self.target])
        else:
            wanted = [_STAGES.get(stage, "predict")]
            found = self._found([self.target, self.source])
        targets, sources = found.scans[self.target], found.scans.get(self.source, [])
        self._subjects = self._split(found)
        splits = self._by_split(targets)
        problems: list[Problem] = []
        if stage == "predict":
            splits["predict"] = self._predicted(sources)
        elif stage != "fit":
            splits[wanted[0]], problems = self._paired(wanted[0], sources, targets)
        raise_problems(problems, self.short_name, self.root)
        if not splits[wanted[0]]:
            raise self._nothing(stage, wanted[0], targets)
        self._read(item for name in wanted for item in splits[name])
        if stage != "predict":
            assert_disjoint(self._contents(splits), "identical files")
        return splits, wanted

    def _found(self, modalities: Sequence[Modality]) -> Found:
        found = list_root(self.root, modalities, self.exclude_file)
        raise_problems(found.problems, self.short_name, self.root)
        return found

    def _split(self, found: Found) -> dict[str, Split]:
        """The split of each subject that has files which are not left out.

        Those that are left out take part before they are dropped, so that leaving one out moves
        nobody else: a test subject without a partner is left out after the training.
        """
        named = self.test_subjects or ()
        require_known(named, set().union(*found.subjects.values()))
        split = split_subjects(
            found.subjects[self.target],
            test_subjects=self.test_subjects,
            num_train=self.num_train_subjects,
            num_test=self.num_test_subjects,
            val_fraction=self.val_fraction,
            seed=self.split_seed,
        )
        # A subject with source files alone can be a test subject by its name.
        split |= dict.fromkeys(named, "test")
        listed = {scan.subject for scans in found.scans.values() for scan in scans}
        kept = {scan.subject for scan in found.scans[self.target]} | listed.intersection(named)
        return {subject: own for subject, own in split.items() if subject in kept}

    def _by_split(self, scans: Sequence[Scan]) -> dict[str, list[SliceItem]]:
        return {
            name: self._whole(scans, {s for s, own in self._subjects.items() if own == name})
            for name in get_args(Split)
        }

    def _whole(self, scans: Iterable[Scan], subjects: Collection[str]) -> list[SliceItem]:
        return [
            item
            for scan in scans
            if scan.subject in subjects
            for item in items_of({"image": whole_cut(scan, self.slices)})
        ]

    def _predicted(self, sources: Sequence[Scan]) -> list[SliceItem]:
        return [
            item
            for scan in sources
            if self.predict_split in ("all", self._subjects.get(scan.subject))
            for item in items_of({"source": whole_cut(scan, self.slices)})
        ]

    def _paired(
        self, split: str, sources: Sequence[Scan], targets: Sequence[Scan]
    ) -> tuple[list[SliceItem], list[Problem]]:
        chosen = {subject for subject, own in self._subjects.items() if own == split}
        pairs = [pair for pair in match(sources, targets).pairs if pair[0].subject in chosen]
        items, problems = self._pairing.items(pairs)
        return items, problems + self._pairing.missing(chosen, sources, targets)

    def _read(self, items: Iterable[SliceItem]) -> None:
        """Reads the slices of some items.

        Raises:
            DataError: Lists what cannot be used.
        """
        items = list(items)
        stacks, problems = self._reader.read(items)
        problems += size_problems([i for i in items if "target" in i.cuts], stacks)
        raise_problems(problems, self.short_name, self.root)

    def _dataset(self, split: str, items: Sequence[SliceItem]) -> SliceDataset:
        stacks, problems = self._reader.read(items)
        raise_problems(problems, self.short_name, self.root)
        augmentation = self.augmentation if split == "train" else None
        return SliceDataset(items, stacks, in_channels=self.in_channels, augmentation=augmentation)

    def _contents(self, splits: dict[str, list[SliceItem]]) -> dict[str, dict[str, str]]:
        """The hash of each file of each split."""
        paths = {
            name: {cut.scan.path for item in items for cut in item.cuts.values()}
            for name, items in splits.items()
        }
        for path in set().union(*paths.values()) - self._digests.keys():
            self._digests[path] = hashlib.sha256(read_bytes(self.root / path)).hexdigest()
        return {name: {p: self._digests[p] for p in sorted(own)} for name, own in paths.items()}

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        """Training slices (C, S, S) in [-1, 1] without augmentation, in a fixed order.

        Args:
            domain: `target` (or None), or `source`: those of the training subjects that have one.

        Raises:
            DataError: If there are none.
        """
        if domain not in (None, "target", "source"):
            raise DataError(f"reference_images: {domain!r} given, expected target or source.")
        modality = self.source if domain == "source" else self.target
        train = {subject for subject, split in self._subjects.items() if split == "train"}
        items = self._whole(self._found([modality]).scans[modality], train)
        if not items:
            raise DataError(
                f"{self.root}: none of the {len(train)} training subjects has a {modality} file, "
                f"and training slices of {modality} are asked for; add some."
            )
        dataset = self._dataset("reference", items)
        return (dataset[index]["image"] for index in range(len(dataset)))

    def check_files(self, note: Callable[[str], None]) -> list[Problem]:
        """Reads every file of both modalities and lists all that is wrong.

        Args:
            note: Gets which files are pairs and which are not, which is no problem.
        """
        modalities = [self.target, self.source]
        try:
            found = list_root(self.root, modalities, self.exclude_file)
            self._subjects = self._split(found)
        except DataError as error:
            return [Problem("missing", str(self.root), str(error))]
        scans = found.scans
        everyone = {scan.subject for own in scans.values() for scan in own}
        whole = {modality: self._whole(own, everyone) for modality, own in scans.items()}
        stacks, problems = self._reader.read(i for items in whole.values() for i in items)
        pairs = match(scans[self.source], scans[self.target])
        items, apart = self._pairing.items(pairs.pairs)
        bad = {problem.path for problem in problems}
        problems += found.problems + [problem for problem in apart if problem.path not in bad]
        problems += size_problems(items, stacks)
        readable = [scan for scan in scans[self.target] if scan.path not in bad]
        problems += [
            Problem("leak", second, f"is in another split than {first}, of the same content")
            for first, second in leaks(self._contents(self._by_split(readable)))
        ]
        for line in self._pairing.notes(pairs):
            note(line)
        return problems

    def _nothing(self, stage: str, split: str, targets: Sequence[Scan]) -> DataError:
        subjects = len({scan.subject for scan in targets})
        if stage == "predict":
            return nothing_predicted(
                self.root, self.source, self.predict_split, self.target, subjects
            )
        return nothing_split(self.root, split, self.target, subjects)


def _check_modalities(source: str, target: str) -> None:
    for field, value in (("source", source), ("target", target)):
        if value not in MODALITIES:
            raise DataError(f"data.init_args.{field}: {value} given, expected T1, T2 or PD.")
    if source == target:
        raise DataError(
            f"data.init_args.source: {source} given, as data.init_args.target; expected two "
            "modalities, of T1, T2 and PD."
        )


def _check_predict_split(value: str) -> None:
    if value not in get_args(PredictSplit):
        names = ", ".join(get_args(PredictSplit))
        raise DataError(f"data.init_args.predict_split: {value} given, expected {names}.")


def _check_fractions(
    val_fraction: float, slices: Sequence[float], percentiles: Sequence[float]
) -> None:
    if not 0 <= val_fraction < 1:
        raise DataError(
            f"data.init_args.val_fraction: {val_fraction} given, expected 0 <= val_fraction < 1."
        )
    if not slices or not all(0 <= fraction <= 1 for fraction in slices):
        raise DataError(
            f"data.init_args.slices: {list(slices)} given, expected fractions from 0 to 1."
        )
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise DataError(
            f"data.init_args.percentiles: {list(percentiles)} given, expected two, with "
            "0 <= low < high <= 100."
        )
