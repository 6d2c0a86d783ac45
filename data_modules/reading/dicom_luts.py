"""The grey values of a DICOM image: modality, VOI, inversion (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2).

Nothing here knows of headers: numbers in, pixels in [0, 255] out. What cannot be used is a
`ValueError` that names the tag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Range: TypeAlias = tuple[float, float]

_FEWEST_BITS, _MOST_BITS = 8, 16  # of an entry of a table, C.11.2.1.1


@dataclass(frozen=True)
class Table:
    """A look-up table.

    Args:
        name: Named in errors.
        entries: (N,) whole numbers from 0.
        first: The input that the first entry is for.
        bits: Depth of the entries: they lie in 0 .. 2^bits - 1.
    """

    name: str
    entries: npt.NDArray[np.int64]
    first: int
    bits: int

    def __call__(self, values: npt.NDArray[Any]) -> Values:
        """The entries of some inputs; inputs beyond the ends take the first or last entry."""
        position = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: Values = self.entries[position.astype(np.int64)].astype(np.float64)
        return found


def table_of(name: str, descriptor: Sequence[int], words: Sequence[int], domain: Range) -> Table:
    """A table as its descriptor and data say.

    Entries of 8 bits may be packed, two a word, or stand in words of their own. The depth is the
    descriptor's, unless the data disagree with it: entries need more bits than it says, or use less
    than a quarter of the range that it says (CR machines give the size of a word there, whatever
    the range). Then it is what the entries need, 8 bits at least.

    Args:
        name: Named in errors.
        descriptor: LUT Descriptor: number of entries (0 stands for 65536), first input, bits an
            entry; each as it was written, signed or not.
        words: LUT Data as 16-bit words.
        domain: Least and greatest input that there can be. It tells whether the first input is
            negative, where the descriptor was written as unsigned.

    Raises:
        ValueError: If the descriptor has not three values, or the data do not hold so many entries.
    """
    if len(descriptor) != 3:
        raise ValueError(f"{name} has a LUT Descriptor of {len(descriptor)} values; expected 3")
    if not words:
        raise ValueError(f"{name} has no LUT Data")
    count, first, declared = descriptor[0] & 0xFFFF or 0x10000, descriptor[1], descriptor[2]
    if len(words) == (count + 1) // 2 and count > 1:
        entries = np.asarray(words, np.uint16).astype("<u2").view(np.uint8)[:count]
    elif len(words) >= count:
        entries = np.asarray(words[:count], np.uint16)
    else:
        raise ValueError(
            f"{name} has {2 * len(words)} bytes of LUT Data for the {count} entries of its "
            f"LUT Descriptor"
        )
    if first >= 0x8000 and domain[0] < 0 and domain[1] < first:
        first -= 0x10000
    return Table(name, entries.astype(np.int64), first, _depth(entries, declared))


def _depth(entries: npt.NDArray[Any], declared: int) -> int:
    needed = max(int(entries.max()).bit_length(), _FEWEST_BITS)
    believed = _FEWEST_BITS <= declared <= _MOST_BITS and needed <= declared < needed + 2
    return declared if believed else needed


@dataclass(frozen=True)
class Rescale:
    """`slope * stored + intercept` (C.11.1.1.2)."""

    slope: float
    intercept: float
    name: str

    def __call__(self, values: npt.NDArray[Any]) -> Values:
        """The rescaled values.

        Raises:
            ValueError: If they are not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            rescaled = values.astype(np.float64) * self.slope + self.intercept
        if not np.isfinite(rescaled).all():
            raise ValueError(f"{self.name} is {self.slope:g}, which gives values beyond any range")
        return rescaled


