"""Masks that say a pixel twice, in few bits, with a sign or with 0 for white."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.errors import CorruptImageError
from data_modules.reading.io import read_image, read_mask

Make = Callable[..., bytes]

RIGHT = np.zeros((4, 6), bool)
RIGHT[:, 3:] = True
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def read(tmp_path: Path, content: bytes, name: str = "m.png") -> npt.NDArray[Any]:
    (tmp_path / name).write_bytes(content)
    return read_mask(tmp_path / name)


def refusal(tmp_path: Path, content: bytes, name: str = "m.png") -> str:
    with pytest.raises(CorruptImageError) as error:
        read(tmp_path, content, name)
    assert str(error.value).startswith(str(tmp_path / name))
    return str(error.value)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def with_alpha(
    colour: npt.NDArray[Any], alpha: npt.NDArray[Any], channels: int, dtype: type = np.uint8
) -> npt.NDArray[Any]:
    return np.dstack([*[colour] * (channels - 1), alpha]).astype(dtype)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("value", [255, 2, 0])
def test_a_drawing_in_the_transparency_alone(
    tmp_path: Path, make_png: Make, channels: int, bits: int, value: int
) -> None:
    top = 2**bits - 1
    colour = np.full(RIGHT.shape, top if value == 255 else value)
    samples = with_alpha(colour, np.where(RIGHT, top, 0), channels, np.uint16)
    content = make_png(samples, bits, {2: 4, 4: 6}[channels])
    if value == 0:  # black is the background of every other mask
        assert "draws in its transparency alone" in refusal(tmp_path, content)
        return
    np.testing.assert_array_equal(read(tmp_path, content), np.where(RIGHT, value, 0))


# What a pixel's colour and transparency are left and right, and the mask or why there is none.
ALPHA: list[tuple[tuple[int, int], tuple[int, int], list[int] | str]] = [
    ((0, 255), (255, 255), [0, 255]),
    ((0, 255), (0, 255), [0, 255]),  # both say the same
    ((0, 2), (128, 128), [0, 2]),  # transparent alike all over
    ((255, 255), (255, 255), [255, 255]),
    ((0, 0), (255, 255), [0, 0]),
    ((0, 0), (0, 0), [0, 0]),
    ((255, 0), (0, 255), "says two things"),  # black drawn on transparent white
    ((255, 255), (0, 0), "says two things"),  # nothing is seen of it
    ((0, 255), (0, 0), "says two things"),
    ((1, 2), (0, 255), "says two things"),
    ((0, 255), (128, 255), "transparent in 2 steps"),
    ((255, 255), (1, 255), "transparent in 2 steps"),
]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("colours", "alphas", "expected"), ALPHA)
def test_colour_and_transparency_agree_or_are_refused(
    tmp_path: Path,
    format: str,
    colours: tuple[int, int],
    alphas: tuple[int, int],
    expected: list[int] | str,
) -> None:
    colour, alpha = np.where(RIGHT, *colours[::-1]), np.where(RIGHT, *alphas[::-1])
    for channels in (2, 4):
        image = Image.fromarray(with_alpha(colour, alpha, channels))
        content = encoded(image, format)
        if isinstance(expected, str):
            assert expected in refusal(tmp_path, content)
        else:
            mask = read(tmp_path, content)
            np.testing.assert_array_equal(mask, np.where(RIGHT, *expected[::-1]))


def test_soft_edges_of_transparency_are_refused(tmp_path: Path) -> None:
    alpha = np.where(RIGHT, 255, 0)
    alpha[:, 2] = 90
    image = Image.fromarray(with_alpha(np.full(RIGHT.shape, 255), alpha, 4))
    assert "transparent in 3 steps" in refusal(tmp_path, encoded(image))


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_a_colour_that_stands_for_transparency(tmp_path: Path, make_png: Make, bits: int) -> None:
    samples = np.where(RIGHT, 1, 0)
    for key, fits in ((0, True), (1, False)):
        content = make_png(samples, bits, before=((b"tRNS", key.to_bytes(2, "big")),))
        if fits:
            np.testing.assert_array_equal(read(tmp_path, content), samples)
        else:
            assert "says two things" in refusal(tmp_path, content)


# Colours of a palette, the transparency of its indices, and what left (index 0) and right (index 1)
# become, or why they do not.
PALETTES: list[tuple[list[tuple[int, ...]], bytes, list[int] | str]] = [
    ([BLACK, WHITE], b"", [0, 1]),
    ([WHITE, BLACK], b"", [1, 0]),
    ([BLACK, (128, 0, 0)], b"", [0, 1]),
    ([WHITE, (128, 0, 0)], b"", [0, 1]),
    ([WHITE, BLACK, (128, 0, 0)], b"", "the index 1 black, and 0 in another colour"),
    ([(128, 0, 0), BLACK], b"", "the index 1 black, and 0 in another colour"),
    ([WHITE, (127,) * 3, BLACK], b"", "the index 0 as the grey 255"),
    ([BLACK, (127,) * 3, WHITE], b"", [0, 1]),
    ([BLACK, (2,) * 3], b"", "the index 1 as the grey 2"),  # ids 0 and 2 of a sparing writer
    ([BLACK, (1,) * 3, (255,) * 3], b"", [0, 1]),
    ([BLACK, WHITE], b"\0", [0, 1]),
    ([WHITE, WHITE], b"\0", [0, 1]),
    ([WHITE, BLACK], b"\0", "the indices 0 and 1 in one grey"),  # black drawn on nothing
    ([BLACK, BLACK], b"", "the indices 0 and 1 in one grey"),
    ([WHITE, WHITE], b"", "the indices 0 and 1 in one grey"),
    ([(1,) * 3, BLACK], b"", "the index 0 as the grey 1"),
    ([BLACK, WHITE], b"\xff\0", "the index 1 of its palette"),
    ([WHITE, BLACK], b"\xff\0", "the index 1 of its palette"),
    ([WHITE, WHITE], b"\xff\0", "the index 1 of its palette"),
]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("colours", "alphas", "expected"), PALETTES)
def test_a_palette_whose_colours_say_another_thing(
    tmp_path: Path,
    make_png: Make,
    bits: int,
    colours: list[tuple[int, ...]],
    alphas: bytes,
    expected: list[int] | str,
) -> None:
    before = [(b"PLTE", bytes(sum(colours, ())))]
    before += [(b"tRNS", alphas)] if alphas else []
    content = make_png(RIGHT.astype(int), bits, 3, before=tuple(before))
    if isinstance(expected, str):
        assert expected in refusal(tmp_path, content)
    else:
        np.testing.assert_array_equal(read(tmp_path, content), np.where(RIGHT, *expected[::-1]))


GIFS: list[tuple[list[int], list[tuple[int, ...]], int | None, list[int] | str]] = [
    ([0, 1, 2], [(0,) * 3, (2,) * 3, WHITE], None, [0, 2, 255]),  # numbered sparingly
    ([0, 0, 1], [WHITE, BLACK], None, [255, 255, 0]),
    ([0, 0, 0], [WHITE, BLACK], None, [255, 255, 255]),
    ([0, 1, 1], [WHITE, WHITE], 1, [255, 0, 0]),
    ([0, 1, 1], [BLACK, WHITE], 1, "says two things"),
    ([0, 1, 1], [BLACK, BLACK], None, "the indices 0 and 1 in one grey"),
    ([0, 1, 2], [BLACK, (128, 0, 0), (0, 128, 0)], None, [0, 1, 2]),
    ([0, 1, 2], [WHITE, (128, 0, 0), BLACK], None, "the index 2 black"),
    ([0, 1, 2], [BLACK, (128, 0, 0), (0, 128, 0)], 2, "the index 2 of its palette"),
]


@pytest.mark.parametrize(("indices", "colours", "clear", "expected"), GIFS)
def test_gif_masks(
    tmp_path: Path,
    indices: list[int],
    colours: list[tuple[int, ...]],
    clear: int | None,
    expected: list[int] | str,
) -> None:
    image = Image.new("P", (3, 1))
    image.putdata(indices)
    image.putpalette(sum(colours, ()))
    options = {} if clear is None else {"transparency": clear}
    content = encoded(image, "GIF", optimize=False, **options)
    if isinstance(expected, str):
        assert expected in refusal(tmp_path, content, "m.gif")
    else:
        assert read(tmp_path, content, "m.gif").tolist() == [expected]


@pytest.mark.parametrize("ids", [[0, 1, 2], [0, 2, 255], [255, 255, 255], [2, 2, 2], [0, 0, 0]])
@pytest.mark.parametrize("format", ["GIF", "PNG", "BMP", "TIFF"])
def test_grey_masks_give_their_numbers_in_every_format(
    tmp_path: Path, ids: list[int], format: str
) -> None:
    image = Image.fromarray(np.array([ids], np.uint8))
    assert read(tmp_path, encoded(image, format), f"m.{format.lower()}").tolist() == [ids]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("interlaced", [False, True])
def test_grey_png_of_every_depth_gives_its_ids(
    tmp_path: Path, make_png: Make, bits: int, interlaced: bool
) -> None:
    top = min(2**bits - 1, 63)
    ids = np.random.default_rng(bits).integers(0, top + 1, (9, 11))
    content = make_png(ids, bits, interlaced=interlaced)
    np.testing.assert_array_equal(read(tmp_path, content), ids)
    seen = read_image(tmp_path / "m.png")[..., 0]  # an image is what is shown: white is white
    np.testing.assert_array_equal(seen, ids * (255 // (2**bits - 1)) if bits < 16 else ids)


def test_white_of_sixteen_bits_is_white(tmp_path: Path, make_png: Make) -> None:
    samples = np.where(RIGHT, 65535, 0).astype(np.uint16)
    for content in (make_png(samples, 16), make_png(np.dstack([samples] * 3), 16, 2)):
        np.testing.assert_array_equal(read(tmp_path, content), np.where(RIGHT, 255, 0))
    ids = RIGHT.astype(np.uint16)  # which Pillow would cut down to 0
    np.testing.assert_array_equal(read(tmp_path, make_png(np.dstack([ids] * 3), 16, 2)), ids)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f4"])
def test_tiff_masks_of_other_numbers(
    tmp_path: Path, make_tiff: Make, dtype: str, order: str
) -> None:
    ids = np.where(RIGHT, 3, 0).astype(dtype)
    if (dtype, order) == ("u4", ">"):
        kind = "TIFF file of a kind.*1 unsigned sample.* of 32 bits"
        with pytest.raises(CorruptImageError, match=kind):
            read(tmp_path, make_tiff(ids, 1, order), "m.tif")
        return
    np.testing.assert_array_equal(read(tmp_path, make_tiff(ids, 1, order), "m.tif"), ids)
    if dtype[0] != "u":
        text = refusal(tmp_path, make_tiff(np.where(RIGHT, -1, 0).astype(dtype), 1, order), "m.tif")
        assert "negative numbers (-1" in text
    if dtype == "f4":
        for value in (0.5, np.nan, np.inf, 1e20):
            bad = np.where(RIGHT, value, 0).astype(dtype)
            assert "holds fractions" in refusal(tmp_path, make_tiff(bad, 1, order), "m.tif")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_masks_whose_white_is_zero(
    tmp_path: Path, make_tiff: Make, dtype: type, order: str
) -> None:
    white = int(np.iinfo(dtype).max)
    stored: npt.NDArray[Any] = np.where(RIGHT, 0, white).astype(dtype)
    mask = read(tmp_path, make_tiff(stored, 0, order), "m.tif")
    np.testing.assert_array_equal(mask, np.where(RIGHT, 255, 0))
    ids: npt.NDArray[Any] = np.where(RIGHT, 2, 0).astype(
        dtype
    )  # by a program that does not know the tag
    text = refusal(tmp_path, make_tiff(ids, 0, order), "m.tif")
    assert "0 is white (PhotometricInterpretation 0)" in text
    assert f"shows as {white}" in text
    text = refusal(tmp_path, make_tiff(ids, 1, order, tags={262: None}), "m.tif")
    assert "does not say whether 0 is black or white" in text


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_masks_in_other_colours_are_refused(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 2))
    assert "is a colour image" in refusal(tmp_path, encoded(image, "TIFF"), "m.tif")


def test_eight_bits_of_black_and_white_in_bmp_are_not_unpacked(tmp_path: Path) -> None:
    """Pillow takes them for bits where the palette has two entries, and gives other pixels."""
    image = Image.fromarray(RIGHT.astype(np.uint8), mode="P")
    image.putpalette([*BLACK, *WHITE])
    content = encoded(image, "BMP")
    assert content[28] == 8
    assert "8 bits a pixel whose palette is grey" in refusal(tmp_path, content, "m.bmp")
    image.putpalette([*WHITE, *BLACK])
    inverted = read(tmp_path, encoded(image, "BMP"), "m.bmp")
    np.testing.assert_array_equal(inverted, ~RIGHT)
