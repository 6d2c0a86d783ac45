"""The orientation tag in every format that has one: ignored, or applied to image and mask alike."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.errors import DataError
from data_modules.reading.io import exif_orientation, read_image, read_mask
from data_modules.reading.options import Orientation, Reading
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule

Make = Callable[..., bytes]

RNG = np.random.default_rng(0)
SHAPE = (4, 6)
STORED: dict[str, npt.NDArray[Any]] = {
    "grey8": RNG.integers(0, 256, SHAPE, dtype=np.uint8),
    "grey16": RNG.integers(0, 65536, SHAPE, dtype=np.uint16),
    "colour8": RNG.integers(0, 256, (*SHAPE, 3), dtype=np.uint8),
    "colour16": RNG.integers(0, 65536, (*SHAPE, 3), dtype=np.uint16),
}
# Where row 0 and column 0 of the file are in the scene (TIFF 6.0, tag 274; Exif 2.3, 4.6.4).
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def shown(stored: npt.NDArray[Any], tag: int) -> npt.NDArray[Any]:
    """What is seen, pixel by pixel from the standard's table."""
    height, width = stored.shape[:2]
    size = (height, width) if tag < 5 else (width, height)
    seen = np.zeros((*size, *stored.shape[2:]), stored.dtype)
    for row in range(height):
        for column in range(width):
            place = {"top": 0, "left": 0}
            for side, number in zip(SIDES[tag], (row, column), strict=True):
                if side in ("top", "bottom"):
                    place["top"] = number if side == "top" else size[0] - 1 - number
                else:
                    place["left"] = number if side == "left" else size[1] - 1 - number
            seen[place["top"], place["left"]] = stored[row, column]
    return seen


