"""What is cut from which file of MR scans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from data_modules.listing.scan_names import stem_of
from data_modules.listing.scans import Scan
from data_modules.names import escaped
from data_modules.reading.volumes import Plane, Spacing, axial_index

Key: TypeAlias = Literal["image", "source", "target"]


@dataclass(frozen=True)
class Cut:
    """The planes that are taken from one file.

    Attributes:
        scan: The file.
        indices: Axial planes of the grid that they lie on; none of a single slice.
        onto: What the volume is registered to, whose grid then counts.
    """

    scan: Scan
    indices: tuple[int, ...] = ()
    onto: Scan | None = None


@dataclass(frozen=True)
class SliceItem:
    """What one index of a split gives.

    Attributes:
        path: Names it, `escaped`: the file of a single slice, else the volume with
            `_slice<index>`.
        subject: Whose it is.
        cuts: The planes of each key of the batch, all alike.
        row: Which of the planes.
    """

    path: str
    subject: str
    cuts: Mapping[Key, Cut]
    row: int = 0

    @property
    def group(self) -> str:
        """What a split does not tear apart: the subject."""
        return self.subject

    @property
    def source(self) -> tuple[str, int | None]:
        """The file that names it, and the axial plane of it; None of a single slice."""
        cut = next(iter(self.cuts.values()))
        return cut.scan.path, cut.indices[self.row] if cut.indices else None


@dataclass(frozen=True)
class Stack:
    """The planes of a cut.

    Attributes:
        images: (N, S, S) float32 in [0, 255].
        shape: Rows and columns of the file's planes.
        spacing: Their distances.
    """

    images: Plane
    shape: tuple[int, ...]
    spacing: Spacing


def items_of(cuts: Mapping[Key, Cut]) -> list[SliceItem]:
    """One item a plane, named after the first of the cuts."""
    scan, indices = next((cut.scan, cut.indices) for cut in cuts.values())
    if not indices:
        return [SliceItem(escaped(scan.path), scan.subject, cuts)]
    # A name without `.gz`, so that its stem names the slice.
    names = [f"{escaped(stem_of(scan.path))}_slice{index:03d}.nii" for index in indices]
    return [SliceItem(name, scan.subject, cuts, row) for row, name in enumerate(names)]


def whole_cut(scan: Scan, fractions: Sequence[float]) -> Cut:
    """The planes of a file at fractions of its axial extent; each plane once."""
    if scan.grid is None or scan.flat:
        return Cut(scan)
    depth = scan.grid.shape[2]
    return Cut(scan, tuple(sorted({axial_index(fraction, depth) for fraction in fractions})))
