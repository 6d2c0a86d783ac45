"""Stored pixels of one frame of a DICOM image (PS3.5 8.1 and 8.2, PS3.3 C.7.5.1.1.2)."""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, RLELossless

# What decoding and the tables take of memory for each sample, in bytes: words, three arrays of
# eight bytes, one of four.
_BYTES_A_SAMPLE = 32
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51")  # of a JPEG or JPEG-LS and of a JPEG 2000 codestream
_LIBJPEG = "pylibjpeg pylibjpeg-libjpeg"
_OPENJPEG = "pylibjpeg pylibjpeg-openjpeg"
_KINDS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
KINDS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", *_KINDS)
"""The values of Photometric Interpretation that are read."""


@dataclass(frozen=True)
class Layout:
    """How pixels lie in the file.

    Args:
        keyword: `PixelData`, `FloatPixelData` or `DoubleFloatPixelData`.
        syntax: Transfer syntax.
        rows: Height.
        columns: Width.
        samples: 1 or 3 a pixel.
        kind: Photometric Interpretation.
        allocated: Bits of a cell.
        stored: Bits of a sample in it.
        high_bit: Position of the highest of them.
        signed: Whether samples are in two's complement.
        planar: Whether colours come one after the other.
        frames: Number of frames.
        vr: Value representation of the pixels.
        offsets: Extended offset table, where there is one.
    """

    keyword: str
    syntax: UID
    rows: int
    columns: int
    samples: int
    kind: str
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: bool
    frames: int
    vr: str
    offsets: tuple[bytes, bytes] | None

    @property
    def domain(self) -> tuple[float, float]:
        """Least and greatest number that `stored` bits can hold."""
        if self.signed:
            return -(2.0 ** (self.stored - 1)), 2.0 ** (self.stored - 1) - 1
        return 0.0, 2.0**self.stored - 1


def missing_decoder(syntax: UID) -> str:
    """What to do where nothing decodes a transfer syntax; empty where something does."""
    try:
        if get_decoder(syntax).is_available:
            return ""
    except NotImplementedError:
        return (
            f"is stored as {syntax.name} ({syntax}), which is not read.\n"
            "Convert it to Explicit VR Little Endian"
        )
    plugin = _OPENJPEG if "2000" in syntax.name else _LIBJPEG
    return (
        f"is compressed as {syntax.name} ({syntax}), "
        f"and the plug-in that decodes it is missing.\nInstall it: pip install {plugin}"
    )


def check(layout: Layout, data: bytes) -> None:
    """Compares what the header declares with what the file holds and the machine has.

    Args:
        layout: What the header declares.
        data: The bytes of the pixel data element.

    Raises:
        ValueError: If they do not go together.
    """
    _check_bits(layout)
    if layout.syntax.is_encapsulated:
        _check_fragments(layout, data)
    else:
        _check_length(layout, data)
    needed = layout.rows * layout.columns * layout.samples * _BYTES_A_SAMPLE
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"declares {layout.rows} x {layout.columns} pixels (Rows (0028,0010), Columns "
            f"(0028,0011)), which take {needed / 2**30:.1f} GB to read; "
            f"{free / 2**30:.1f} GB are free"
        )


def _check_bits(layout: Layout) -> None:
    if not layout.rows > 0 < layout.columns:
        raise ValueError("Rows (0028,0010) or Columns (0028,0011) is 0")
    colour = layout.kind in _KINDS
    if layout.samples != (3 if colour else 1):
        raise ValueError(
            f"Samples per Pixel (0028,0002) is {layout.samples}, and "
            f"Photometric Interpretation (0028,0004) is {layout.kind}"
        )
    if layout.keyword != "PixelData":
        return
    if layout.allocated not in (1, 8, 16, 32):
        raise ValueError(f"Bits Allocated (0028,0100) is {layout.allocated}; read are 1, 8, 16, 32")
    if not 1 <= layout.stored <= layout.high_bit + 1 <= layout.allocated:
        raise ValueError(
            f"Bits Stored (0028,0101) is {layout.stored} and High Bit (0028,0102) "
            f"{layout.high_bit}, which do not fit the {layout.allocated} bits of "
            "Bits Allocated (0028,0100)"
        )
    if layout.high_bit + 1 != layout.stored and not _whole_words(layout.syntax):
        raise ValueError(
            f"High Bit (0028,0102) is {layout.high_bit} with {layout.stored} Bits Stored "
            f"(0028,0101) in compressed pixels; expected {layout.stored - 1}"
        )
    if colour and layout.signed:
        raise ValueError("Pixel Representation (0028,0103) is 1 (signed); colours are unsigned")
    if layout.kind.startswith("YBR_FULL") and layout.allocated != 8:
        raise ValueError(
            f"Photometric Interpretation (0028,0004) is {layout.kind} with {layout.allocated} "
            "Bits Allocated (0028,0100); expected 8"
        )


def _whole_words(syntax: UID) -> bool:
    """Whether cells are stored with all their bits, and not as a codec's samples."""
    return not syntax.is_encapsulated or syntax == RLELossless