def exif(tag: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = tag
    return tags.tobytes()


@pytest.fixture
def written(make_png: Make, make_tiff: Make) -> Callable[[str, str, int], bytes]:
    def write(kind: str, format: str, tag: int) -> bytes:
        stored = STORED[kind]
        if format == "png":
            colour, bits = 2 if stored.ndim == 3 else 0, stored.dtype.itemsize * 8
            before = ((b"eXIf", exif(tag).removeprefix(b"Exif\0\0")),)
            return make_png(stored, bits, colour, before=before)
        order = "<" if format == "tiff" else ">"
        return make_tiff(stored, 2 if stored.ndim == 3 else 1, order, tags={274: [tag]})

    return write


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("format", ["png", "tiff", "big-endian tiff"])
@pytest.mark.parametrize("kind", STORED)
def test_images_are_read_as_stored_or_as_shown(
    kind: str, format: str, tag: int, tmp_path: Path, written: Callable[[str, str, int], bytes]
) -> None:
    path = tmp_path / f"x.{format[-4:]}"
    path.write_bytes(written(kind, format, tag))
    assert exif_orientation(path) == tag
    stored = STORED[kind] if STORED[kind].ndim == 3 else STORED[kind][..., None]
    np.testing.assert_array_equal(read_image(path), stored)
    upright = read_image(path, reading=Reading("upright"))
    np.testing.assert_array_equal(upright, shown(stored, tag))
    if STORED[kind].ndim == 2:
        np.testing.assert_array_equal(read_mask(path), STORED[kind])
        turned = read_mask(path, reading=Reading("upright"))
        np.testing.assert_array_equal(turned, shown(STORED[kind], tag))


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_jpeg_image_and_mask(tmp_path: Path, tag: int) -> None:
    blocks = np.zeros((16, 24), np.uint8)
    blocks[:8, :8] = 255  # whole blocks of JPEG, so that no value is another afterwards
    for name, pixels in (("image", np.dstack([blocks] * 3)), ("mask", blocks)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.jpg", exif=exif(tag), quality=100)
    image, mask = tmp_path / "image.jpg", tmp_path / "mask.jpg"
    np.testing.assert_array_equal(read_mask(mask), blocks)
    np.testing.assert_array_equal(read_image(image)[..., 0], blocks)
    upright = Reading("upright")
    np.testing.assert_array_equal(read_mask(mask, reading=upright), shown(blocks, tag))
    np.testing.assert_array_equal(read_image(image, reading=upright)[..., 2], shown(blocks, tag))


@pytest.mark.parametrize("kind", STORED)
def test_a_compressed_tiff_and_one_whose_white_is_zero(
    kind: str, tmp_path: Path, make_tiff: Make
) -> None:
    stored = STORED[kind]
    path = tmp_path / "x.tif"
    if stored.ndim == 2:
        path.write_bytes(make_tiff(stored, 0, ">", tags={274: [6]}))
        expected = np.iinfo(stored.dtype).max - stored
        np.testing.assert_array_equal(read_image(path)[..., 0], expected)
        upright = read_image(path, reading=Reading("upright"))[..., 0]
        np.testing.assert_array_equal(upright, shown(expected, 6))
    if kind != "colour16":  # which Pillow does not write
        with Image.open(io.BytesIO(make_tiff(stored, 2 if stored.ndim == 3 else 1))) as image:
            image.save(path, compression="tiff_lzw", tiffinfo={274: 8})
        whole = stored if stored.ndim == 3 else stored[..., None]
        np.testing.assert_array_equal(read_image(path), whole)
        np.testing.assert_array_equal(read_image(path, reading=Reading("upright")), shown(whole, 8))


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_a_tag_that_is_no_orientation_is_none(tmp_path: Path, make_tiff: Make, tag: int) -> None:
    path = tmp_path / "x.tif"
    for kind in ("grey8", "colour16"):
        stored = STORED[kind]
        path.write_bytes(make_tiff(stored, 2 if stored.ndim == 3 else 1, tags={274: [tag]}))
        assert exif_orientation(path) == 1
        for orientation in ("stored", "upright"):
            read = read_image(path, reading=Reading(orientation))
            np.testing.assert_array_equal(np.squeeze(read), stored)


@pytest.mark.parametrize("orientation", ["stored", "upright"])
def test_a_mask_follows_its_own_tag(
    tmp_path: Path, make_tiff: Make, orientation: Orientation
) -> None:
    """Image and mask tagged alike, the image alone, the mask alone; squares, so that none is seen
    by its size."""
    stored = np.full((8, 8), 20, np.uint8)
    stored[:, 4:] = 220
    pairs = {"both": (6, 6), "image": (6, 1), "mask": (1, 6), "none": (1, 1)}
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, (tag, own) in pairs.items():
        mask = np.where(stored > 100, 255, 0).astype(np.uint8)
        for folder, pixels, turn in (("images", stored, tag), ("masks", mask, own)):
            content = make_tiff(pixels, tags={274: [turn]})
            (tmp_path / folder / f"{name}.tif").write_bytes(content)
    data = ImageMaskFolderDataModule(
        root=str(tmp_path),
        image_size=8,
        batch_size=4,
        num_workers=0,
        in_channels=1,
        orientation=orientation,
    )
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    for index, (tag, own) in enumerate(pairs[n] for n in ("both", "image", "mask", "none")):
        image, mask = batch["image"][index, 0].numpy() > 0, batch["mask"][index].numpy() > 0
        expected = [stored > 100] * 2
        if orientation == "upright":
            expected = [shown(stored > 100, tag), shown(stored > 100, own)]
        np.testing.assert_array_equal(image, expected[0])
        np.testing.assert_array_equal(mask, expected[1])


def test_what_is_remembered_of_a_file_holds_for_one_orientation(
    tmp_path: Path, make_tiff: Make
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for k in range(4):
        image = RNG.integers(0, 256, SHAPE, dtype=np.uint8)
        (tmp_path / f"images/x{k}.tif").write_bytes(make_tiff(image, tags={274: [6]}))
        Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / f"masks/x{k}.png")

    def found(orientation: Any) -> list[str]:
        data = ImageMaskFolderDataModule(root=str(tmp_path), orientation=orientation)
        return [str(problem) for problem in data.check_files(lambda text: None)]

    assert found("stored") == []
    problems = found("upright")
    assert len(problems) == 4
    assert "images/x0.tif: is 4x6 pixels, but its mask masks/x0.png is 6x4" in problems[0]
    assert "EXIF orientation 6, which is applied" in problems[0]
    assert "data.init_args.orientation to stored" in problems[0]
    assert found("stored") == []
    with pytest.raises(DataError, match=r"orientation: turned given, expected stored, upright"):
        found("turned")
