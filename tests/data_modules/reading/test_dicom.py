"""The order of rule 6, against values worked out by hand, and compressed files."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

from data_modules.errors import CorruptImageError, DataError
from data_modules.reading.io import read_image


def write(path: Path, pixels: npt.NDArray[Any], kind: str = "MONOCHROME2", **tags: Any) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = kind
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = tags.pop("bits", dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated == 16 else "OB"
    for key, value in tags.items():
        setattr(dataset, key, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


# SHA-256 of the float32 pixels; the series' is of its 30 files in order.
CHEST = "39efc6a0b8946aaa37f59011cea8f46a645ba064c9819d0914b53046787c61b4"
SERIES = "2c95687098e423eadcd36f22eab0c158fd247f957c32f62eaecfcde26554b8d2"

STORED = np.array([[0, 100], [200, 400]], np.uint16)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -1000)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("windowed", [False, True])
def test_rescale_window_and_inversion_come_in_this_order(
    tmp_path: Path, kind: str, slope: float, intercept: float, signed: bool, windowed: bool
) -> None:
    stored = (STORED.astype(np.int16) - 150) if signed else STORED
    tags: dict[str, Any] = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    real = stored.astype(float) * slope + intercept
    if windowed:
        centre, width = float(real.mean()), 150.0 * slope
        tags |= {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": "LINEAR_EXACT"}
        expected = np.clip((real - centre) / width + 0.5, 0, 1)  # PS3.3 C.11.2.1.3.2
        assert 0 < np.sort(expected.ravel())[1:3].max() < 1
    else:
        expected = (real - real.min()) / (real.max() - real.min())
    if kind == "MONOCHROME1":
        expected = 1 - expected
    image = read_image(
        write(tmp_path / "a.dcm", stored, kind, bits=12 if not signed else 16, **tags)
    )
    assert image.shape == (2, 2, 1)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[..., 0], expected * 255, atol=1e-3)


def test_a_voi_table_is_inverted_in_its_own_range(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]  # 4 entries, the first for pixel 0, of 8 bits
    table.add_new("LUTData", "OW", np.array([10, 20, 30, 200], np.uint16).tobytes())
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    path = write(tmp_path / "a.dcm", stored, "MONOCHROME1", VOILUTSequence=Sequence([table]))
    expected = np.array([[245, 235], [225, 55]], np.float32)
    np.testing.assert_allclose(read_image(path)[..., 0], expected, atol=1e-4)


def test_a_modality_table_sets_the_range_of_a_window(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.add_new("LUTData", "OW", np.array([0, 50, 100, 200], np.uint16).tobytes())
    table.ModalityLUTType = "US"
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    path = write(
        tmp_path / "a.dcm",
        stored,
        ModalityLUTSequence=Sequence([table]),
        WindowCenter=100,
        WindowWidth=100,
        VOILUTFunction="LINEAR_EXACT",
    )
    expected = np.array([[0, 0], [127.5, 255]], np.float32)
    np.testing.assert_allclose(read_image(path)[..., 0], expected, atol=1e-3)


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    tags = {"VOILUTFunction": "LINEAR_EXACT"}
    one = write(tmp_path / "1.dcm", STORED, WindowCenter=150, WindowWidth=200, **tags)
    two = write(tmp_path / "2.dcm", STORED, WindowCenter=[150, 9], WindowWidth=[200, 2], **tags)
    np.testing.assert_array_equal(read_image(one), read_image(two))


def test_colour_and_constant_images(tmp_path: Path) -> None:
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_allclose(
        read_image(write(tmp_path / "rgb.dcm", colour, "RGB")), colour.astype(float)
    )
    constant = write(tmp_path / "flat.dcm", np.full((2, 2), 7, np.uint16))
    assert np.isfinite(read_image(constant)).all()


def test_several_frames_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "frames.dcm", STORED, NumberOfFrames=2)
    with pytest.raises(CorruptImageError, match=r"frames\.dcm.*2 frames"):
        read_image(path)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [(JPEG2000Lossless, "pylibjpeg-openjpeg"), (JPEGLosslessSV1, "pylibjpeg-libjpeg")],
)
def test_a_missing_plugin_names_file_syntax_and_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID, package: str
) -> None:
    path = write(tmp_path / "packed.dcm", STORED)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 8])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(DataError) as error:
        read_image(path)
    assert not isinstance(error.value, CorruptImageError)
    for part in (
        "packed.dcm",
        dataset.file_meta.TransferSyntaxUID.name,
        f"pip install pylibjpeg {package}",
    ):
        assert part in str(error.value)


def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "sample/DICOM"
    chest = read_image(folder / "NEMA_CompressedSamples/RG1_J2KI.dcm")[..., 0]
    assert sorted(chest.shape) == [1841, 1955]
    height, width = chest.shape
    # MONOCHROME1 inverted: the air beside the patient is dark, the middle of the body is not.
    edge = np.median(chest[height // 3 : height // 2, :20])
    body = np.median(chest[height // 2 :, width // 2 - 20 : width // 2 + 20])
    assert edge < body
    # What these files became before look-up tables had a file of their own, byte for byte.
    assert hashlib.sha256(chest.tobytes()).hexdigest() == CHEST
    series = hashlib.sha256()
    for path in sorted((folder / "studyforrest_anat-T1w").glob("*.dcm")):
        brain = read_image(path)
        assert (brain.min(), brain.max()) == (0, 255)
        series.update(brain.tobytes())
    assert series.hexdigest() == SERIES
