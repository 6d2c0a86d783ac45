"""Headers that break the rules or leave two readings: read where one is meant, else named."""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from data_modules.errors import CorruptImageError
from data_modules.reading import dicom
from data_modules.reading.dicom import read_dicom

PATH = Path("x.dcm")
DicomFile = Callable[..., bytes]
HALVES = np.repeat([[0, 0, 4000, 4000]], 4, axis=0)


def grey(data: bytes, **options: Any) -> npt.NDArray[np.float32]:
    image = read_dicom(PATH, data, **options)
    assert image.shape[2] == 1
    return image[..., 0]


def is_halves(image: npt.NDArray[np.float32]) -> bool:
    """Black at the left, white at the right."""
    return bool(np.allclose(image[:, :2], 0) and np.allclose(image[:, 2:], 255))


def refused(data: bytes, *parts: str, **options: Any) -> None:
    with pytest.raises(CorruptImageError) as error:
        read_dicom(PATH, data, **options)
    for part in ("x.dcm", *parts):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": "2000,00", "WindowWidth": "4000,00"},
        {"WindowCenter": " 2000 ", "WindowWidth": "+4.0E3"},
        {"WindowCenter": "2000,5\\40", "WindowWidth": "4000\\400"},
        {"WindowCenter": "\\2000", "WindowWidth": "\\4000"},
        {"WindowCenter": ("LO", "2000"), "WindowWidth": ("FD", 4000.0)},
        {"WindowCenter": ("UN", b"2000"), "WindowWidth": ("UN", b"4000")},
        {"RescaleSlope": "1,0", "RescaleIntercept": "0,0"},
        {"NumberOfFrames": "1"},
        {"NumberOfFrames": "0"},
        {"NumberOfFrames": ""},
        {"SamplesPerPixel": None},
        {"HighBit": None},
        {"PhotometricInterpretation": "monochrome2"},
        {"PresentationLUTShape": "IDENTITY"},
        {"RescaleType": "OD"},
        {"WindowCenter": "2000", "WindowWidth": "1"},  # a threshold (C.11.2.1.2.1)
        {"VOILUTFunction": "", "WindowCenter": "2000", "WindowWidth": "4000"},
    ],
)
def test_one_meaning_is_read(dicom_file: DicomFile, tags: dict[str, Any]) -> None:
    assert is_halves(grey(dicom_file(HALVES, **tags)))


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"PhotometricInterpretation": None}, "Photometric Interpretation (0028,0004) is missing"),
        ({"PhotometricInterpretation": ""}, "(0028,0004)"),
        ({"PhotometricInterpretation": "CMYK"}, "(0028,0004) is CMYK"),
        ({"BitsStored": None}, "Bits Stored (0028,0101) is missing"),
        ({"BitsAllocated": None}, "(0028,0100)"),
        ({"PixelRepresentation": None}, "(0028,0103)"),
        ({"PixelRepresentation": 2}, "(0028,0103) is 2"),
        ({"BitsStored": 17}, "(0028,0101)"),
        ({"HighBit": 10}, "(0028,0102)"),
        ({"HighBit": 16}, "(0028,0102)"),
        ({"BitsAllocated": 24}, "(0028,0100)"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "(0028,0002)"),
        ({"Rows": None}, "Rows (0028,0010)"),
        ({"Rows": 0}, "(0028,0010)"),
        ({"Rows": ("US", b"\x04\0\x04\0")}, "(0028,0010)"),
        ({"Rows": 5}, "(0028,0010)"),
        ({"Columns": 3}, "(0028,0011)"),
        ({"Rows": 65535, "Columns": 65535}, "(0028,0010)"),
        ({"NumberOfFrames": "1.5"}, "(0028,0008)"),
        ({"PixelData": None}, "(7FE0,0010)"),
        ({"PixelData": b""}, "cut off"),
        ({"RescaleSlope": "1.0.0", "RescaleIntercept": "0"}, "(0028,1053)"),
        ({"RescaleSlope": "1\\2", "RescaleIntercept": "0"}, "(0028,1053)"),
        ({"WindowCenter": "2,000", "WindowWidth": "4000"}, "2.000 with a decimal comma and 2000"),
        ({"WindowCenter": "wide", "WindowWidth": "4000"}, "(0028,1050) is 'wide'"),
        ({"PresentationLUTShape": "INVERSE"}, "(2050,0020)"),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
            "(0028,",
        ),
        ({"PixelPresentation": "COLOR"}, "(0008,9205)"),
        ({"PresentationLUTSequence": [{}]}, "(2050,0010)"),
        ({"PixelPaddingRangeLimit": 3}, "(0028,0121)"),
        ({"FloatPixelData": b"\0" * 64}, "two kinds"),
    ],
)
def test_no_meaning_or_two_are_named(
    dicom_file: DicomFile, tags: dict[str, Any], named: str
) -> None:
    refused(dicom_file(HALVES, **tags), named)


