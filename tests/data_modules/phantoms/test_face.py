"""Phantoms stand for portraits: every part of a face is there and where faces have it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_modules.phantoms import celebamask_hq, ffhq34
from data_modules.phantoms.celebamask_hq import part_of
from data_modules.phantoms.painters.face import paint
from data_modules.phantoms.painters.face_canvas import Face
from data_modules.sets.celebamask_hq import PARTS
from data_modules.sets.ffhq34 import CLASSES


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return [paint(np.random.default_rng(k), 96, 96) for k in range(20)]


def centre(cover: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Row and column."""
    return np.asarray(np.argwhere(cover).mean(axis=0))


def test_maps_fit_the_image() -> None:
    face = paint(np.random.default_rng(0), 64, 48)
    assert face.image.shape == (48, 64, 3)
    assert face.owner.shape == face.skin.shape == face.glasses.shape == (48, 64)


def test_all_parts_occur_and_those_that_can_be_hidden_are_missing_somewhere(
    faces: list[Face],
) -> None:
    counts = {part: sum(part_of(face, part).any() for face in faces) for part in PARTS}
    assert min(counts.values()) > 0
    assert all(counts[part] == len(faces) for part in ("skin", "nose", "hair", "neck", "u_lip"))
    for part in ("hat", "eye_g", "ear_r", "neck_l", "mouth", "l_ear", "r_ear"):
        assert counts[part] < len(faces)


def test_parts_are_where_faces_have_them(faces: list[Face]) -> None:
    for face in faces:
        at = {part: centre(part_of(face, part)) for part in PARTS if part_of(face, part).any()}
        assert at["l_eye"][1] < at["nose"][1] < at["r_eye"][1]  # l is left in the picture
        assert at["l_brow"][0] < at["l_eye"][0] < at["nose"][0] < at["u_lip"][0] < at["l_lip"][0]
        assert at["l_lip"][0] < at["neck"][0]
        inside = [face.skin[tuple(at[part].astype(int))] for part in ("nose", "l_eye", "r_eye")]
        assert all(inside)


def test_skin_lies_below_the_features(faces: list[Face]) -> None:
    for face in faces:
        for part in ("nose", "u_lip", "l_brow"):
            assert face.skin[part_of(face, part)].mean() > 0.9


def test_pictures_show_their_parts(faces: list[Face]) -> None:
    for face in faces:
        image = face.image.astype(float)
        white = image[face.shows("l_sclera", "r_sclera")]
        dark = image[face.shows("l_pupil", "r_pupil")]
        assert white.mean() > dark.mean() + 40
    tones = np.array([np.median(face.image[face.shows("cheek")], axis=0) for face in faces])
    assert tones.std(axis=0).min() > 15
    assert (tones[:, 0] > tones[:, 2]).mean() > 0.9


def test_all_classes_of_ffhq34_occur_in_twenty_faces() -> None:
    painted = [paint(np.random.default_rng(k), 96, 96, accessories=False) for k in range(20)]
    found = np.unique([ffhq34.class_ids(face) for face in painted])
    assert found.tolist() == list(range(len(CLASSES)))
    assert not any(face.shows("hat", "glasses", "earring", "necklace").any() for face in painted)


@pytest.mark.parametrize("write", [celebamask_hq.write, ffhq34.write])
def test_the_same_seed_gives_the_same_files_and_num_only_adds(
    write: Callable[..., list[Path]], tmp_path: Path
) -> None:
    few, again, more, other = (tmp_path / name for name in ("few", "again", "more", "other"))
    files = write(few, num=2, seed=1, size=(32, 32))
    assert sorted(files) == sorted(path for path in few.rglob("*") if path.is_file())
    for root, num, seed in ((again, 2, 1), (more, 5, 1), (other, 2, 2)):
        write(root, num=num, seed=seed, size=(32, 32))
    pictures = [file for file in files if file.suffix != ".txt"]  # a table lists all images
    for file in pictures:
        path = file.relative_to(few)
        assert file.read_bytes() == (again / path).read_bytes() == (more / path).read_bytes()
    image = pictures[0].relative_to(few)
    assert pictures[0].read_bytes() != (other / image).read_bytes()


def test_layouts_are_the_official_ones(tmp_path: Path) -> None:
    celebamask_hq.write(tmp_path, num=1, seed=0, size=(32, 32))
    assert (tmp_path / "CelebAMask-HQ/CelebA-HQ-img/0.jpg").is_file()
    skin = Image.open(tmp_path / "CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/00000_skin.png")
    assert skin.size == (16, 16)  # 512 pixels for images of 1024
    assert set(np.unique(np.asarray(skin))) == {0, 255}
    ffhq34.write(tmp_path, num=1, seed=0, size=(32, 32))
    for folder in ("train", "test"):
        ids = np.load(tmp_path / "ffhq_34/real" / folder / "face_00000.npy")
        assert ids.shape == (32, 32)
        assert (tmp_path / "ffhq_34/real" / folder / "face_00000.png").is_file()


def test_no_face_is_in_both_phantoms(tmp_path: Path) -> None:
    files = celebamask_hq.write(tmp_path, num=8, seed=0, size=(32, 32))
    faces = [np.asarray(Image.open(f), float) for f in files if f.suffix == ".jpg"]
    for file in ffhq34.write(tmp_path, num=4, seed=0, size=(32, 32))[::2]:
        image = np.asarray(Image.open(file), float)
        assert min(np.abs(image - face).mean() for face in faces) > 10
