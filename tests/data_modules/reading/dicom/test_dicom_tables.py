"""Grey values of DICOM against a derivation of its own, pixel by pixel from PS3.3.

Photometric interpretation C.7.6.3.1.2, padding C.7.5.1.1.2, modality C.11.1, VOI C.11.2.
"""

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from data_modules.errors import CorruptImageError
from data_modules.reading.dicom import read_dicom

PATH = Path("x.dcm")
SLOPE, WIDTH, CENTRE = r"\(0028,1053\)", r"\(0028,1051\)", r"\(0028,1050\)"
Numbers = Callable[[float], float]


@dataclass
class Part:
    """Tags, and what they do to a value; an error names `fault`."""

    tags: dict[str, Any] = field(default_factory=dict)
    of: Numbers | None = None
    fault: str = ""


def modalities() -> dict[str, Part]:
    def rescale(slope: Any, intercept: Any, of: Numbers | None = None, fault: str = "") -> Part:
        return Part({"RescaleSlope": slope, "RescaleIntercept": intercept}, of, fault)

    return {
        "none": Part(),
        "positive": rescale("0.5", "-100", lambda x: 0.5 * x - 100),
        "negative": rescale("-2", "1000", lambda x: -2 * x + 1000),
        "slope alone": rescale("2", None),
        "intercept alone": rescale(None, "-1024"),
        "empty": rescale("", ""),
        "slope beside an empty intercept": rescale("3", ""),
        "negative slope alone": rescale("-1", None, fault=SLOPE),
        "zero": rescale("0", "0", fault=SLOPE),
        "not a number": rescale("nan", "0", fault=SLOPE),
        "infinite": rescale("inf", "0", fault=SLOPE),
        "intercept infinite": rescale("1", "-inf", fault=r"\(0028,1052\)"),
    }


def vois(low: float, high: float) -> dict[str, Part]:
    """VOI tables of values between low and high; `of` gives 0 for black and 1 for white."""
    c, w = (low + high) / 2 + 1.25, (high - low) * 0.75 + 2

    def linear(c: float, w: float) -> Numbers:
        def y(x: float) -> float:
            if x <= c - 0.5 - (w - 1) / 2:
                return 0.0
            if x > c - 0.5 + (w - 1) / 2:
                return 1.0
            return (x - (c - 0.5)) / (w - 1) + 0.5

        return y

    def exact(x: float) -> float:
        return 0.0 if x <= c - w / 2 else 1.0 if x > c + w / 2 else (x - c) / w + 0.5

    def window(c: Any, w: Any, of: Numbers | None = None, fault: str = "", **more: Any) -> Part:
        return Part({"WindowCenter": c, "WindowWidth": w, **more}, of, fault)

    first = max(math.floor(low), -(2**15))
    count = min(math.ceil(high) - first + 1, 300)

    def lut(declared: int, bits: int, packed: bool = False) -> Part:
        """Entries from 0 to 2^bits - 1, not in a line; the descriptor says `declared` bits."""
        entries = [round((2**bits - 1) * (k / (count - 1)) ** 1.5) for k in range(count)]
        data = bytes(entries) if packed else np.array(entries, "<u2").tobytes()
        vr = "SS" if first < 0 else "US"
        item = {"LUTDescriptor": (vr, [count, first, declared]), "LUTData": data}

        def y(x: float) -> float:
            return float(entries[min(max(round(x) - first, 0), count - 1)] / (2**bits - 1))

        return Part({"VOILUTSequence": [item]}, y)

    hollow = {"LUTDescriptor": ("US", [4, 0, 8])}
    good = lut(12, 12)
    beside = window(c, w, linear(c, w))
    return {
        "none": Part(),
        "linear": beside,
        "exact": window(c, w, exact, VOILUTFunction="LINEAR_EXACT"),
        "sigmoid": window(
            c, w, lambda x: 1 / (1 + math.exp(-4 * (x - c) / w)), VOILUTFunction="SIGMOID"
        ),
        "several": window([c, 1], [w, 2], linear(c, w)),
        "the first of width 0": window([9, c], [0, w], linear(c, w)),
        "table": good,
        "table, 16 bits": lut(16, 16),
        "entries of more bits": lut(8, 12),
        "entries of far fewer bits": lut(16, 12),
        "bytes, two a word": lut(16, 8, packed=True),
        "bytes in words": lut(8, 8),
        "several tables": Part({"VOILUTSequence": [*good.tags["VOILUTSequence"], hollow]}, good.of),
        "table and window": Part(good.tags | {"WindowCenter": 1, "WindowWidth": 2}, good.of),
        "table without data": Part({"VOILUTSequence": [hollow]}, fault=r"\(0028,3010\)"),
        "table without data, window": Part(beside.tags | {"VOILUTSequence": [hollow]}, beside.of),
        "empty": window("", ""),
        "width 0": window(c, 0, fault=WIDTH),
        "width negative": window(c, -w, fault=WIDTH),
        "width infinite": window(c, "inf", fault=WIDTH),
        "width not a number": window(c, "nan", fault=WIDTH),
        "centre infinite": window("inf", w, fault=WIDTH),
        "centre alone": window(c, None, fault=WIDTH),
        "width alone": window(None, w, fault=CENTRE),
        "unknown function": window(c, w, fault=r"\(0028,1056\)", VOILUTFunction="CUBIC"),
    }


