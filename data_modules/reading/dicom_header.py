"""Values of a DICOM header, each read with care and named by its tag where it cannot be.

Writers break the rules in known ways: empty numbers, decimal commas, unsigned numbers under a
signed representation and the reverse. What has one meaning is read; what has none or two is a
`ValueError` that names the tag.
"""

import io
import re
import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import psutil
import pydicom
from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)|nan", re.IGNORECASE
)
# "1,234" is 1.234 where commas are decimal and 1234 where they group digits.
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")

_ITEM = b"\xfe\xff\x00\xe0"  # what compressed pixels begin with
_META_LENGTH = slice(140, 144)  # the value of the first element of the File Meta Information
_INFLATE_AT_ONCE = 2**24


def open_dataset(data: bytes) -> Dataset:
    """The data set of a file, with or without preamble and File Meta Information.

    Raises:
        ValueError: If the bytes are no DICOM image, or inflate beyond the memory.
    """
    _check_inflation(data)
    try:
        return pydicom.dcmread(io.BytesIO(data))
    except InvalidDicomError:
        pass  # no preamble, as before the standard had one
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "Rows" in dataset and "Columns" in dataset:
            return dataset
    except Exception as error:  # whatever the bytes of another format happen to mean
        raise ValueError("is no DICOM image") from error
    raise ValueError("is no DICOM image: it has neither the prefix DICM nor Rows and Columns")


def _check_inflation(data: bytes) -> None:
    """Pydicom inflates a deflated file whole: a few kilobytes can declare any size."""
    start = _META_LENGTH.stop + int.from_bytes(data[_META_LENGTH], "little")
    if DeflatedExplicitVRLittleEndian.encode() not in data[_META_LENGTH.stop : start]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    free, size, rest = psutil.virtual_memory().available, 0, data[start:]
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, _INFLATE_AT_ONCE))
        rest = inflater.unconsumed_tail
        if size > free // 4:
            raise ValueError(
                f"inflates to more than {size / 2**30:.1f} GB (Transfer Syntax UID (0002,0010)); "
                f"{free / 2**30:.1f} GB are free"
            )


def transfer_syntax(dataset: Dataset, keyword: str) -> UID:
    """How the pixels of an element are stored.

    Raises:
        ValueError: If they are compressed, and nothing says how.
    """
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax:
        return UID(syntax)
    if dataset[keyword].value[:4] == _ITEM:
        raise ValueError(
            "has compressed pixels, and no Transfer Syntax UID (0002,0010) that says how"
        )
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def label(keyword: str) -> str:
    """Name and number of a tag, as `Rescale Slope (0028,1053)`."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword  # noqa: S101
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True)
class Header:
    """The elements of a data set or of an item of a sequence.

    Args:
        dataset: As pydicom read it.
        little_endian: The byte order of the file.
    """

    dataset: Dataset
    little_endian: bool

    def value(self, keyword: str) -> Any:
        """What pydicom makes of an element; None where it is absent or empty.

        Raises:
            ValueError: If pydicom can make nothing of it.
        """
        if keyword not in self.dataset:
            return None
        try:
            value = self.dataset[keyword].value
        except Exception as error:  # pydicom raises of every kind
            raise ValueError(f"{label(keyword)} cannot be read ({error})") from error
        return None if value is None or (hasattr(value, "__len__") and not len(value)) else value

    def text(self, keyword: str) -> str:
        """A code string in capitals, empty where there is none.

        Raises:
            ValueError: If there are several.
        """
        value = self.value(keyword)
        if isinstance(value, MultiValue):
            raise ValueError(f"{label(keyword)} holds {len(value)} values; expected one")
        return str(value or "").strip(" \0").upper()

    def numbers(self, keyword: str) -> list[float | None]:
        """Numbers, None for each empty one; an empty list where none has a value.

        Raises:
            ValueError: If one is no number.
        """
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in self.dataset:
            return []
        raw: Any = self.dataset.get_item(tag)
        kind = raw.VR if raw.VR not in (None, "UN") else dictionary_VR(tag)
        if isinstance(raw, RawDataElement) and kind in ("DS", "IS", "LO", "SH", "ST", "LT", "CS"):
            parts = (raw.value or b"").decode("latin-1").split("\\")
        else:
            value = self.value(keyword)
            several = isinstance(value, MultiValue | list)
            parts = ["" if v is None else str(v) for v in (value if several else [value])]
        found = [_number(keyword, part.strip(" \0\t\r\n")) for part in parts]
        return found if any(number is not None for number in found) else []

    def number(self, keyword: str) -> float | None:
        """One finite number, None where there is none.

        Raises:
            ValueError: If it is no finite number, or there are several.
        """
        found = self.numbers(keyword)
        if len(found) > 1:
            raise ValueError(f"{label(keyword)} holds {len(found)} values; expected one")
        if found and found[0] is not None and not np.isfinite(found[0]):
            raise ValueError(f"{label(keyword)} is {found[0]}; expected a finite number")
        return found[0] if found else None

    def whole(self, keyword: str, default: int | None = None) -> int:
        """One whole number.

        Raises:
            ValueError: If there is none and no default, or it is not whole.
        """
        found = self.number(keyword)
        if found is None:
            if default is None:
                raise ValueError(f"{label(keyword)} is missing; add it, or leave the file out")
            return default
        if found % 1:
            raise ValueError(f"{label(keyword)} is {found:g}; expected a whole number")
        return int(found)

    def words(self, keyword: str) -> list[int]:
        """The 16-bit patterns of an element of the representations US, SS or OW.

        Raises:
            ValueError: If it is something else.
        """
        return [number & 0xFFFF for number in self.integers(keyword)]

    def integers(self, keyword: str) -> list[int]:
        """The numbers of an element of the representations US or SS; of bytes as unsigned words.

        Raises:
            ValueError: If it is something else.
        """
        value = self.value(keyword)
        if value is None:
            return []
        if isinstance(value, bytes):
            if len(value) % 2:
                value += b"\0"
            swapped = not self.little_endian and self.dataset[keyword].VR != "OB"
            dtype = np.dtype(">u2" if swapped else "<u2")
            return [int(word) for word in np.frombuffer(value, dtype)]
        try:
            several = isinstance(value, MultiValue | list)
            return [int(word) for word in (value if several else [value])]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{label(keyword)} is {value!r}; expected numbers") from error

    def items(self, keyword: str) -> list[Self]:
        """The items of a sequence, none where it is absent or empty.

        Raises:
            ValueError: If it is no sequence.
        """
        value = self.value(keyword)
        if value is None:
            return []
        if not all(isinstance(item, Dataset) for item in value):
            raise ValueError(f"{label(keyword)} is no sequence of items")
        return [type(self)(item, self.little_endian) for item in value]

    def only_item(self, keyword: str) -> Self | None:
        """The item of a sequence that holds one at most.

        Raises:
            ValueError: If there are several.
        """
        found = self.items(keyword)
        if len(found) > 1:
            raise ValueError(f"{label(keyword)} holds {len(found)} items; expected one")
        return found[0] if found else None


def _number(keyword: str, text: str) -> float | None:
    if not text:
        return None
    if text.count(",") == 1 and "." not in text:
        if _GROUPED.fullmatch(text):
            value = text.replace(",", "")
            raise ValueError(
                f"{label(keyword)} is {text!r}, which is {text.replace(',', '.')} with a decimal "
                f"comma and {value} with grouped digits; write it with a point"
            )
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{label(keyword)} is {text!r}, which is no number")
    return float(text)