def _check_length(layout: Layout, data: bytes) -> None:
    frame = layout.rows * layout.columns * layout.samples * layout.allocated
    if layout.kind == "YBR_FULL_422":
        frame = frame * 2 // 3
    expected = math.ceil(frame * layout.frames / 8)
    surplus = len(data) - expected
    what = (
        f"Pixel data hold {len(data)} bytes, and Rows (0028,0010), Columns (0028,0011) and "
        f"Number of Frames (0028,0008) ask for {expected}"
    )
    if surplus < 0:
        raise ValueError(f"{what}: the file was cut off, or one of these is wrong")
    if surplus * 8 >= frame and surplus > 1:
        frames = len(data) * 8 // frame
        raise ValueError(f"{what}: there are {frames} frames in the data, or one of these is wrong")
    if surplus > 1 and any(data[expected + expected % 2 :]):
        raise ValueError(f"{what}: what follows is no padding of zeros, so one of these is wrong")


def _check_fragments(layout: Layout, data: bytes) -> None:
    with _decoding():
        buffer = io.BytesIO(data)
        offsets = parse_basic_offsets(buffer)
        rle = layout.syntax == RLELossless  # one fragment a frame
        starts = sum(rle or part.startswith(_STARTS) for part in generate_fragments(buffer))
    found = max(len(offsets), starts)
    if found > layout.frames:
        raise ValueError(
            f"Number of Frames (0028,0008) is {layout.frames}, and the compressed data hold {found}"
        )


def read_words(layout: Layout, data: bytes, frame: int) -> npt.NDArray[Any]:
    """The cells of a frame as the decoder gives them; colours as RGB.

    Args:
        layout: Of the pixels, checked.
        data: The bytes of the pixel data element.
        frame: From 0.

    Returns:
        (H, W), or (H, W, 3) for colours.

    Raises:
        ValueError: If they do not decode.
    """
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.kind,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": int(layout.planar),
        "number_of_frames": layout.frames,
        "pixel_keyword": layout.keyword,
        "pixel_vr": layout.vr,
        "correct_unused_bits": False,
    }
    if layout.offsets:
        options["extended_offsets"] = layout.offsets
    with _decoding():
        if layout.syntax.is_encapsulated:
            stream = get_frame(
                data, frame, number_of_frames=layout.frames, extended_offsets=layout.offsets
            )
            _check_size(layout, stream)
        words, properties = get_decoder(layout.syntax).as_array(data, index=frame, **options)
    if layout.samples == 3 and properties["photometric_interpretation"] != "RGB":
        raise ValueError(
            f"Photometric Interpretation (0028,0004) {layout.kind} was not decoded to RGB"
        )
    return words


@contextmanager
def _decoding() -> Iterator[None]:
    """Pydicom and its plug-ins raise of every kind."""
    try:
        yield
    except _MismatchError:
        raise
    except Exception as error:
        raise ValueError(f"cannot be decoded as DICOM ({error})") from error


class _MismatchError(ValueError):
    """Said as it is, and not as a failure to decode."""


def _check_size(layout: Layout, codestream: bytes) -> None:
    """The size in the codestream is that of the header; JPEG-LS is left to its decoder."""
    try:
        with Image.open(io.BytesIO(codestream), formats=("JPEG", "JPEG2000")) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError):
        return
    if (width, height) != (layout.columns, layout.rows):
        raise _MismatchError(
            f"Rows (0028,0010) and Columns (0028,0011) are {layout.rows} and {layout.columns}, and "
            f"the compressed picture has {height} and {width}"
        )


def stored_values(layout: Layout, words: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The samples in some cells: the bits that are not stored are left out.

    Args:
        layout: Of the pixels.
        words: As `read_words`.
    """
    if layout.keyword != "PixelData":
        return words
    if layout.syntax in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes):
        return words  # a codestream of as many bits as are stored, and pydicom sees to the sign
    if layout.stored == layout.allocated:
        return words
    cells = words.astype(np.int64) >> (layout.high_bit + 1 - layout.stored)
    samples: npt.NDArray[Any] = cells & (2**layout.stored - 1)
    if layout.signed:
        samples -= (samples >= 2 ** (layout.stored - 1)) * 2**layout.stored
    return samples


def padding_of(
    layout: Layout, words: npt.NDArray[Any], stored: npt.NDArray[Any], ends: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Which pixels are padding.

    A padding value is a stored value (C.7.5.1.1.2). Writers give it in the other signedness, or as
    the whole cell where that holds bits above those stored: the one reading that a pixel can have
    is taken.

    Args:
        layout: Of the pixels.
        words: (H, W) cells.
        stored: (H, W) stored values.
        ends: Pixel Padding Value and Pixel Padding Range Limit, if there is one; none where there
            is no padding.
    """
    values = [_stored_reading(layout, end) for end in ends]
    if values == [None]:
        whole_cells = layout.allocated == 16
        cells: npt.NDArray[np.bool_] = (words.astype(np.int64) & 0xFFFF) == ends[0] & 0xFFFF
        return cells & whole_cells
    if not values:
        return np.zeros(stored.shape, np.bool_)
    limits = [end if value is None else value for value, end in zip(values, ends, strict=True)]
    inside: npt.NDArray[np.bool_] = (stored >= min(limits)) & (stored <= max(limits))
    return inside


def _stored_reading(layout: Layout, number: int) -> int | None:
    """A number of 16 bits as a stored value; None where it is none."""
    low, high = layout.domain
    pattern = number & 0xFFFF
    wide = pattern - 0x10000 if pattern >= 0x8000 else pattern
    narrow = pattern - 2**layout.stored if pattern < 2**layout.stored else pattern
    return next((v for v in (number, pattern, wide, narrow) if low <= v <= high), None)