def test_inverse_shape_and_monochrome1_are_one_inversion(dicom_file: DicomFile) -> None:
    image = grey(dicom_file(HALVES, "MONOCHROME1", PresentationLUTShape="INVERSE"))
    assert is_halves(255 - image)


@pytest.mark.parametrize(
    ("tags", "culprit"),
    [
        ({"WindowCenter": "9000", "WindowWidth": "10"}, "Window Width (0028,1051)"),
        ({"WindowCenter": "2000", "WindowWidth": "1e300"}, "(0028,1051)"),
        (
            {"VOILUTSequence": [{"LUTDescriptor": ("US", [2, 0, 8]), "LUTData": b"\7\0\7\0"}]},
            "(0028,3010)",
        ),
        (
            {"ModalityLUTSequence": [{"LUTDescriptor": ("US", [2, 0, 8]), "LUTData": b"\7\0\7\0"}]},
            "(0028,3000)",
        ),
        ({"RescaleSlope": "1e-300", "RescaleIntercept": "1"}, "(0028,1053)"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "1"}, "(0028,1053)"),
        ({"PixelPaddingValue": 0}, "(0028,0120)"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "(0028,0120)"),
    ],
)
def test_what_shows_nothing_names_the_table(
    dicom_file: DicomFile, tags: dict[str, Any], culprit: str
) -> None:
    refused(dicom_file(HALVES, **tags), culprit)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_an_image_whose_pixels_are_alike(dicom_file: DicomFile, kind: str) -> None:
    flat = np.full((4, 4), 1000)
    assert (grey(dicom_file(flat, kind)) == 0).all()
    assert (grey(dicom_file(flat, kind, PixelPaddingValue=1000)) == 0).all()
    window = {"WindowCenter": 1000, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}
    assert (grey(dicom_file(flat, kind, **window)) == 127.5).all()
    refused(dicom_file(flat, kind, RescaleSlope=0, RescaleIntercept=5), "(0028,1053)")


def test_files_without_preamble_or_syntax(dicom_file: DicomFile) -> None:
    assert is_halves(grey(dicom_file(HALVES, meta=False)))
    assert is_halves(grey(dicom_file(HALVES, syntax="")))
    packed = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\4\0\0\0\xff\xd8\xff\xd9"
    refused(dicom_file(HALVES, meta=False, PixelData=("OB", packed)), "(0002,0010)")
    for junk in (b"<html>" * 100, b"\0" * 400, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3):
        refused(junk, "is no DICOM image")


def test_pixel_data_of_another_length(dicom_file: DicomFile) -> None:
    data = HALVES.astype("<u2").tobytes()
    assert is_halves(grey(dicom_file(HALVES, PixelData=data + b"\0" * 10)))
    refused(dicom_file(HALVES, PixelData=data + b"\1\2\3\4"), "(0028,0010)")
    refused(dicom_file(HALVES, PixelData=data[:-2]), "cut off", "(0028,0011)")
    refused(dicom_file(HALVES, PixelData=data * 3), "3 frames", "(0028,0008)")
    refused(dicom_file(HALVES)[:-8], "cut off")
    odd = np.array([[0, 200, 255]])
    assert grey(dicom_file(odd, bits=8)).tolist() == [[0, 200, 255]]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_bits_beside_those_stored_are_left_out(
    dicom_file: DicomFile, signed: bool, high_bit: int
) -> None:
    stored = np.arange(-8, 8).reshape(4, 4) * 100 + (0 if signed else 2000)
    rng = np.random.default_rng(0)
    drop = high_bit - 11
    mask = 0xFFF << drop
    cells = (rng.integers(0, 2**16, stored.shape) & ~mask) | ((stored << drop) & mask)
    data = dicom_file(
        stored,
        bits=12,
        signed=signed,
        HighBit=high_bit,
        PixelData=(cells & 0xFFFF).astype("<u2").tobytes(),
    )
    expected = (stored - stored.min()) * (255 / (stored.max() - stored.min()))
    np.testing.assert_allclose(grey(data), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("bits", "signed", "written", "padded"),
    [
        (16, True, ("US", 63536), -2000),  # two's complement under an unsigned representation
        (12, True, ("US", 63536), -2000),
        (12, True, ("US", 2096), -2000),  # without the sign's extension
        (16, False, ("SS", -2000), 63536),
        (8, True, ("US", 128), -128),
        (12, True, ("SS", -2000), -2000),
    ],
)
def test_padding_in_the_other_signedness(
    dicom_file: DicomFile, bits: int, signed: bool, written: tuple[str, int], padded: int
) -> None:
    stored = np.array([[padded, 0], [50, 100]])
    image = grey(dicom_file(stored, bits=bits, signed=signed, PixelPaddingValue=written))
    np.testing.assert_allclose(image, np.array([[0, 0], [127.5, 255]]))