@dataclass(frozen=True)
class Window:
    """A window (C.11.2.1.2 and C.11.2.1.3), whose output is 0 for black and 1 for white.

    Args:
        centre: In units of its input.
        width: In units of its input.
        function: `LINEAR`, `LINEAR_EXACT` or `SIGMOID`.
        name: Named in errors.
    """

    centre: float
    width: float
    function: str
    name: str

    def fault(self) -> str:
        """Why it cannot be used, empty where it can."""
        if self.function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            return (
                f"VOI LUT Function (0028,1056) is {self.function}; "
                f"known are LINEAR, LINEAR_EXACT and SIGMOID"
            )
        if not np.isfinite([self.centre, self.width]).all():
            return f"{self.name} is {self.width:g} around {self.centre:g}; expected finite numbers"
        if self.function == "LINEAR" and self.width < 1:
            return f"{self.name} is {self.width:g}; expected 1 or more"
        if self.width <= 0:
            return f"{self.name} is {self.width:g}; expected a number above 0"
        return ""

    def __call__(self, values: Values) -> Values:
        """The windowed values."""
        if self.function == "SIGMOID":
            exponent = -4.0 * (values - self.centre) / self.width
            return 1.0 / (1.0 + np.exp(np.clip(exponent, -700.0, 700.0)))
        shift = 1.0 if self.function == "LINEAR" else 0.0
        centre, width = self.centre - shift / 2, self.width - shift
        if width == 0:  # a threshold
            return (values > centre).astype(np.float64)
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def apply_tables(
    stored: npt.NDArray[Any],
    modality: Table | Rescale | None,
    voi: Table | Window | None,
    padding: Mask,
) -> tuple[Values, Range]:
    """The values after both tables, and the range that stands for black and white.

    A VOI table has the range of its entries, a window that of its output. Without either, the
    darkest and brightest values are black and white; padding takes no part.

    Args:
        stored: (H, W) stored pixels.
        modality: None is the identity.
        voi: None where the image has no such table.
        padding: (H, W), True for pixels that are no part of the image.

    Returns:
        (H, W) values, and black and white among them.

    Raises:
        ValueError: If values are not finite.
    """
    values = stored.astype(np.float64) if modality is None else modality(stored)
    if isinstance(voi, Table):
        return voi(values), (0.0, 2.0**voi.bits - 1)
    if isinstance(voi, Window):
        return voi(values), (0.0, 1.0)
    inside = values[~padding]
    return values, ((float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0))


def grey_levels(
    stored: npt.NDArray[Any],
    modality: Table | Rescale | None,
    voi: Table | Window | None,
    padding: Mask,
    inverted: bool,
) -> npt.NDArray[np.float32]:
    """The picture: what is to be bright is bright, and padding is black.

    An image whose stored pixels are all alike, padding aside, has no range of its own: without a
    VOI table it is black.

    Args:
        stored: As `apply_tables`.
        modality: As `apply_tables`.
        voi: As `apply_tables`.
        padding: As `apply_tables`.
        inverted: Whether the least value is white (MONOCHROME1).

    Returns:
        (H, W) in [0, 255].

    Raises:
        ValueError: If stored pixels differ and the picture's do not, or values are not finite.
    """
    values, (low, high) = apply_tables(stored, modality, voi, padding)
    if inverted:
        values = low + high - values
    scale = 255.0 / (high - low) if high > low else 0.0
    picture = np.clip((values - low) * scale, 0, 255).astype(np.float32)
    picture[padding] = 0
    if picture.min() == picture.max() and stored.min() != stored.max():
        raise ValueError(
            f"shows nothing: its stored pixels go from {stored.min():g} to {stored.max():g}, "
            f"and all become {picture.min():g} of 255. {_culprit(stored, modality, voi, padding)}"
        )
    return picture


def _culprit(
    stored: npt.NDArray[Any],
    modality: Table | Rescale | None,
    voi: Table | Window | None,
    padding: Mask,
) -> str:
    inside = stored[~padding]
    if not inside.size or (voi is None and inside.min() == inside.max()):
        return "Pixel Padding Value (0028,0120) leaves no two pixels that differ"
    table = voi or modality
    assert table is not None  # noqa: S101
    return f"Look at {table.name}"
