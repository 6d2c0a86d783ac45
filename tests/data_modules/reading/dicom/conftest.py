"""A writer of DICOM files that knows no rule but the encoding, so that each can be broken."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import ExplicitVRLittleEndian

DicomFile = Callable[..., bytes]

LONG = ("OB", "OW", "OF", "OD", "SQ", "UN")
AMBIGUOUS = {"US or SS": "US", "US or OW": "OW", "OB or OW": "OW"}
SIGNED = AMBIGUOUS | {"US or SS": "SS"}
NUMBERS = {"US": "<H", "SS": "<h", "UL": "<I", "FD": "<d", "FL": "<f"}


def encoded(elements: Mapping[str, Any], signed: bool = False) -> bytes:
    """Explicit VR Little Endian of keyword -> value, or (VR, value); None leaves an element out."""
    parts = {}
    for keyword, given in elements.items():
        if given is None:
            continue
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        written, value = given if isinstance(given, tuple) else (dictionary_VR(tag), given)
        vr = (SIGNED if signed else AMBIGUOUS).get(str(written), str(written))
        body = body_of(vr, value)
        body += (b"\0" if vr in LONG or vr == "UI" else b" ") * (len(body) % 2)
        head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
        size = (
            b"\0\0" + struct.pack("<I", len(body)) if vr in LONG else struct.pack("<H", len(body))
        )
        parts[tag] = head + size + body
    return b"".join(parts[tag] for tag in sorted(parts))


def body_of(vr: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    values = value if isinstance(value, list) else [value]
    if vr == "SQ":
        items = [encoded(item) for item in values]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(i)) + i for i in items)
    if vr in NUMBERS:
        return b"".join(struct.pack(NUMBERS[vr], number) for number in values)
    return "\\".join(str(v) for v in values).encode("latin-1")


def dicom_file(
    stored: npt.ArrayLike,
    kind: str = "MONOCHROME2",
    *,
    bits: int = 12,
    signed: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    meta: bool = True,
    frames: int | None = None,
    **changes: Any,
) -> bytes:
    """The bytes of a file with these stored pixels: (H, W), (H, W, 3) or frames of them."""
    array = np.asarray(stored)
    allocated = 8 if bits <= 8 else 16
    shape = array.shape[1:] if frames else array.shape
    elements: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7",
        "SamplesPerPixel": shape[2] if len(shape) == 3 else 1,
        "PhotometricInterpretation": kind,
        "PlanarConfiguration": 0 if len(shape) == 3 else None,
        "NumberOfFrames": frames,
        "Rows": shape[0],
        "Columns": shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelData": np.nan_to_num(array)
        .astype(f"<i{allocated // 8}" if signed else f"<u{allocated // 8}")
        .tobytes(),
    }
    body = encoded(elements | changes, signed)
    if not meta:
        return body
    group = encoded({"TransferSyntaxUID": syntax} if syntax else {})
    length = encoded({"FileMetaInformationGroupLength": len(group)})
    return b"\0" * 128 + b"DICM" + length + group + body


@pytest.fixture(scope="session", name="dicom_file")
def _dicom_file() -> DicomFile:
    return dicom_file
