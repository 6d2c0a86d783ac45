from typing import Any

import numpy as np
import pytest
import torch

from data_modules.errors import DataError
from data_modules.kinds.augmentation import Augmentation
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


def test_image_and_mask_move_together() -> None:
    mask = RNG.integers(0, 200, (8, 8), dtype=np.uint8)
    image = np.repeat(mask[..., None], 3, axis=-1)
    augment = Augmentation(["hflip", "vflip", "rot90"], seed=0)
    changed = 0
    for index in range(20):
        new_image, new_mask = augment(image, mask, 0, index)
        assert new_mask is not None
        np.testing.assert_array_equal(new_image[..., 0], new_mask)
        changed += not np.array_equal(new_mask, mask)
    assert changed > 10


def test_both_flips_are_drawn_apart() -> None:
    corners = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    augment = Augmentation(["hflip", "vflip"], seed=0)
    seen = [int(augment(corners, None, 0, index)[0][0, 0, 0]) for index in range(400)]
    for corner in range(4):  # neither, horizontal, vertical, both: a quarter each
        assert 60 < seen.count(corner) < 140


def test_the_draw_depends_on_seed_epoch_and_index_alone() -> None:
    image = RNG.integers(0, 256, (4, 4, 1), dtype=np.uint8)

    def draws(seed: int, epoch: int) -> bytes:
        augment = Augmentation(["hflip", "vflip"], seed=seed)
        return b"".join(augment(image, None, epoch, i)[0].tobytes() for i in range(30))

    assert draws(0, 0) == draws(0, 0)
    assert len({draws(0, 0), draws(0, 1), draws(1, 0)}) == 3
    augment = Augmentation(["hflip", "vflip"], seed=0)
    backwards = [augment(image, None, 0, i)[0].tobytes() for i in reversed(range(30))]
    assert b"".join(reversed(backwards)) == draws(0, 0)


def test_an_unknown_augmentation_names_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"augment: 'flip'.*hflip, vflip, rot90, crop"):
        Augmentation(["flip"], 0)


def test_a_crop_takes_up_to_a_twentieth_of_each_side() -> None:
    ramp = np.tile(np.arange(200, dtype=np.float32), (200, 1))
    image = np.stack([ramp, ramp.T], axis=-1)
    augment = Augmentation(["crop"], seed=0)
    ends = []
    for index in range(200):
        changed = augment(image, None, 0, index)[0]
        assert changed.shape == image.shape
        columns, rows = changed[100, :, 0], changed[:, 100, 1]
        ends.append([columns[0], 199 - columns[-1], rows[0], 199 - rows[-1]])
    cut = np.array(ends)
    assert cut.min() >= 0
    assert 9 < cut.max() <= 10.5
    assert np.allclose(cut.mean(axis=0), 5, atol=0.8)  # uniform in 0..10 of 200
    assert abs(np.corrcoef(cut.T) - np.eye(4)).max() < 0.25  # each side on its own


def test_a_crop_moves_image_and_mask_together_and_makes_up_no_class() -> None:
    mask = np.repeat(np.repeat(RNG.choice(np.array([0, 3, 255], np.uint8), (4, 4)), 16, 0), 16, 1)
    image = np.repeat(mask[..., None], 3, axis=-1)
    augment = Augmentation(["hflip", "crop"], seed=0)
    for index in range(20):
        new_image, new_mask = augment(image, mask, 0, index)
        assert new_mask is not None
        assert new_image.dtype == np.uint8
        assert set(np.unique(new_mask)) <= {0, 3, 255}
        near = abs(new_image[..., 0].astype(int) - new_mask) < 2
        assert near.mean() > 0.85  # but for the seams, which the image blends


def test_a_crop_leaves_the_other_draws_alone() -> None:
    image = RNG.integers(0, 256, (40, 40, 1), dtype=np.uint8)
    flips, both = Augmentation(["hflip"], seed=0), Augmentation(["hflip", "crop"], seed=0)
    for index in range(20):
        flipped, cropped = flips(image, None, 1, index)[0], both(image, None, 1, index)[0]
        like = [np.corrcoef(cropped.ravel(), x.ravel())[0, 1] for x in (flipped, flipped[:, ::-1])]
        assert like[0] > like[1]
        np.testing.assert_array_equal(cropped, both(image, None, 1, index)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_blur_is_drawn_for_half_of_the_images_and_keeps_their_sum(dtype: Any) -> None:
    image = np.zeros((128, 128, 1), dtype)
    image[64, 64] = 250
    mask = RNG.integers(0, 3, (128, 128), dtype=np.uint8)
    augment = Augmentation(["blur"], seed=0)
    spreads = []
    for index in range(300):
        changed, same = augment(image, mask, 0, index)
        np.testing.assert_array_equal(same, mask)
        assert changed.shape == image.shape
        assert changed.dtype == dtype
        if not np.array_equal(changed, image):
            share = changed[..., 0].astype(np.float64)
            spreads.append((share * (np.arange(128) - 64) ** 2).sum() / share.sum())
            assert dtype is np.uint8 or abs(share.sum() - 250) < 0.1
    assert 110 < len(spreads) < 170
    if dtype is np.float32:
        sigma = np.sqrt(spreads)  # uniform in 0 to 2 pixels; the smallest change nothing
        assert sigma.max() < 2.05
        assert abs(sigma.mean() - 1) < 0.15


def test_a_blur_grows_with_the_image() -> None:
    widths = []
    for size in (64, 256):
        image = np.zeros((size, size, 1), np.float32)
        image[size // 2, size // 2] = 255
        blurred = [Augmentation(["blur"], seed=1)(image, None, 0, k)[0] for k in range(40)]
        places = (np.arange(size) - size // 2) ** 2
        widths.append([np.sqrt((b[..., 0] * places).sum() / b.sum()) for b in blurred])
    small, large = np.array(widths)
    clear = small > 0.6  # below that a pixel is too coarse to tell
    np.testing.assert_allclose(large[clear], 4 * small[clear], rtol=0.05)


def test_a_blur_leaves_the_other_draws_alone() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))[..., None]
    flips, both = Augmentation(["hflip"], seed=0), Augmentation(["hflip", "blur"], seed=0)
    for index in range(20):
        flipped, blurred = flips(ramp, None, 1, index)[0], both(ramp, None, 1, index)[0]
        np.testing.assert_allclose(blurred, flipped, atol=2)
