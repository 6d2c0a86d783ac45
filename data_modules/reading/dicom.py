"""DICOM pixels as images.

The order is the standard's (PS3.3 C.7.6.3 and C.11): stored pixels, modality look-up table, VOI
look-up table or window, and only then the inversion of MONOCHROME1, within the range that the
tables gave. Headers are read and forgotten: nothing of them leaves this file.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from data_modules.errors import CorruptImageError, DataError

_LIBJPEG = "pylibjpeg pylibjpeg-libjpeg"
_OPENJPEG = "pylibjpeg pylibjpeg-openjpeg"


def read_dicom(path: Path, data: bytes, *, frame: int | None = None) -> npt.NDArray[np.float32]:
    """Reads one frame of a DICOM image.

    Greyscale: a window or VOI table (the first, if there are several) sets black and white; without
    one, the darkest and brightest pixel of the image do. Colour: the range of the stored bits.

    Args:
        path: Named in errors.
        data: The bytes of the file.
        frame: Which one, from 0; None refuses a file with several.

    Returns:
        (H, W, C) in [0, 255], not rounded; C is 1 or 3.

    Raises:
        CorruptImageError: If it is no DICOM image, has several frames, or does not decode.
        DataError: If the plug-in for its compression is not installed.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        if frame is None and frames > 1:
            text = f"holds {frames} frames; export one a file, or choose one: data.init_args.frame"
            raise CorruptImageError(path, text)
        if frame is not None and not 0 <= frame < frames:
            text = f"holds {frames} frame(s), and data.init_args.frame is {frame}, from 0"
            raise CorruptImageError(path, text)
        if "PixelData" not in dataset:
            raise CorruptImageError(path, "DICOM file without pixel data")
        _require_decoder(path, dataset)
        grey = dataset.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        return _grey(dataset, frame or 0) if grey else _colour(dataset, frame or 0)
    except DataError:
        raise
    except Exception as error:  # pydicom and its plug-ins raise of every kind
        raise CorruptImageError(path, f"cannot be decoded as DICOM ({error})") from error


def _require_decoder(path: Path, dataset: Dataset) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        plugin = _OPENJPEG if "2000" in syntax.name else _LIBJPEG
        raise DataError(
            f"{path}: is compressed as {syntax.name} ({syntax}), "
            f"and the plug-in that decodes it is missing.\nInstall it: pip install {plugin}"
        )


def _grey(dataset: Dataset, frame: int) -> npt.NDArray[np.float32]:
    values = apply_modality_lut(pixel_array(dataset, index=frame), dataset)
    values = apply_voi_lut(values, dataset, index=0).astype(np.float64)
    low, high = _range_after_luts(dataset, values)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = low + high - values
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return np.clip(scaled, 0, 255).astype(np.float32)[..., None]


def _range_after_luts(dataset: Dataset, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Black and white of the image after both tables."""
    if dataset.get("VOILUTSequence"):
        return 0.0, 2.0 ** _table_bits(dataset.VOILUTSequence[0]) - 1
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return float(values.min()), float(values.max())
    if dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** _table_bits(dataset.ModalityLUTSequence[0]) - 1
    bits = int(dataset.BitsStored)
    low = -(2.0 ** (bits - 1)) if dataset.PixelRepresentation else 0.0
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    ends = [slope * end + intercept for end in (low, low + 2.0**bits - 1)]
    return min(ends), max(ends)


def _table_bits(table: Dataset) -> int:
    return int(table.LUTDescriptor[2])


def _colour(dataset: Dataset, frame: int) -> npt.NDArray[np.float32]:
    values = pixel_array(dataset, index=frame)  # pydicom turns YBR into RGB here
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        bits = values.dtype.itemsize * 8
    return np.asarray(values[..., :3] * (255.0 / (2**bits - 1)), dtype=np.float32)
