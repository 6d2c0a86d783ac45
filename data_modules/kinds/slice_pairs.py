"""Scans of two modalities to pairs, on one grid."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from data_modules.kinds.slice_cuts import Cut, Key, SliceItem, Stack, items_of, whole_cut
from data_modules.listing.items import Problem
from data_modules.listing.scans import Modality, Scan

_APART = "on different grids: registered when they are tested"


@dataclass(frozen=True)
class MatchedScans:
    """What of two modalities belongs together.

    Attributes:
        pairs: Source and target of each key that both have.
        lone_sources: Files without a target.
        lone_targets: Files without a source.
    """

    pairs: list[tuple[Scan, Scan]]
    lone_sources: list[Scan]
    lone_targets: list[Scan]


def match_scans(sources: Sequence[Scan], targets: Sequence[Scan]) -> MatchedScans:
    """Pairs the files of equal keys."""
    target_of = {scan.key: scan for scan in targets}
    keys = {scan.key for scan in sources}
    return MatchedScans(
        [(scan, target_of[scan.key]) for scan in sources if scan.key in target_of],
        [scan for scan in sources if scan.key not in target_of],
        [scan for scan in targets if scan.key not in keys],
    )


@dataclass(frozen=True)
class PairCutter:
    """How pairs come to lie on one grid.

    Attributes:
        source: Modality that is translated from.
        target: Modality that is translated to.
        fractions: Of the axial extent.
        registration: Whether volumes on different grids are registered.
    """

    source: Modality
    target: Modality
    fractions: Sequence[float]
    registration: bool

    def of_subjects(
        self, subjects: Collection[str], sources: Sequence[Scan], targets: Sequence[Scan]
    ) -> tuple[list[SliceItem], list[Problem]]:
        """The slices of all pairs of some subjects, and the subjects and pairs that give none.

        Args:
            subjects: Each must have a pair.
            sources: Files of the source modality, of any subject.
            targets: Files of the target modality, of any subject.
        """
        matched = match_scans(sources, targets)
        items, problems = self.items([p for p in matched.pairs if p[0].subject in subjects])
        return items, problems + self._missing(subjects, sources, targets)

    def items(self, pairs: Sequence[tuple[Scan, Scan]]) -> tuple[list[SliceItem], list[Problem]]:
        """The slices of pairs, and the pairs that cannot be brought together."""
        items: list[SliceItem] = []
        problems: list[Problem] = []
        for source, target in pairs:
            cuts = self._cuts(source, target)
            if isinstance(cuts, Problem):
                problems.append(cuts)
            else:
                items += items_of(cuts)
        return items, problems

    def _cuts(self, source: Scan, target: Scan) -> Mapping[Key, Cut] | Problem:
        bad = next((scan for scan in (source, target) if scan.problem), None)
        if bad is not None:
            return Problem("unreadable", bad.path, f"subject {bad.subject}: {bad.problem}")
        if source.flat != target.flat:
            single, volume = (source, target) if source.flat else (target, source)
            text = f"subject {single.subject}: is a single slice, but {volume.path} a volume"
            return Problem("size", single.path, text)
        if source.grid is None or target.grid is None or source.flat:
            return {"source": Cut(source), "target": Cut(target)}
        if source.grid.agrees(target.grid):
            cut = whole_cut(source, self.fractions)
            return {"source": cut, "target": Cut(target, cut.indices)}
        if not self.registration:
            text = (
                f"subject {source.subject}: its {self.target} has {target.grid}, but its "
                f"{self.source}, {source.path}, has {source.grid}; set "
                "data.init_args.registration to true, or give both on one grid"
            )
            return Problem("size", target.path, text)
        # T1 moves: of IXI, T2 and PD share a grid (docs/papers/lmi.md, 5c-12).
        if self.source == "T1":
            cut = whole_cut(target, self.fractions)
            return {"source": Cut(source, cut.indices, target), "target": cut}
        cut = whole_cut(source, self.fractions)
        return {"source": cut, "target": Cut(target, cut.indices, source)}

    def _missing(
        self, subjects: Collection[str], sources: Sequence[Scan], targets: Sequence[Scan]
    ) -> list[Problem]:
        """The subjects without any pair."""
        problems = []
        paired = {source.subject for source, _ in match_scans(sources, targets).pairs}
        for subject in sorted(set(subjects) - paired):
            there = [scan for scan in targets if scan.subject == subject]
            other = self.source if there else self.target
            there += [scan for scan in sources if scan.subject == subject]
            text = (
                f"subject {subject}: has no {other} file that belongs to it, and pairs are asked "
                "for; add it under an equal name, or list the subject in "
                "data.init_args.exclude_file, which leaves the splits of all others as they are"
            )
            problems.append(Problem("unpaired", there[0].path if there else subject, text))
        return problems

    def notes(self, matched: MatchedScans) -> list[str]:
        """Which files are pairs and which are not, a line each after the counts."""
        lone = {self.target: matched.lone_targets, self.source: matched.lone_sources}
        counts = ", ".join(f"{len(scans)} unpaired {name}" for name, scans in lone.items())
        number = len(matched.pairs)
        pairs_of = "1 pair" if number == 1 else f"{number} pairs"
        lines = [f"{self.target} and {self.source}: {pairs_of}, {counts}"]
        for source, target in matched.pairs:
            apart = source.grid and target.grid and not source.grid.agrees(target.grid)
            how = f" ({_APART})" if apart and self.registration else ""
            lines.append(f"  pair: {target.path} and {source.path}{how}")
        return lines + [f"  unpaired: {scan.path}" for scans in lone.values() for scan in scans]


def unequal_slices(items: Sequence[SliceItem], stacks: Mapping[Cut, Stack]) -> list[Problem]:
    """Pairs of single slices that differ in size or in the shape of a pixel."""
    problems = []
    for item in items:
        source, target = item.cuts["source"], item.cuts["target"]
        first, second = stacks.get(source), stacks.get(target)
        if first is None or second is None or not source.scan.flat:
            continue
        if first.shape != second.shape or not _alike(first, second):
            text = (
                f"subject {item.subject}: is {_size(second)}, but its pair {source.scan.path} is "
                f"{_size(first)}; give both on one grid"
            )
            problems.append(Problem("size", target.scan.path, text))
    return problems


def _alike(first: Stack, second: Stack) -> bool:
    ratios = [stack.spacing[0] / stack.spacing[1] for stack in (first, second)]
    return abs(ratios[0] / ratios[1] - 1) < 0.01


def _size(stack: Stack) -> str:
    rows, columns = stack.shape
    return f"{columns}x{rows} pixels of {stack.spacing[1]:.3g} x {stack.spacing[0]:.3g} mm"
