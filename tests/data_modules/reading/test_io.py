import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.errors import CorruptImageError, DataError
from data_modules.reading.io import read_image, read_mask

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_formats_give_the_stored_pixels(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(COLOUR).save(tmp_path / f"colour{suffix}")
    Image.fromarray(GREY).save(tmp_path / f"grey{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"colour{suffix}"), COLOUR)
    np.testing.assert_array_equal(read_image(tmp_path / f"grey{suffix}"), GREY[..., None])


def test_transparency_is_dropped_and_a_palette_resolved(tmp_path: Path) -> None:
    alpha = np.dstack([COLOUR, GREY])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), COLOUR)
    Image.fromarray(np.dstack([GREY, GREY // 2])).save(tmp_path / "grey_alpha.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey_alpha.png"), GREY[..., None])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_survive(tmp_path: Path, suffix: str) -> None:
    import cv2

    grey = RNG.integers(0, 65536, (4, 3), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / f"grey{suffix}")
    read = read_image(tmp_path / f"grey{suffix}")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read[..., 0], grey)

    colour = RNG.integers(0, 65536, (4, 3, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / f"colour{suffix}"), colour[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"colour{suffix}"), colour)


def test_a_truncated_jpg_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(CorruptImageError, match=r"cut\.jpg.*truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "empty"),
        ("page.jpg", b"<html>not found</html>", "no PNG.*a page of text"),
        ("lfs.png", b"version https://git-lfs.github.com/spec/v1", "not fetched.*git-lfs"),
        ("broken.dcm", b"<html>", "DICOM"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptImageError, match=f"{name}.*{reason}"):
        read_image(tmp_path / name)


def test_missing_file_pages_and_unbounded_ranges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptImageError, match=r"gone\.png.*No such file"):
        read_image(tmp_path / "gone.png")
    page = Image.fromarray(GREY)
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    with pytest.raises(CorruptImageError, match=r"pages\.tif.*2 pages"):
        read_image(tmp_path / "pages.tif")
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(CorruptImageError, match=r"float\.tif.*32-bit"):
        read_image(tmp_path / "float.tif")


def test_masks_keep_the_values_of_the_file(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "ids.png"), ids)
    palette = Image.fromarray(ids, mode="P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png"), ids)
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "bits.png").tolist() == [[1, 0]]


def test_a_colour_mask_counts_only_if_it_is_grey(tmp_path: Path) -> None:
    three = np.repeat(np.array([[0, 255]], np.uint8)[..., None], 3, axis=-1)
    Image.fromarray(three).save(tmp_path / "same.bmp")
    assert read_mask(tmp_path / "same.bmp").tolist() == [[0, 255]]
    Image.fromarray(COLOUR).save(tmp_path / "colour.png")
    with pytest.raises(CorruptImageError, match=r"colour\.png.*one channel"):
        read_mask(tmp_path / "colour.png")


def test_masks_as_arrays(tmp_path: Path) -> None:
    ids = np.array([[0, 33], [2, 255]])
    for name, array in (
        ("ids", ids),
        ("bytes", ids.astype(np.uint8)),
        ("bits", ids > 0),
        ("whole", ids.astype(np.float64)),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        read = read_mask(tmp_path / f"{name}.npy")
        np.testing.assert_array_equal(read, array)
        assert read.dtype.kind in "iu"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 2, 3), np.uint8), r"shape \(2, 2, 3\)"),
        (np.full((2, 2), 0.5), "float64 numbers"),
        (np.full((2, 2), np.nan), "float64 numbers"),
        (np.full((2, 2), 1e30), "float64 numbers"),
        (np.full((2, 2), 1j), "complex128 numbers"),
        (np.full((2, 2), -1), "whole numbers from 0"),
        (np.array([[None]]), "cannot be read as a NumPy array"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: npt.NDArray[Any], reason: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CorruptImageError, match=rf"x\.npy.*{reason}"):
        read_mask(tmp_path / "x.npy")
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(CorruptImageError, match=r"y\.npy"):
        read_mask(tmp_path / "y.npy")


def npy(array: npt.NDArray[Any], shape: tuple[int, ...] | None = None) -> bytes:
    """The bytes of an array, whose header may say another shape."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out,
        {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape},
    )
    return out.getvalue() + array.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">u2", "?", "<f4"])
def test_an_array_whose_header_declares_more_or_less_than_it_holds(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npy"
    ids = np.arange(12).reshape(3, 4) % 2
    array = ids.astype(dtype)
    np.testing.assert_array_equal(read_mask(path, npy(array)), ids)
    out = io.BytesIO()
    np.save(out, np.asfortranarray(array))
    np.testing.assert_array_equal(read_mask(path, out.getvalue()), ids)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("memory was taken"))
    for shape in ((300000, 400000), (3, 5), (3, 3), (2, 2)):
        with pytest.raises(CorruptImageError, match=rf"x\.npy: declares {shape[0]}x{shape[1]}"):
            read_mask(path, npy(array, shape))
    for content in (npy(array)[:-1], npy(array) * 2):
        with pytest.raises(CorruptImageError, match=r"truncated, damaged, or several arrays"):
            read_mask(path, content)
    with pytest.raises(CorruptImageError, match=r"x\.npy: is empty"):
        read_mask(path, npy(array[:0]))


def test_a_corrupt_image_error_survives_the_way_out_of_a_worker() -> None:
    message = str(CorruptImageError("a/b.png", "is empty"))
    again = CorruptImageError(message)  # how torch raises it in the main process
    assert str(again) == message == "a/b.png: is empty"
    assert isinstance(again, DataError)