def paddings(kind: str, low: int, high: int) -> dict[str, tuple[dict[str, Any], set[int]]]:
    """Tags, and the stored values of the picture below that are padding."""
    dark, step = (low, 1) if kind == "MONOCHROME2" else (high, -1)
    inside = (low + high) // 2
    return {
        "none": ({}, set()),
        "outside": ({"PixelPaddingValue": dark}, {dark}),
        "inside": ({"PixelPaddingValue": inside}, {inside}),
        "range": (
            {"PixelPaddingValue": dark, "PixelPaddingRangeLimit": dark + 5 * step},
            {dark, dark + 3 * step, dark + 5 * step},
        ),
    }


def picture(low: int, high: int) -> npt.NDArray[np.int64]:
    """Stored values over the range of the bits, and some for the paddings above."""
    ramp = np.linspace(low + 12, high - 12, 9).astype(int)
    ends = [low, low + 3, low + 5, high, high - 3, high - 5, (low + high) // 2]
    return np.array([*ramp, *ends]).reshape(4, 4)


def derived(
    stored: npt.NDArray[np.int64], kind: str, modality: Part, voi: Part, padding: set[int]
) -> npt.NDArray[np.float64]:
    of = modality.of or float
    values = {int(s): of(int(s)) for s in stored.ravel() if int(s) not in padding}
    low, high = min(values.values()), max(values.values())
    shown = {s: voi.of(v) if voi.of else (v - low) / (high - low) for s, v in values.items()}
    if kind == "MONOCHROME1":
        shown = {s: 1 - y for s, y in shown.items()}
    return np.array([255 * shown.get(int(s), 0.0) for s in stored.ravel()]).reshape(stored.shape)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_product_of_all_tables(
    dicom_file: Callable[..., bytes], bits: int, signed: bool
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = picture(low, high)
    checked = {"pictures": 0, "errors": 0}
    for kind, modality in itertools.product(("MONOCHROME1", "MONOCHROME2"), modalities().items()):
        ends = sorted((modality[1].of or float)(end) for end in (low, high))
        parts = itertools.product(vois(*ends).items(), paddings(kind, low, high).items())
        for voi, (name, (padding, padded)) in parts:
            fault = modality[1].fault or voi[1].fault
            if fault and name != "none":
                continue  # an error of the header comes before the pixels
            tags = modality[1].tags | voi[1].tags | padding
            data = dicom_file(stored, kind, bits=bits, signed=signed, **tags)
            case = (kind, modality[0], voi[0], name)
            if fault:
                with pytest.raises(CorruptImageError) as error:
                    read_dicom(PATH, data)
                assert re.search(f"x.dcm: .*{fault}", str(error.value)), case
                checked["errors"] += 1
                continue
            expected = derived(stored, kind, modality[1], voi[1], padded)
            assert expected.max() - expected.min() > 30, case
            image = read_dicom(PATH, data)
            assert image.dtype == np.float32, case
            np.testing.assert_allclose(image[..., 0], expected, atol=2e-3, err_msg=str(case))
            checked["pictures"] += 1
    assert checked == {"pictures": 2 * 7 * 16 * 4, "errors": 2 * (12 * 25 - 7 * 16)}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [9, 10, 11, 13, 14, 15])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_the_depths_between(
    dicom_file: Callable[..., bytes], bits: int, signed: bool, kind: str
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = picture(low, high)
    modality = modalities()["negative"]
    assert modality.of
    tags, padded = paddings(kind, low, high)["range"]
    for voi in (Part(), vois(modality.of(high), modality.of(low))["table"]):
        every = modality.tags | voi.tags | tags
        data = dicom_file(stored, kind, bits=bits, signed=signed, **every)
        expected = derived(stored, kind, modality, voi, padded)
        np.testing.assert_allclose(read_dicom(PATH, data)[..., 0], expected, atol=2e-3)