def test_padding_as_a_whole_cell(dicom_file: DicomFile) -> None:
    cells = np.array([[63536, 0], [50, 100]], "<u2")
    image = grey(dicom_file(cells, bits=12, PixelData=cells.tobytes(), PixelPaddingValue=63536))
    np.testing.assert_allclose(image, np.array([[0, 0], [127.5, 255]]))


def test_the_modality_table(dicom_file: DicomFile) -> None:
    stored = np.array([[-2, -1], [0, 1]])
    window = {"WindowCenter": 500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    data = np.array([0, 250, 500, 1000], "<u2").tobytes()
    for first in (("SS", [4, -2, 16]), ("US", [4, 65534, 16])):
        table = {"ModalityLUTSequence": [{"LUTDescriptor": first, "LUTData": data}]}
        for more in ({}, {"RescaleSlope": "1", "RescaleIntercept": "0"}):
            image = grey(dicom_file(stored, signed=True, **table, **window, **more))
            np.testing.assert_allclose(image, [[0, 63.75], [127.5, 255]])
    both = {"RescaleSlope": "2", "RescaleIntercept": "0"}
    refused(dicom_file(stored, signed=True, **table, **both), "(0028,3000)", "(0028,1053)")
    hollow = {"ModalityLUTSequence": [{"LUTDescriptor": ("SS", [4, -2, 16])}]}
    refused(dicom_file(stored, signed=True, **hollow), "(0028,3000)")
    assert grey(dicom_file(stored, signed=True, **hollow, **both))[0, 0] == 0
    twice = {"ModalityLUTSequence": table["ModalityLUTSequence"] * 2}
    refused(dicom_file(stored, signed=True, **twice), "(0028,3000) holds 2")


def test_a_table_of_65536_entries_and_one_that_is_cut_off(dicom_file: DicomFile) -> None:
    entries = np.arange(65536)[::-1].astype("<u2").tobytes()
    table = {"LUTDescriptor": ("US", [0, 0, 16]), "LUTData": entries}
    stored = np.array([[0, 65535], [13107, 52428]])
    image = grey(dicom_file(stored, bits=16, VOILUTSequence=[table]))
    np.testing.assert_allclose(image, [[255, 0], [204, 51]], atol=1e-3)
    short = table | {"LUTData": entries[:-70000]}
    refused(dicom_file(stored, bits=16, VOILUTSequence=[short]), "(0028,3010)", "65536 entries")


def test_nothing_is_said_of_what_is_handled(
    dicom_file: DicomFile, caplog: pytest.LogCaptureFixture
) -> None:
    data = HALVES.astype("<u2").tobytes()
    junk = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\4\0\0\0junk"
    read = [
        dicom_file(HALVES, PixelData=data + b"\0" * 10, SOPClassUID="no.UID", NumberOfFrames="0"),
        dicom_file(HALVES, WindowCenter="2000,00", WindowWidth="4000,00", PatientName="\xff\xfe"),
    ]
    broken = [
        dicom_file(HALVES)[:-8],
        dicom_file(HALVES, syntax="1.2.840.10008.1.2.4.90", PixelData=("OB", junk)),
    ]
    with warnings.catch_warnings(record=True) as said:
        warnings.resetwarnings()
        module = importlib.reload(dicom)  # pytest took the filters of the first import away
        for content in read:
            module.read_dicom(PATH, content)
        for content in broken:
            with pytest.raises(CorruptImageError):
                module.read_dicom(PATH, content)
    assert not said
    assert not caplog.records
