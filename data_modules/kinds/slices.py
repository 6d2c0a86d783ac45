"""The data module that all sets of MR scans in several modalities share."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, get_args

from torch import Tensor

from data_modules.errors import DataError
from data_modules.kinds.base import DataModule, PredictSplit
from data_modules.kinds.ranges import (
    ClosedUnitInterval,
    NonNegativeInt,
    Percentile,
    PositiveInt,
    check_ranges,
)
from data_modules.kinds.slice_arguments import check_cuts, check_modalities
from data_modules.kinds.slice_cuts import SliceItem, items_of, whole_cut
from data_modules.kinds.slice_dataset import SliceDataset
from data_modules.kinds.slice_digests import FileDigests, TellsSlices
from data_modules.kinds.slice_pairs import PairCutter, match_scans, unequal_slices
from data_modules.kinds.slice_reader import SliceReader
from data_modules.kinds.slice_volumes import WritesVolumes
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.inspection import raise_problems
from data_modules.listing.items import Findings, Problem
from data_modules.listing.modalities import ScanListing, find_modalities, list_scans
from data_modules.listing.scans import MODALITIES, Modality, Scan
from data_modules.listing.splits import Split, assert_disjoint, leaks
from data_modules.listing.subjects import (
    nothing_found,
    require_known,
    split_subjects,
    warn_of_few,
)
from data_modules.names import comparable

_STAGES = {"fit": "train", "validate": "val", "test": "test"}


@dataclass(frozen=True)
class InspectedSlices:
    """What was read of a stage.

    Attributes:
        splits: The slices of each split.
        wanted: The splits that the stage goes over.
        subjects: The split of each subject.
    """

    splits: dict[str, list[SliceItem]]
    wanted: list[str]
    subjects: dict[str, Split]


class SliceDataModule(WritesVolumes, TellsSlices, DataModule[InspectedSlices, SliceDataset]):
    """Axial slices of one MR modality to train on, and of two in pairs to measure a translation.

    `fit` reads the target modality alone, as `image`; `validate` and `test` give `source` and
    `target` on one grid, `predict` `source` alone. All are (B, C, S, S) float32 in [-1, 1].
    Splits are by subject, and the files of the target modality alone decide them.

    Args:
        root: Folder that holds the volumes, or folders `T1`, `T2`, `PD`. None: `data/<data set>`.
        source: Modality that is translated from: T1, T2 or PD.
        target: Modality that is trained on and translated to.
        image_size: Slices become squares of this side, in pixels.
        in_channels: 1, or 3 that are equal.
        batch_size: Slices a device and batch.
        num_train_subjects: At most so many subjects for training and validation.
        num_test_subjects: At most so many for test; fewer than both are split in this proportion,
            on average: the name of each decides.
        slices: Where volumes are cut, as fractions of the axial extent.
        percentiles: Of a volume's intensities, that are mapped to -1 and 1.
        test_subjects: These subjects are test and all others train. None: by the numbers.
        registration: Whether volumes of a pair on different grids are registered.
        **kwargs: As `DataModule`; `exclude_file` names subjects or files and moves no others,
            `predict_split: all` needs no target files.
    """

    counted: ClassVar[str] = "subjects"
    stand_in: ClassVar[int] = 30
    needed: ClassVar[str]
    """What a root holds, for the error that it does not."""

    def __init__(
        self,
        root: str | None = None,
        source: Modality = "PD",
        target: Modality = "T1",
        image_size: PositiveInt = 128,
        in_channels: PositiveInt = 1,
        batch_size: PositiveInt = 4,
        num_train_subjects: PositiveInt = 100,
        num_test_subjects: NonNegativeInt = 25,
        slices: Sequence[ClosedUnitInterval] = (0.45, 0.50, 0.55),
        percentiles: Sequence[Percentile] = (0.5, 99.5),
        test_subjects: list[str] | None = None,
        registration: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root=root,
            image_size=image_size,
            in_channels=in_channels,
            batch_size=batch_size,
            **kwargs,
        )
        check_modalities(source, target)
        check_ranges(SliceDataModule, locals())
        check_cuts(slices, percentiles)
        self.source = source
        self.target = target
        self.num_train_subjects = num_train_subjects
        self.num_test_subjects = num_test_subjects
        self.slices = tuple(slices)
        self.test_subjects = test_subjects and [comparable(name) for name in test_subjects]
        self._pairs = PairCutter(source, target, self.slices, registration)
        clip = (percentiles[0], percentiles[1])
        self._reader = SliceReader(self.root, image_size, clip, self.reading)
        self._digests = FileDigests(self.root)
        self._subjects: dict[str, Split] = {}

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether files of some modality are under a root; reads none."""
        return root.is_dir() and bool(find_modalities(root, cls.names()))

    @classmethod
    def variants(cls, root: Path) -> list[dict[str, Any]]:
        """Arguments under which `check` looks at a root: each two modalities that are there."""
        found = find_modalities(root, cls.names()) if root.is_dir() else {}
        there = [modality for modality in MODALITIES if modality in found]
        if len(there) == 1:
            there += [modality for modality in MODALITIES if modality not in there][-1:]
        pairs = combinations(there, 2)
        return [{"target": target, "source": source} for target, source in pairs] or [{}]

    def list_files(self, modalities: Sequence[Modality]) -> ScanListing:
        """The files of some modalities, with the exclusion file applied and checked.

        Raises:
            DataError: If the root or all files are missing, or a listed name matches nothing.
        """
        self.require_root()
        met = Findings()
        files = find_modalities(self.root, self.names(), met)
        if not any(files.values()) and not met.problems:
            above = self.root.resolve().parent
            one_of_them = self.root.resolve().name in MODALITIES
            hint = f": give the folder above, {above}" if one_of_them else ""
            raise self.wrong_layout(self.needed + hint)
        exclusion = Exclusion(self.exclude_file)
        return list_scans(self.root, files, modalities, self.names(), exclusion, met)

    def inspect(self, stage: str) -> InspectedSlices:
        """Reads the slices that a stage needs, and splits them.

        Raises:
            DataError: If something cannot be used; lists it.
        """
        if stage == "fit":
            wanted, found = ["train", "val"], self._usable([self.target])
        else:
            wanted = [_STAGES.get(stage, "predict")]
            found = self._usable([self.target, self.source])
        targets, sources = found.scans[self.target], found.scans.get(self.source, [])
        subjects = self._split(found)
        if stage == "test" and self.test_split == "all":
            subjects = {scan.subject: "test" for scan in targets}
        splits = self._by_split(targets, subjects)
        problems: list[Problem] = []
        if stage == "predict":
            splits["predict"] = self._predicted(sources, subjects)
        elif stage != "fit":
            chosen = {subject for subject, own in subjects.items() if own == wanted[0]}
            splits[wanted[0]], problems = self._pairs.of_subjects(chosen, sources, targets)
        raise_problems(problems, self.short_name, self.root)
        if not splits[wanted[0]]:
            people = len({scan.subject for scan in targets})
            ask = wanted[0] if stage != "predict" else self.predict_split
            raise nothing_found(self.root, stage, ask, self.source, self.target, people)
        self._read(item for name in wanted for item in splits[name])
        if stage != "predict":
            assert_disjoint(self._digests.of_splits(splits), "identical files")
        return InspectedSlices(splits, wanted, subjects)

    def datasets_of(self, found: InspectedSlices, stage: str) -> dict[str, SliceDataset]:
        """The torch data set of each split that a stage goes over."""
        self._subjects = found.subjects
        if stage == "fit" and self.test_subjects is None:
            warn_of_few(found.subjects, self.num_train_subjects, self.num_test_subjects)
        return {split: self._dataset(split, found.splits[split]) for split in found.wanted}

    def ahead(self) -> tuple[frozenset[str], PredictSplit | None]:
        """As `DataModule.ahead`; only files of the source modality can be translated."""
        try:
            scans = self.list_files([self.target, self.source]).scans
        except DataError:
            return frozenset(), None
        sources = {scan.subject for scan in scans[self.source]}
        tested = {subject for subject, own in self._subjects.items() if own == "test"} & sources
        if tested & {scan.subject for scan in scans[self.target]}:
            return frozenset({"target"}), "test"
        return frozenset(), "test" if tested else "all" if sources else None

    def _usable(self, modalities: Sequence[Modality]) -> ScanListing:
        found = self.list_files(modalities)
        self.tell(found.notes)
        raise_problems(found.problems, self.short_name, self.root)
        return found

    def _split(self, found: ScanListing) -> dict[str, Split]:
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

    def _whole(self, scans: Iterable[Scan], subjects: Collection[str]) -> list[SliceItem]:
        """The slices of some subjects, each of one scan alone."""
        return [
            item
            for scan in scans
            if scan.subject in subjects
            for item in items_of({"image": whole_cut(scan, self.slices)})
        ]

    def _by_split(
        self, scans: Sequence[Scan], subjects: Mapping[str, Split]
    ) -> dict[str, list[SliceItem]]:
        return {
            name: self._whole(scans, {s for s, own in subjects.items() if own == name})
            for name in get_args(Split)
        }

    def _predicted(self, sources: Sequence[Scan], subjects: Mapping[str, Split]) -> list[SliceItem]:
        return [
            item
            for scan in sources
            if self.predict_split in ("all", subjects.get(scan.subject))
            for item in items_of({"source": whole_cut(scan, self.slices)})
        ]

    def _read(self, items: Iterable[SliceItem]) -> None:
        """Reads the slices of some items.

        Raises:
            DataError: If something cannot be used; lists it.
        """
        items = list(items)
        stacks, problems = self._reader.read(items)
        problems += unequal_slices([i for i in items if "target" in i.cuts], stacks)
        raise_problems(problems, self.short_name, self.root)

    def _dataset(self, split: str, items: Sequence[SliceItem]) -> SliceDataset:
        stacks, problems = self._reader.read(items)
        raise_problems(problems, self.short_name, self.root)
        augmentation = self.augmentation if split == "train" else None
        return SliceDataset(
            items,
            stacks,
            in_channels=self.in_channels,
            augmentation=augmentation,
            placed=split == "predict",
        )

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
        items = self._whole(self._usable([modality]).scans[modality], train)
        if not train and self.test_split == "all":  # a folder that was held out whole
            return iter(())
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
        try:
            found = self.list_files([self.target, self.source])
            subjects = self._split(found)
        except DataError as error:
            return [Problem("missing", str(self.root), str(error))]
        for line in found.notes:
            note(line)
        scans = found.scans
        everyone = {scan.subject for own in scans.values() for scan in own}
        whole = {modality: self._whole(own, everyone) for modality, own in scans.items()}
        stacks, problems = self._reader.read(i for items in whole.values() for i in items)
        matched = match_scans(scans[self.source], scans[self.target])
        items, apart = self._pairs.items(matched.pairs)
        bad = {problem.path for problem in problems}
        problems += found.problems + [problem for problem in apart if problem.path not in bad]
        if not everyone:
            text = f"no file of {self.target} or {self.source} is read"
            problems.append(Problem("missing", str(self.root), text))
        problems += unequal_slices(items, stacks)
        readable = [scan for scan in scans[self.target] if scan.path not in bad]
        problems += [
            Problem("leak", second, f"is in another split than {first}, of the same content")
            for first, second in leaks(self._digests.of_splits(self._by_split(readable, subjects)))
        ]
        for line in self._pairs.notes(matched):
            note(line)
        return problems
