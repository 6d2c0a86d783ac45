import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.errors import DataError
from data_modules.kinds.augmentation import Augmentation

PACKAGE = Path(__file__).parents[3] / "data_modules"
RNG = np.random.default_rng(0)


def importers(library: str) -> set[str]:
    """The files that import a library, inside functions too."""
    line = re.compile(rf"^\s*(?:import|from) {library}\b", re.MULTILINE)
    files = [file for file in PACKAGE.rglob("*.py") if line.search(file.read_text("utf-8"))]
    return {file.relative_to(PACKAGE).as_posix() for file in files}


def test_one_file_alone_needs_the_library_of_augmentations() -> None:
    assert importers("albumentations") == {"kinds/augmentation.py"}
    # pictures reads 16-bit colour with it, which Pillow cuts down.
    assert importers("cv2") == {"kinds/augmentation.py", "reading/pictures.py"}


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
