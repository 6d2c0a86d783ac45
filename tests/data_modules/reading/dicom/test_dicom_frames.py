"""Frames, functional groups, floats, colours and compressed pixels of DICOM."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from PIL import Image
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from data_modules.errors import CorruptImageError, DataError
from data_modules.reading.dicom import read_dicom

PATH = Path("x.dcm")
DicomFile = Callable[..., bytes]
RAMP = np.arange(16).reshape(4, 4)
FRAMES = np.stack([RAMP * 10, RAMP[::-1] * 100, RAMP.T * 200])


def refused(data: bytes, *parts: str, **options: Any) -> None:
    with pytest.raises(CorruptImageError) as error:
        read_dicom(PATH, data, **options)
    for part in ("x.dcm", *parts):
        assert part in str(error.value)


def stretched(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray((values - values.min()) * (255 / (values.max() - values.min())))


def encapsulated(*frames: bytes, offsets: bool = False) -> tuple[str, bytes]:
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    ends = np.cumsum([0, *(8 + len(frame) for frame in padded)])[: len(padded)]
    table = b"".join(struct.pack("<I", end) for end in ends) if offsets else b""
    items = [table, *padded]
    return "OB", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(i)) + i for i in items)


def coded(array: npt.NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_one_of_several_frames(dicom_file: DicomFile) -> None:
    data = dicom_file(FRAMES, frames=3)
    refused(data, "3 frames", "frame, 0 to 2", "(0028,0008)")
    for number in (0, 1, 2):
        image = read_dicom(PATH, data, frame=number)[..., 0]
        np.testing.assert_allclose(image, stretched(FRAMES[number]), atol=1e-3)
    for number in (3, -1):
        refused(data, "3 frames, 0 to 2", f"frame is {number}", frame=number)
    one = dicom_file(RAMP)
    np.testing.assert_array_equal(read_dicom(PATH, one, frame=0), read_dicom(PATH, one))
    refused(one, "one frame, 0", "frame is 1", frame=1)
    refused(dicom_file(FRAMES, frames=3, NumberOfFrames=4), "(0028,0008)", frame=1)


def functional_groups(slope: float, centre: float, width: float) -> dict[str, Any]:
    rescale = {"RescaleSlope": slope, "RescaleIntercept": 0, "RescaleType": "US"}
    window = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": "LINEAR_EXACT"}
    return {"PixelValueTransformationSequence": [rescale], "FrameVOILUTSequence": [window]}


def test_functional_groups_of_each_frame_and_of_all(dicom_file: DicomFile) -> None:
    own = [functional_groups(2, 1500, 3000), functional_groups(-1, -750, 1500), {}]
    tags = {"PerFrameFunctionalGroupsSequence": own}
    data = dicom_file(FRAMES, frames=3, **tags)
    images = [read_dicom(PATH, data, frame=number)[..., 0] for number in (0, 1, 2)]
    np.testing.assert_allclose(images[0], FRAMES[0] * 2 / 3000 * 255, atol=1e-3)
    np.testing.assert_allclose(images[1], 255 - FRAMES[1] / 1500 * 255, atol=1e-3)
    np.testing.assert_allclose(images[2], stretched(FRAMES[2]), atol=1e-3)

    every = {"SharedFunctionalGroupsSequence": [functional_groups(1, 1500, 3000)]}
    image = read_dicom(PATH, dicom_file(FRAMES, frames=3, **every), frame=2)[..., 0]
    np.testing.assert_allclose(image, FRAMES[2] / 3000 * 255, atol=1e-3)
    single = dicom_file(RAMP * 100, **every)
    np.testing.assert_allclose(read_dicom(PATH, single)[..., 0], RAMP / 30 * 255, atol=1e-3)

    refused(dicom_file(FRAMES, frames=3, **tags, **every), "(0028,9145)", frame=1)
    unrelated: dict[str, Any] = {"PerFrameFunctionalGroupsSequence": [{}, {}]}
    np.testing.assert_array_equal(
        read_dicom(PATH, dicom_file(RAMP, **unrelated)), read_dicom(PATH, dicom_file(RAMP))
    )
    fewer = {"PerFrameFunctionalGroupsSequence": own[:2]}
    refused(dicom_file(FRAMES, frames=3, **fewer), "(5200,9230) has 2 items for 3", frame=1)


@pytest.mark.parametrize(
    ("keyword", "vr", "code"), [("Float", "OF", "<f4"), ("DoubleFloat", "OD", "<f8")]
)
def test_float_pixels(dicom_file: DicomFile, keyword: str, vr: str, code: str) -> None:
    values = np.array([[0.25, -1.5], [2.0, 7.0]])
    tags: dict[str, Any] = {"PixelData": None, "BitsStored": None, "HighBit": None}
    tags |= {"PixelRepresentation": None, "BitsAllocated": int(code[-1]) * 8}

    def file(array: npt.NDArray[np.float64], **more: Any) -> bytes:
        pixels = (vr, array.astype(code).tobytes())
        return dicom_file(array, **tags, **{f"{keyword}PixelData": pixels}, **more)

    image = read_dicom(PATH, file(values))[..., 0]
    np.testing.assert_allclose(image, stretched(values), atol=1e-3)
    number = "FL" if keyword == "Float" else "FD"
    image = read_dicom(PATH, file(values, **{f"{keyword}PixelPaddingValue": (number, -1.5)}))[
        ..., 0
    ]
    np.testing.assert_allclose(image, np.array([[0, 0], [1.75, 6.75]]) / 6.75 * 255, atol=1e-3)
    values[1, 1] = np.nan
    refused(file(values), "not finite", "(7FE0,000")
    padded = file(values, **{f"{keyword}PixelPaddingValue": (number, np.nan)})
    assert read_dicom(PATH, padded)[..., 0].tolist()[1] == [255, 0]


COLOURS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


def test_colours_by_pixel_and_by_plane(dicom_file: DicomFile) -> None:
    np.testing.assert_array_equal(read_dicom(PATH, dicom_file(COLOURS, "RGB", bits=8)), COLOURS)
    planes = COLOURS.transpose(2, 0, 1).tobytes()
    data = dicom_file(COLOURS, "RGB", bits=8, PlanarConfiguration=1, PixelData=planes)
    np.testing.assert_array_equal(read_dicom(PATH, data), COLOURS)
    deep = dicom_file(COLOURS.astype(int) * 16, "RGB", bits=12)
    np.testing.assert_allclose(read_dicom(PATH, deep), COLOURS * (16 * 255 / 4095), atol=1e-3)
    refused(dicom_file(COLOURS, "RGB", bits=8, PlanarConfiguration=None), "(0028,0006)")
    refused(dicom_file(COLOURS, "RGB", bits=8, PixelRepresentation=1), "(0028,0103)")
    refused(dicom_file(COLOURS, "MONOCHROME2", bits=8), "(0028,0002)")


def test_luminance_and_chrominance(dicom_file: DicomFile) -> None:
    y, cb, cr = (COLOURS[..., k].astype(float) for k in range(3))  # PS3.3 C.7.6.3.1.2, inverted
    rgb = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)]
    rgb.append(y + 1.772 * (cb - 128))
    expected = np.clip(np.stack(rgb, axis=-1), 0, 255)
    data = dicom_file(COLOURS, "YBR_FULL", bits=8)
    np.testing.assert_allclose(read_dicom(PATH, data), expected, atol=1.01)
    refused(dicom_file(COLOURS, "YBR_FULL", bits=16), "YBR_FULL with 16")
    refused(dicom_file(COLOURS, "YBR_PARTIAL_422", bits=8), "(0028,0004)")
    refused(dicom_file(COLOURS, "YBR_RCT", bits=8), "(0028,0004)")


@pytest.mark.parametrize(
    "depth", ["8 in bytes", "8 in words", "8 said to be 16", "16 said to be 8"]
)
def test_a_palette_whose_depth_is_said_wrongly(dicom_file: DicomFile, depth: str) -> None:
    table = np.array([[0, 10, 20], [250, 5, 100], [255, 255, 0], [1, 2, 3]])
    top = 257 if depth == "16 said to be 8" else 1
    declared = 16 if depth == "8 said to be 16" else 8
    code = "u1" if depth == "8 in bytes" else "<u2"
    tags: dict[str, Any] = {}
    for k, colour in enumerate(("Red", "Green", "Blue")):
        name = f"{colour}PaletteColorLookupTable"
        tags[f"{name}Descriptor"] = ("US", [4, 3, declared])
        tags[f"{name}Data"] = (table[:, k] * top).astype(code).tobytes()
    indices = np.array([[3, 4], [5, 6], [0, 200]])
    image = read_dicom(PATH, dicom_file(indices, "PALETTE COLOR", bits=8, **tags))
    np.testing.assert_allclose(image, table[[[0, 1], [2, 3], [0, 3]]], atol=1e-3)


def test_compressed_frames_are_counted_and_of_the_size_said(dicom_file: DicomFile) -> None:
    first, second = RAMP.astype(np.uint8) * 16, RAMP.T.astype(np.uint8) * 16
    codes = [coded(a, "JPEG2000", irreversible=False, no_jp2=True) for a in (first, second)]

    def file(*parts: bytes, offsets: bool = False, **tags: Any) -> bytes:
        data = encapsulated(*parts, offsets=offsets)
        return dicom_file(RAMP, bits=8, syntax=JPEG2000, **{"PixelData": data} | tags)

    np.testing.assert_allclose(read_dicom(PATH, file(codes[0]))[..., 0], stretched(first))
    halves = (
        codes[0][: len(codes[0]) // 2 * 2 // 4 * 2],
        codes[0][len(codes[0]) // 2 * 2 // 4 * 2 :],
    )
    np.testing.assert_allclose(read_dicom(PATH, file(*halves))[..., 0], stretched(first))
    for offsets in (True, False):
        refused(file(*codes, offsets=offsets), "(0028,0008) is 1", "hold 2")
        both = file(*codes, offsets=offsets, NumberOfFrames=2)
        np.testing.assert_allclose(read_dicom(PATH, both, frame=1)[..., 0], stretched(second))
    refused(file(codes[0], NumberOfFrames=2), "x.dcm", frame=1)
    refused(file(codes[0], Rows=2, Columns=8), "(0028,0010)", "4 and 4")
    refused(file(codes[0], Rows=60000, Columns=60000), "(0028,0010)")
    refused(file(codes[0], HighBit=7, BitsStored=6), "(0028,0102)")
    refused(file(codes[0][:40]), "cannot be decoded")


def test_compressed_colours(dicom_file: DicomFile) -> None:
    smooth = np.zeros((16, 16, 3), np.uint8) + np.array([200, 60, 30], np.uint8)
    data = encapsulated(coded(smooth, "JPEG", quality=95))
    for kind in ("YBR_FULL_422", "RGB"):  # the JFIF marker of the codestream decides
        file = dicom_file(smooth, kind, bits=8, syntax=JPEGBaseline8Bit, PixelData=data)
        np.testing.assert_allclose(read_dicom(PATH, file), smooth, atol=3)


def test_run_lengths_hold_whole_cells(dicom_file: DicomFile) -> None:
    cells = (RAMP * 16).astype("<u2")  # 12 bits from the top, the last four empty
    rows = [cells.tobytes()[1::2], cells.tobytes()[0::2]]
    segments = [bytes([15]) + row for row in rows]
    head = struct.pack("<16I", 2, 64, 64 + 17, *[0] * 13)
    data = encapsulated(head + b"".join(segments))
    file = dicom_file(RAMP, syntax=RLELossless, PixelData=data, HighBit=15)
    np.testing.assert_allclose(read_dicom(PATH, file)[..., 0], stretched(RAMP), atol=1e-3)


def test_other_encodings(dicom_file: DicomFile, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dicom_file(RAMP * 100, syntax=DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<I", plain[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    file = plain[:start] + packer.compress(plain[start:]) + packer.flush()
    np.testing.assert_allclose(read_dicom(PATH, file)[..., 0], stretched(RAMP), atol=1e-3)
    with pytest.raises(DataError, match=r"x\.dcm: is stored as MPEG2.*which is not read"):
        read_dicom(PATH, dicom_file(RAMP, syntax="1.2.840.10008.1.2.4.100"))
    refused(dicom_file(RAMP, syntax=ExplicitVRBigEndian), "x.dcm")  # written in the other order

    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = plain[:start] + packer.compress(b"\0" * 2**26) + packer.flush()
    memory = type(psutil.virtual_memory())
    little = psutil.virtual_memory()._replace(available=2**27)
    assert isinstance(little, memory)
    monkeypatch.setattr("psutil.virtual_memory", lambda: little)
    refused(bomb, "inflates to more", "(0002,0010)")
    assert read_dicom(PATH, file).shape == (4, 4, 1)
