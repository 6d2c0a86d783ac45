"""Preprocessing of chest radiographs: derived anew by counting pixels, and by OpenCV."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data_modules.kinds.chest import equalize, without_blank_borders
from data_modules.kinds.transforms import cut
from data_modules.phantoms.montgomery import write
from data_modules.reading.formats import ImageArray
from data_modules.sets.montgomery import MontgomeryDataModule

Pixels = npt.NDArray[np.uint8]


def counted(image: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """docs/papers/hybrid.md 2d, pixel by pixel: how many are at most as bright as this one."""
    flat = image.ravel()
    at_most = (flat[None, :] <= flat[:, None]).sum(axis=1)
    darkest = (flat == flat.min()).sum()
    share = (at_most - darkest) / (flat.size - darkest)
    return np.asarray(255 * np.sqrt(share).reshape(image.shape), dtype=np.float64)


def example(seed: int = 0, dtype: Any = np.uint8) -> ImageArray:
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(120, 40, (24, 18, 1)), 0, 255)
    result: ImageArray = (pixels.astype(np.uint8) if dtype == np.uint8 else pixels).astype(dtype)
    return result


def test_equalisation_by_hand() -> None:
    image = np.array([[7, 7], [9, 200]], np.uint8)[..., None]
    expected = [[0, 0], [255 * np.sqrt(1 / 2), 255]]
    result = equalize(image)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[..., 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_equalisation_is_that_of_the_paper(dtype: Any) -> None:
    image = example(dtype=dtype)
    np.testing.assert_allclose(equalize(image), counted(image), atol=1e-4)


def test_its_square_is_the_equalisation_of_opencv() -> None:
    image = example(3)
    linear = equalize(image)[..., 0] ** 2 / 255
    np.testing.assert_allclose(linear, cv2.equalizeHist(image[..., 0]), atol=0.501)


@given(arrays(np.uint8, (6, 5, 1), elements=st.integers(0, 255)), st.floats(0.3, 3))
def test_only_the_order_of_the_values_counts(image: Pixels, gamma: float) -> None:
    other = (1000 * (image / 255.0) ** gamma + 3).astype(np.float32)
    levels = np.unique(image)
    if np.unique(other).size == levels.size:  # else float32 has made two levels one
        np.testing.assert_array_equal(equalize(image), equalize(other))


@pytest.mark.parametrize("value", [0, 77, 255])
def test_an_image_of_one_value_becomes_black(value: int) -> None:
    assert not equalize(np.full((4, 5, 1), value, np.uint8)).any()


def test_colour_becomes_luminance_first() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    luminance = np.array(Image.fromarray(colour).convert("L"), dtype=np.uint8)[..., None]
    # Pillow rounds in fixed point, so a few pixels are one step apart.
    assert np.median(np.abs(equalize(colour) - equalize(luminance))) < 1
    grey = np.asarray(example(), dtype=np.uint8)
    np.testing.assert_array_equal(equalize(grey.repeat(3, axis=-1)), equalize(grey))


def framed() -> tuple[Pixels, Pixels]:
    inside = np.asarray(example(5), dtype=np.uint8)
    image = np.zeros((40, 30, 1), np.uint8)
    image[3:27, 8:26] = inside
    image[38:] = 255  # a white strip below the black one
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 10:20] = 1
    return image, mask


def test_blank_borders_are_cut_from_image_and_mask() -> None:
    image, mask = framed()
    cut_image, cut_mask = cut(image, mask, without_blank_borders(image))
    np.testing.assert_array_equal(cut_image, example(5))
    assert cut_mask is not None
    np.testing.assert_array_equal(cut_mask, mask[3:27, 8:26])
    assert without_blank_borders(cut_image) == (0, 0, 24, 18)


def test_a_mask_of_another_size_is_cut_alike() -> None:
    image, mask = framed()
    twice = mask.repeat(2, axis=0).repeat(2, axis=1)
    _, cut_mask = cut(image, twice, without_blank_borders(image))
    assert cut_mask is not None
    np.testing.assert_array_equal(cut_mask[::2, ::2], mask[3:27, 8:26])


def test_blank_images_and_faint_borders() -> None:
    blank = np.full((5, 6, 1), 9, np.uint8)
    assert without_blank_borders(blank) == (0, 0, 5, 6)
    image, _ = framed()
    image[0, ::2] = 3  # compression leaves such traces: 1 % of the range
    assert without_blank_borders(image) == (3, 8, 27, 26)


def module(root: Path, **arguments: Any) -> MontgomeryDataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return MontgomeryDataModule(root=str(root), val_fraction=0.0, **settings)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_images_are_equalised_before_they_are_resized(
    tmp_path: Path, cache: str, num_workers: int
) -> None:
    write(tmp_path, num=4, seed=0, size=(40, 32))
    data = module(tmp_path, cache=cache, num_workers=num_workers)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    for image, index in zip(batch["image"], batch["index"].tolist(), strict=True):
        stored = np.array(Image.open(tmp_path / data.item_path("train", index)))
        plane = Image.fromarray(counted(stored).astype(np.float32))
        expected = np.array(plane.resize((16, 16), Image.Resampling.BILINEAR)) / 127.5 - 1
        for channel in image:
            np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_without_equalisation_the_images_are_as_stored(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(16, 16))
    data = module(tmp_path, equalize=False, in_channels=1)
    data.setup("fit")
    stored = np.array(Image.open(tmp_path / data.item_path("train", 1)))
    expected = torch.from_numpy(stored)[None] / 127.5 - 1
    torch.testing.assert_close(list(data.reference_images())[1], expected)


def test_borders_are_cut_where_asked(tmp_path: Path) -> None:
    write(tmp_path, num=2, seed=0, size=(32, 32))
    for folder, value in (("CXR_png", 0), ("ManualMask/leftMask", 0), ("ManualMask/rightMask", 0)):
        for file in (tmp_path / "MontgomerySet" / folder).iterdir():
            wide = np.pad(np.array(Image.open(file)), ((0, 0), (0, 32)), constant_values=value)
            Image.fromarray(wide).save(file)
    for crop, widest in ((False, 16), (True, 32)):
        data = module(tmp_path, image_size=32, crop_borders=crop)
        data.setup("fit")
        mask = next(iter(data.train_dataloader()))["mask"]
        columns = mask.amax(dim=(0, 1)).nonzero()
        assert widest * 0.6 < columns.max() < widest
        assert "original_box" not in next(iter(data.train_dataloader()))
        data = module(tmp_path, image_size=32, crop_borders=crop, predict_split="all")
        data.setup("predict")
        batch = next(iter(data.predict_dataloader()))
        assert batch["original_size"].tolist() == [[32, 64]] * 2
        assert batch["original_box"][:, 3].tolist() == [32 if crop else 64] * 2
        assert batch["network_box"].tolist() == [[0, 0, 32, 32]] * 2
