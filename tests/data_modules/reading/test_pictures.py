"""Which files are opened at all, and which are refused before anything is decoded."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_modules.errors import CorruptImageError
from data_modules.reading import memory
from data_modules.reading.io import read_bytes, read_image, read_mask
from data_modules.reading.options import Reading

Make = Callable[..., bytes]

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (16, 24), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF")


def encoded(pixels: Any, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


def refusal(path: Path, content: bytes, read: Callable[..., Any] = read_image) -> str:
    with pytest.raises(CorruptImageError) as error:
        read(path, content)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "PostScript"),
        (encoded(GREY, "WEBP"), "WebP"),
        (encoded(GREY, "PPM"), ""),
        (encoded(GREY, "PCX"), ""),
        (encoded(COLOUR, "PDF"), "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0" * 128 + b"DICM", "DICOM; give it the suffix .dcm"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a page of text"),
        (b"\x1f\x8b\x08", "gzip"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_only_the_formats_that_are_meant_are_opened(
    tmp_path: Path,
    content: bytes,
    reason: str,
    read: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript"))
    text = refusal(tmp_path / "x.png", content, read)
    assert "holds no PNG, JPEG, BMP, TIFF or GIF image" in text
    assert reason in text


def test_the_content_says_the_format(tmp_path: Path) -> None:
    for format in FORMATS:
        read = read_image(tmp_path / "x.png", encoded(GREY, format))
        assert read.shape[:2] == GREY.shape
        if format != "JPEG":
            np.testing.assert_array_equal(read[..., 0], GREY)


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_further_frames_are_refused(tmp_path: Path, format: str, read: Callable[..., Any]) -> None:
    second = Image.fromarray(255 - GREY)
    content = encoded(GREY, format, save_all=True, append_images=[second])
    text = refusal(tmp_path / f"x.{format.lower()}", content, read)
    assert f"holds 2 {'pages' if format == 'TIFF' else 'frames'}; save one image a file" in text


def test_pictures_of_equal_rank_in_a_jpeg_are_refused_and_previews_are_not(tmp_path: Path) -> None:
    path, first = tmp_path / "x.jpg", encoded(COLOUR, "JPEG", quality=95)
    for other, refused in ((255 - COLOUR, True), (COLOUR[::2, ::2], False)):
        out = io.BytesIO()
        Image.fromarray(COLOUR).save(
            out, "MPO", save_all=True, append_images=[Image.fromarray(other)], quality=95
        )
        if refused:
            assert "holds 2 pages" in refusal(path, out.getvalue())
        else:
            both = read_image(path, out.getvalue())
            np.testing.assert_array_equal(both, read_image(path, first))


def test_a_gif_that_is_cut_or_covers_a_part_alone_is_refused(tmp_path: Path) -> None:
    content = encoded(GREY, "GIF")
    path = tmp_path / "x.gif"
    for length in range(10, len(content), 13):
        refusal(path, content[:length])
    assert "truncated" in refusal(path, content[:-1])
    wider = content[:6] + struct.pack("<H", 25) + content[8:]
    assert "of 25x16 pixels, of which only 24x16 are in the file" in refusal(path, wider)


def declaring(format: str, width: int, height: int, make_tiff: Make) -> bytes:
    """A file of 24x16 pixels whose header says another size."""
    content = bytearray(encoded(GREY, format))
    if format == "PNG":
        import zlib

        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif format == "GIF":
        place = content.index(b"\x2c", 13 + 768)
        content[6:10] = content[place + 5 : place + 9] = struct.pack("<HH", width, height)
    elif format == "BMP":
        content[18:26] = struct.pack("<II", width, height)
    elif format == "JPEG":
        place = content.index(b"\xff\xc0")
        content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    else:
        return make_tiff(GREY, tags={256: [width], 257: [height], 278: [height]})
    return bytes(content)


@pytest.mark.parametrize("format", FORMATS)
def test_a_header_that_declares_more_than_the_file_takes_no_memory(
    tmp_path: Path, format: str, make_tiff: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    content = declaring(format, 9000, 9000, make_tiff)
    for name in ("new", "fill"):
        monkeypatch.setattr(f"PIL.Image.core.{name}", lambda *_: pytest.fail("memory was taken"))
    text = refusal(path, content)
    assert "declares" in text
    assert "truncated or damaged" in text


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_over_the_limit_says_what_to_do(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, content = tmp_path / "x.png", encoded(GREY, format)
    for limit in (24 * 16 - 1, 100):  # where Pillow warns, and where it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert "scale it down, or cut it into tiles" in refusal(path, content)
    for allowed in (24 * 16, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", allowed)
        assert read_image(path, content).shape[:2] == GREY.shape


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_larger_than_the_memory_is_refused(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_ALWAYS_THERE", 0)
    path, content = tmp_path / "x.png", encoded(COLOUR, format)
    path.write_bytes(content)
    for free, fits in ((2**30, True), (3 * 24 * 16 * 2 if format != "GIF" else 500, False)):
        monkeypatch.setattr(
            "psutil.virtual_memory", lambda free=free: SimpleNamespace(available=free)
        )
        if fits:
            assert read_image(path).shape == (16, 24, 3)
        else:
            assert "has 24x16 pixels, which takes" in refusal(path, content)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10))
    with pytest.raises(CorruptImageError, match=r"x\.png: takes .* of memory, but .* are free"):
        read_bytes(path)


def test_a_cut_picture_is_refused_in_every_format(tmp_path: Path) -> None:
    for format in FORMATS:
        content = encoded(GREY, format)
        for length in (len(content) // 3, len(content) * 3 // 4):
            refusal(tmp_path / "x.png", content[:length])


TIFFS: list[tuple[str, int, dict[int, Any], str]] = [
    ("i1", 1, {}, "signed 8-bit pixels"),
    ("i2", 1, {}, "signed 16-bit pixels"),
    ("i4", 1, {}, "signed 32-bit pixels"),
    ("u4", 1, {}, "32-bit pixels, which have no fixed range"),
    ("f4", 1, {}, "32-bit pixels, which have no fixed range"),
    ("f8", 1, {}, "1 floating point sample(s) of 64 bits"),
    ("i2", 0, {}, "1 signed sample(s) of 16 bits a pixel, PhotometricInterpretation 0"),
    ("u1", 1, {262: None}, "does not say whether 0 is black or white"),
    ("u1", 3, {320: [k for k in range(256)] * 3}, "a colour map of 8 bits"),
]


@pytest.mark.parametrize(("dtype", "photometric", "tags", "reason"), TIFFS)
def test_tiff_pixels_without_a_meaning_are_refused_in_true_words(
    tmp_path: Path,
    make_tiff: Make,
    dtype: str,
    photometric: int,
    tags: dict[int, Any],
    reason: str,
) -> None:
    pixels = (GREY // 2).astype(dtype)
    assert reason in refusal(tmp_path / "x.tif", make_tiff(pixels, photometric, tags=tags))


@pytest.mark.parametrize("order", "<>")
def test_deep_colours_of_tiff(tmp_path: Path, make_tiff: Make, order: str) -> None:
    path = tmp_path / "x.tif"
    deep = RNG.integers(0, 65536, (16, 24, 4), dtype=np.uint16)
    colour = deep[..., :3]
    np.testing.assert_array_equal(read_image(path, make_tiff(colour, 2, order)), colour)
    content = make_tiff(deep, 2, order, tags={338: [2]})
    np.testing.assert_array_equal(read_image(path, content), colour)
    assert "planes of 16 bits" in refusal(path, make_tiff(colour, 2, order, planes=2))
    premultiplied = make_tiff(deep, 2, order, tags={338: [1]})
    assert "multiplied by their transparency" in refusal(path, premultiplied)
    assert "16-bit CMYK" in refusal(path, make_tiff(deep, 5, order))
    planes = make_tiff(COLOUR, 2, order, planes=2)
    np.testing.assert_array_equal(read_image(path, planes), COLOUR)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_white_is_white_in_every_tiff(
    tmp_path: Path, make_tiff: Make, dtype: type, photometric: int, order: str
) -> None:
    top = int(np.iinfo(dtype).max)
    seen = RNG.integers(0, top + 1, (5, 7), dtype=dtype)
    stored = seen if photometric else top - seen
    content = make_tiff(stored.astype(dtype), photometric, order)
    read = read_image(tmp_path / "x.tif", content)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[..., 0], seen)


def test_twelve_bits_reach_from_black_to_white(tmp_path: Path, make_tiff: Make) -> None:
    values = np.array([[0, 4095], [1, 2048]])
    packed = b"".join(
        struct.pack(">I", first << 20 | second << 8)[:3] for first, second in values.tolist()
    )
    flat = np.frombuffer(packed, np.uint8).reshape(2, 3)
    for photometric, expected in ((1, values), (0, 4095 - values)):
        content = make_tiff(flat, photometric, tags={256: [2], 258: [12]})
        read = read_image(tmp_path / "x.tif", content)[..., 0]
        np.testing.assert_array_equal(read, np.round(expected * 65535 / 4095))


def test_deep_grey_with_transparency_keeps_its_bits(tmp_path: Path, make_png: Make) -> None:
    samples = RNG.integers(0, 65536, (4, 6, 2), dtype=np.uint16)
    read = read_image(tmp_path / "x.png", make_png(samples, 16, 4))
    assert read.dtype == np.uint16
    for channel in range(read.shape[-1]):
        np.testing.assert_array_equal(read[..., channel], samples[..., 0])


def test_a_frame_is_chosen_of_dicom_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(GREY, "PNG"))
    with pytest.raises(CorruptImageError, match="frame is 1, but only DICOM files have frames"):
        read_image(path, reading=Reading(frame=1))
    np.testing.assert_array_equal(read_mask(path, reading=Reading(frame=1)), GREY)


def test_nothing_that_is_cut_is_filled_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program may have told Pillow to be lenient; whether a PNG is whole is not left to it."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = encoded(GREY, "PNG")
    for cut in (content[:-20], content[:-12], content[: len(content) // 2]):
        assert "truncated" in refusal(tmp_path / "x.png", cut)
