"""DICOM pixels as images.

The order is the standard's (PS3.3 C.7.6.3 and C.11): stored pixels, modality look-up table, VOI
look-up table or window, and only then the inversion of MONOCHROME1, within the range that the
tables gave. Headers are read and forgotten: nothing of them leaves this file.

Where the standard lets choose, and where files break it, docs/data/dicom.md says what is done.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import UID

from data_modules.errors import CorruptImageError, DataError
from data_modules.reading.dicom_header import Header, label, open_dataset, transfer_syntax
from data_modules.reading.dicom_luts import (
    Mask,
    Range,
    Rescale,
    Table,
    Window,
    grey_levels,
    table_of,
)
from data_modules.reading.dicom_pixels import (
    KINDS,
    Layout,
    check,
    missing_decoder,
    padding_of,
    read_words,
    stored_values,
)

_PALETTE = "PaletteColorLookupTable"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_FLOAT_PADDING = {"FloatPixelData": "FloatPixel", "DoubleFloatPixelData": "DoubleFloatPixel"}

# Pydicom tells of each odd header that it mends, and logs a plug-in's failure with its traceback:
# what matters of it is in our errors. Filters cannot be set a call: files are read in threads.
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class _Frame:
    """What is read of a file for one of its frames.

    Args:
        root: The data set.
        rescale: What holds the frame's rescale.
        voi: What holds its window.
        layout: Of the pixels.
        index: From 0.
    """

    root: Header
    rescale: Header
    voi: Header
    layout: Layout
    index: int


def read_dicom(path: Path, data: bytes, *, frame: int | None = None) -> npt.NDArray[np.float32]:
    """Reads one DICOM image, or one frame of it.

    Greyscale: the first VOI table that can be used sets black and white, else the first window;
    without either, its darkest and brightest pixel do, padding aside. Padding is black.
    Colour: the range of the stored bits.

    Args:
        path: Named in errors.
        data: The bytes of the file.
        frame: Which frame, from 0; needed where there are several.

    Returns:
        (H, W, C) in [0, 255], not rounded; C is 1 or 3.

    Raises:
        CorruptImageError: If it is no DICOM image, does not decode, has a header that can be read
            in two ways or in none, or has not that one frame.
        DataError: If the plug-in for its compression is not installed.
    """
    try:
        dataset = open_dataset(data)
        keywords = [keyword for keyword in _PIXELS if keyword in dataset]
        if len(keywords) != 1:
            what = "without pixel data, or cut off before them" if not keywords else "of two kinds"
            raise CorruptImageError(path, f"DICOM file {what} ({label('PixelData')})")
        syntax = transfer_syntax(dataset, keywords[0])
        if missing := missing_decoder(syntax):
            raise DataError(f"{path}: {missing}")
        return _read(dataset, keywords[0], syntax, frame)
    except DataError:
        raise
    except ValueError as error:
        raise CorruptImageError(path, str(error)) from error
    except Exception as error:  # pydicom and its plug-ins raise of every kind
        raise CorruptImageError(path, f"cannot be decoded as DICOM ({error})") from error


def _read(
    dataset: Dataset, keyword: str, syntax: UID, number: int | None
) -> npt.NDArray[np.float32]:
    header = Header(dataset, bool(dataset.original_encoding[1]))
    frames = max(header.whole("NumberOfFrames", 1), 1)
    if number is None and frames > 1:
        raise ValueError(
            f"holds {frames} frames ({label('NumberOfFrames')}); export one a file, or choose "
            f"one: data.init_args.frame, 0 to {frames - 1}"
        )
    index = number or 0
    if not 0 <= index < frames:
        held = f"{frames} frames, 0 to {frames - 1}" if frames > 1 else "one frame, 0"
        raise ValueError(f"holds {held}, and data.init_args.frame is {index}")
    layout = _layout(header, keyword, syntax, frames)
    pixels = dataset[keyword].value or b""
    check(layout, pixels)
    words = read_words(layout, pixels, index)
    if layout.samples == 3:
        return _scaled(stored_values(layout, words), layout.stored)
    if layout.kind == "PALETTE COLOR":
        return _palette(header, layout, stored_values(layout, words))
    rescale = _functional_group(header, "PixelValueTransformationSequence", index, frames)
    voi = _functional_group(header, "FrameVOILUTSequence", index, frames)
    return _grey(_Frame(header, rescale, voi, layout, index), words)[..., None]


def _layout(header: Header, keyword: str, syntax: UID, frames: int) -> Layout:
    kind = header.text("PhotometricInterpretation")
    if kind not in KINDS:
        given = f"{label('PhotometricInterpretation')} is {kind or 'missing'}"
        raise ValueError(f"{given}; read are {', '.join(KINDS)}")
    grey = kind in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    allocated = header.whole("BitsAllocated")
    integers = keyword == "PixelData"
    stored = header.whole("BitsStored") if integers else allocated
    samples = header.whole("SamplesPerPixel", 1 if grey else 3)
    packed = syntax.is_encapsulated  # where the codestream says how colours lie
    extended = [header.value(f"ExtendedOffsetTable{k}") for k in ("", "Lengths")]
    return Layout(
        keyword=keyword,
        syntax=syntax,
        rows=header.whole("Rows"),
        columns=header.whole("Columns"),
        samples=samples,
        kind=kind,
        allocated=allocated,
        stored=stored,
        high_bit=header.whole("HighBit", stored - 1) if integers else allocated - 1,
        signed=_flag(header, "PixelRepresentation", None if grey else 0) if integers else True,
        planar=samples == 3 and _flag(header, "PlanarConfiguration", 0 if packed else None),
        frames=frames,
        vr=header.dataset[keyword].VR,
        offsets=(extended[0], extended[1]) if all(extended) else None,
    )


def _flag(header: Header, keyword: str, default: int | None) -> bool:
    value = header.whole(keyword, default)
    if value not in (0, 1):
        raise ValueError(f"{label(keyword)} is {value}; expected 0 or 1")
    return value == 1


def _functional_group(header: Header, keyword: str, index: int, frames: int) -> Header:
    """What holds a frame's values: a functional group, its own or all frames', or the data set."""
    own = header.items("PerFrameFunctionalGroupsSequence")
    if len(own) != frames and any(group.items(keyword) for group in own):
        raise ValueError(
            f"{label('PerFrameFunctionalGroupsSequence')} has {len(own)} items for {frames} frames"
        )
    shared = header.only_item("SharedFunctionalGroupsSequence")
    groups = [*own[index : index + 1], *([shared] if shared else [])]
    found = [item for group in groups if (item := group.only_item(keyword)) is not None]
    if len(found) > 1:
        raise ValueError(
            f"{label(keyword)} stands in the frame's functional groups and in all frames'"
        )
    return found[0] if found else header


def _grey(frame: _Frame, words: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    stored = stored_values(frame.layout, words)
    padding = _padding(frame, words, stored)
    if stored.dtype.kind == "f":
        if not np.isfinite(stored[~padding]).all():
            raise ValueError(f"{label(frame.layout.keyword)} holds pixels that are not finite")
        stored = np.where(padding, 0, stored)
    modality, domain = _modality(frame)
    voi = _voi(frame.voi, domain)
    return grey_levels(stored, modality, voi, padding, _inverted(frame))


def _inverted(frame: _Frame) -> bool:
    """Whether the least value is white; Presentation LUT Shape has to say the same (C.8.11.3)."""
    inverted = frame.layout.kind == "MONOCHROME1"
    shape = frame.root.text("PresentationLUTShape")
    if shape and shape != ("INVERSE" if inverted else "IDENTITY"):
        raise ValueError(
            f"{label('PhotometricInterpretation')} is {frame.layout.kind} and "
            f"{label('PresentationLUTShape')} {shape}: one says that low values are "
            f"{'bright' if inverted else 'dark'}, the other the reverse. Remove the wrong one"
        )
    if frame.root.text("PixelPresentation") in ("COLOR", "MIXED"):
        raise ValueError(f"{label('PixelPresentation')} asks for colours in a grey image")
    if frame.root.items("PresentationLUTSequence"):
        raise ValueError(f"{label('PresentationLUTSequence')} is not read; an image has none")
    return inverted


def _padding(frame: _Frame, words: npt.NDArray[Any], stored: npt.NDArray[Any]) -> Mask:
    prefix = _FLOAT_PADDING.get(frame.layout.keyword, "Pixel")
    value, limit = f"{prefix}PaddingValue", f"{prefix}PaddingRangeLimit"
    if prefix != "Pixel":
        ends = [n for k in (value, limit) for n in frame.root.numbers(k) if n is not None]
        if not ends:
            return np.zeros(stored.shape, np.bool_)
        inside: Mask = (stored >= min(ends)) & (stored <= max(ends))
        return np.isnan(stored) if np.isnan(ends).any() else inside
    integers = [frame.root.integers(keyword) for keyword in (value, limit)]
    if [len(found) for found in integers] not in ([0, 0], [1, 0], [1, 1]):
        raise ValueError(
            f"{label(value)} and {label(limit)}: expected one number each, or the first"
        )
    return padding_of(frame.layout, words, stored, [n for found in integers for n in found])


def _modality(frame: _Frame) -> tuple[Table | Rescale | None, Range]:
    """The modality table, and the range of what it can give.

    Slope and intercept are one transformation (C.11.1.1): one without the other is none.
    """
    slope, intercept = (frame.rescale.number(f"Rescale{k}") for k in ("Slope", "Intercept"))
    item = frame.root.only_item("ModalityLUTSequence")
    paired = slope is not None and intercept is not None
    if slope is not None and intercept is None and slope < 0:
        raise ValueError(
            f"{label('RescaleSlope')} is {slope:g} without {label('RescaleIntercept')}: with the "
            "slope low values are bright, without it dark. Add the intercept or remove the slope"
        )
    if item is not None and (item.value("LUTData") is not None or not paired):
        if paired and (slope, intercept) != (1, 0):
            raise ValueError(
                f"has {label('ModalityLUTSequence')} and {label('RescaleSlope')}, "
                "which exclude each other. Remove one"
            )
        table = _table(item, "ModalityLUTSequence", frame.layout.domain)
        return table, (0.0, float(table.entries.max()))
    if slope is None or intercept is None:
        return None, frame.layout.domain
    if slope == 0:
        raise ValueError(f"{label('RescaleSlope')} is 0, which makes all pixels alike")
    ends = [slope * end + intercept for end in frame.layout.domain]
    return Rescale(slope, intercept, label("RescaleSlope")), (min(ends), max(ends))


def _voi(header: Header, domain: Range) -> Table | Window | None:
    """The first table that can be used, else the first window; None where the image has neither."""
    faults = []
    for item in header.items("VOILUTSequence"):
        try:
            return _table(item, "VOILUTSequence", domain)
        except ValueError as error:
            faults.append(str(error))
    function = header.text("VOILUTFunction") or "LINEAR"
    centres, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    for position in range(max(len(centres), len(widths))):
        centre, width = (n[position] if position < len(n) else None for n in (centres, widths))
        if centre is None and width is None:
            continue
        if centre is None or width is None:
            both = [label("WindowCenter"), label("WindowWidth")]
            faults.append(f"{both[centre is None]} has no value of {both[width is None]} beside it")
            continue
        window = Window(centre, width, function, label("WindowWidth"))
        if not (fault := window.fault()):
            return window
        faults.append(fault)
    if faults:
        raise ValueError("; ".join(faults))
    return None


def _table(item: Header, keyword: str, domain: Range) -> Table:
    return table_of(label(keyword), item.integers("LUTDescriptor"), item.words("LUTData"), domain)


def _palette(header: Header, layout: Layout, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if f"SegmentedRed{_PALETTE}Data" in header.dataset:
        descriptor = header.integers(f"Red{_PALETTE}Descriptor")
        if descriptor[2:] == [8] and not 1 <= descriptor[0] <= 256:
            raise ValueError(
                f"{label(f'Red{_PALETTE}Descriptor')} is {descriptor}; not read so long"
            )
        colours = apply_color_lut(stored, header.dataset)[..., :3]
        return _scaled(colours, colours.dtype.itemsize * 8)
    tables = [
        table_of(
            label(f"{colour}{_PALETTE}Data"),
            header.integers(f"{colour}{_PALETTE}Descriptor"),
            header.words(f"{colour}{_PALETTE}Data"),
            layout.domain,
        )
        for colour in ("Red", "Green", "Blue")
    ]
    bits = max(table.bits for table in tables)
    return _scaled(np.stack([table(stored) for table in tables], axis=-1), bits)


def _scaled(colours: npt.NDArray[Any], bits: int) -> npt.NDArray[np.float32]:
    return np.asarray(colours * (255.0 / (2**bits - 1)), dtype=np.float32)
