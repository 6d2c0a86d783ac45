"""Phantoms stand for dermoscopy: figures that real images have too, and that a network can use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.phantoms.dermis import write as write_dermis
from data_modules.phantoms.ham10000 import write as write_ham10000
from data_modules.phantoms.image_mask_folder import write as write_folder
from data_modules.phantoms.isic import write
from data_modules.phantoms.painters.lesion import Style, paint
from data_modules.phantoms.ph2 import write as write_ph2

Pairs = list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]


@pytest.fixture(scope="module")
def phantoms() -> Pairs:
    painted = [paint(np.random.default_rng(k), 128, 96) for k in range(60)]
    return [(image.astype(float), mask > 0) for image, mask in painted]


def test_images_and_masks_fit() -> None:
    image, mask = paint(np.random.default_rng(0), 64, 48)
    assert image.shape == (48, 64, 3)
    assert mask.shape == (48, 64)
    assert set(np.unique(mask)) == {0, 255}


def test_lesions_have_the_sizes_and_the_contrast_of_real_ones(phantoms: Pairs) -> None:
    shares = [mask.mean() for _, mask in phantoms]
    assert 0.02 < min(shares) < 0.08
    assert 0.3 < max(shares) < 0.9
    darker = [image[mask].mean() < image[~mask].mean() for image, mask in phantoms]
    assert np.mean(darker) > 0.85  # not all: the black rim of a lens is darker than any lesion


def test_skin_is_skin_coloured_and_pictures_differ(phantoms: Pairs) -> None:
    skin = np.array([np.median(image[~mask], axis=0) for image, mask in phantoms])
    reddish = (skin[:, 0] > skin[:, 1]) & (skin[:, 0] > skin[:, 2])
    assert reddish.mean() > 0.9
    assert skin.std(axis=0).min() > 8


def test_a_threshold_alone_does_not_solve_it_but_colour_helps(phantoms: Pairs) -> None:
    overlaps = []
    for image, mask in phantoms:
        grey = image.mean(axis=-1)
        dark = grey < (grey.min() + np.median(grey)) / 2
        overlaps.append((dark & mask).sum() / (dark | mask).sum())
    assert 0.2 < np.mean(overlaps) < 0.9


def test_the_same_seed_gives_the_same_files_and_num_only_adds(tmp_path: Path) -> None:
    few, again, more = tmp_path / "few", tmp_path / "again", tmp_path / "more"
    for root, num in ((few, 2), (again, 2), (more, 4)):
        write(root, num=num, seed=1, size=(40, 30))
    for file in (f for f in few.rglob("*") if f.is_file()):
        path = file.relative_to(few)
        assert file.read_bytes() == (again / path).read_bytes() == (more / path).read_bytes()
    other = tmp_path / "other"
    write(other, num=2, seed=2, size=(40, 30))
    name = "ISIC2018_Task1-2_Training_Input/ISIC_9000000.jpg"
    assert (other / name).read_bytes() != (few / name).read_bytes()


def test_patients_of_the_folder_phantom(tmp_path: Path) -> None:
    files = write_folder(tmp_path, num=4, seed=0, size=(40, 30))
    names = sorted(f.name for f in files if f.parent.name == "images")
    assert names == ["p0000_0.png", "p0000_1.png", "p0001_0.png", "p0001_1.png"]
    assert Image.open(tmp_path / "images" / names[0]).size == (40, 30)


@pytest.mark.parametrize("writer", [write_ph2, write_dermis, write_ham10000])
def test_the_other_skin_sets_are_repeatable_and_have_pictures_of_their_own(
    tmp_path: Path, writer: Callable[..., list[Path]]
) -> None:
    files = writer(tmp_path / "a", num=4, seed=1, size=(40, 30))
    again = writer(tmp_path / "b", num=6, seed=1, size=(40, 30))
    pictures = {f.relative_to(tmp_path / "a"): f.read_bytes() for f in files if f.suffix != ".csv"}
    for path, content in pictures.items():
        assert (tmp_path / "b" / path).read_bytes() == content
    assert len(set(pictures.values())) == 8
    assert len(again) == len(files) + 4
    isic = write(tmp_path / "isic", num=4, seed=1, size=(40, 30))
    assert not {f.read_bytes() for f in isic} & set(pictures.values())


def test_a_style_sets_sizes_and_what_else_is_in_the_picture() -> None:
    small = Style(smallest=0.1, largest=0.2, hairs=0, ruler=0, rim=0)
    painted = [paint(np.random.default_rng(k), 64, 48, small) for k in range(30)]
    assert max((mask > 0).mean() for _, mask in painted) < 0.2
    rimmed = [paint(np.random.default_rng(k), 64, 48, Style(rim=1.0))[0] for k in range(10)]
    assert np.mean([image[0, 0].mean() < 60 for image in rimmed]) > 0.8
    behind = Style(smallest=0.1, largest=0.2, hairs=0, ruler=0, rim=0, backdrop=1.0)
    for k in range(30):  # cloth changes the picture, but never the lesion
        image, mask = paint(np.random.default_rng(k), 64, 48, behind)
        plain = painted[k][0]
        assert np.array_equal(mask, painted[k][1])
        changed = abs(image.astype(int) - plain.astype(int)).max(axis=-1) > 60
        assert not (changed & (mask > 0)).any()
