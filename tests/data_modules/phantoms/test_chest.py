"""Phantoms stand for chest films: figures that real ones have too, and that a network can use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from data_modules.kinds.chest import equalize
from data_modules.phantoms import montgomery, nih, shenzhen
from data_modules.phantoms.painters.chest import paint

Painted = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]


@pytest.fixture(scope="module")
def phantoms() -> Painted:
    painted = [paint(np.random.default_rng(k), 96, 96) for k in range(30)]
    return [(image.astype(float), left > 0, right > 0) for image, left, right in painted]


def test_images_and_masks_fit() -> None:
    for picture in paint(np.random.default_rng(0), 64, 48):
        assert picture.shape == (48, 64)
        assert picture.dtype == np.uint8
    _, left, right = paint(np.random.default_rng(0), 64, 48)
    assert set(np.unique(left)) == set(np.unique(right)) == {0, 255}


def test_lungs_have_the_place_and_the_size_of_real_ones(phantoms: Painted) -> None:
    shares = [(left | right).mean() for _, left, right in phantoms]
    # Real Shenzhen: 8 to 43 %, the median 25 %.
    assert min(shares) > 0.08
    assert 0.2 < np.median(shares) < 0.3
    assert max(shares) < 0.45
    for _, left, right in phantoms:
        assert left.nonzero()[1].mean() > right.nonzero()[1].mean() + 96 / 5
        assert not (left & right).any()


def test_lungs_are_darker_than_tissue_also_once_equalised(phantoms: Painted) -> None:
    for image, left, right in phantoms:
        lung = left | right
        flat = equalize(image.astype(np.uint8)[..., None])[..., 0]
        for picture in (image, flat):
            assert np.median(picture[lung]) < np.median(picture[~lung])


def test_a_threshold_alone_does_not_solve_it(phantoms: Painted) -> None:
    best = []
    for image, left, right in phantoms:
        lung = left | right
        overlaps = [
            ((image < t) & lung).sum() / ((image < t) | lung).sum() for t in range(10, 250, 10)
        ]
        best.append(max(overlaps))
    assert 0.25 < np.mean(best) < 0.85


def test_pictures_differ(phantoms: Painted) -> None:
    images = np.stack([image for image, _, _ in phantoms])
    assert images.std(axis=0).mean() > 15


@pytest.mark.parametrize("write", [shenzhen.write, montgomery.write, nih.write])
def test_the_same_seed_gives_the_same_files_and_num_only_adds(
    write: Callable[..., list[Path]], tmp_path: Path
) -> None:
    few, again, more, other = (tmp_path / name for name in ("few", "again", "more", "other"))
    for root, num, seed in ((few, 2, 1), (again, 2, 1), (more, 16, 1), (other, 2, 2)):
        files = write(root, num=num, seed=seed, size=(24, 24))
        assert sorted(files) == sorted(f for f in root.rglob("*") if f.is_file())
    paths = [file.relative_to(few) for file in few.rglob("*") if file.is_file()]
    for path in paths:
        data = (few / path).read_bytes()
        assert data == (again / path).read_bytes() == (more / path).read_bytes()
    assert any((few / path).read_bytes() != (other / path).read_bytes() for path in paths)
