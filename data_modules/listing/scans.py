"""A file of an MR modality."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from data_modules.reading.grids import Grid

Modality: TypeAlias = Literal["T1", "T2", "PD"]
MODALITIES: tuple[Modality, ...] = ("T1", "T2", "PD")


@dataclass(frozen=True)
class Scan:
    """One file of one modality.

    Attributes:
        path: Relative to the root, with forward slashes.
        subject: Whose it is.
        key: Equal for the files of one subject and slice in all modalities.
        grid: Of a NIfTI file that can be read; None for png and npz.
        problem: Why it cannot be used, as far as its header tells.
    """

    path: str
    subject: str
    key: str
    grid: Grid | None = None
    problem: str | None = None

    @property
    def flat(self) -> bool:
        """Whether it is a single slice."""
        return self.grid is None or self.grid.flat
