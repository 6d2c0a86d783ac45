import numpy as np
import torch

from data_modules.kinds.transforms import resize_image, resize_mask, to_channels, to_tensor

RNG = np.random.default_rng(0)


def test_channels() -> None:
    grey = RNG.integers(0, 256, (3, 4, 1), dtype=np.uint8)
    three = to_channels(grey, 3)
    assert three.shape == (3, 4, 3)
    assert (three == grey).all()
    np.testing.assert_array_equal(to_channels(three, 1), grey)
    green = np.zeros((1, 1, 3), np.uint8)
    green[..., 1] = 200
    assert to_channels(green, 1).tolist() == [[[117]]]  # 0.587 * 200
    assert to_channels(green, 3) is green


def test_resizing_averages_all_pixels_and_not_every_other() -> None:
    checkers = np.indices((64, 64)).sum(axis=0).astype(np.uint8) % 2 * 255
    small = resize_image(checkers[..., None], 8)
    assert abs(small.astype(int) - 127).max() < 20  # without antialiasing: 0 or 255


def test_deep_images_keep_their_precision() -> None:
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16, 1)  # all within the first 8-bit step
    resized = resize_image(deep, 16)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, deep * (255 / 65535), rtol=1e-6)
    tensor = to_tensor(resized)
    assert tensor.unique().numel() == 256
    assert to_tensor(np.full((2, 2, 1), 255, np.float32)).max() == 1


def test_eight_bits_are_mapped_by_the_formula() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = torch.arange(256).reshape(1, 16, 16) / 127.5 - 1
    torch.testing.assert_close(to_tensor(image), expected)


def test_to_tensor_leaves_its_input_alone() -> None:
    image = np.full((2, 2, 1), 255, np.float32)
    to_tensor(image)
    assert (image == 255).all()


def test_masks_get_no_new_values() -> None:
    mask = RNG.choice(np.array([0, 1, 7, 255], np.uint8), (37, 53))
    assert set(np.unique(resize_mask(mask, 16))) <= {0, 1, 7, 255}
