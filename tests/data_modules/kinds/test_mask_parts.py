"""Masks of several files: how they are painted, and what is said of bad ones."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.kinds.mask_dataset import Crop, Preprocess
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.transforms import PixelBox
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Item, Listing, MaskPart, Part
from data_modules.reading.formats import ImageArray


class Toy(ImageMaskDataModule):
    """Images a, b, ... with the parts `skin` (1), then `left` and `right` (2)."""

    short_name: ClassVar[str] = "toy"
    origin: ClassVar[str] = "Nowhere."
    labels: ClassVar[dict[str, int | None]] = {"skin": 1, "left": 2, "right": 2}

    def listing(self, exclusion: Exclusion) -> Listing:
        names = sorted(path.stem for path in self.root.glob("*.png"))
        if not names:
            raise self.wrong_layout("A toy needs images")
        return Listing(Part([self._item(name) for name in names], labelled=True))

    def _item(self, name: str) -> Item:
        parts = [
            MaskPart(f"{part}/{name}.png", label)
            for part, label in self.labels.items()
            if (self.root / part / f"{name}.png").exists()
        ]
        return Item(f"{name}.png", tuple(parts), name)


class SmallMasks(Toy):
    mask_size_free: ClassVar[bool] = True


def save(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images of 4x4 pixels; the parts of the first overlap, the second has one part."""
    rng = np.random.default_rng(0)
    for name in "ab":
        save(tmp_path / f"{name}.png", rng.integers(0, 256, (4, 4, 3)))
    whole = np.full((4, 4), 255)
    left = np.zeros((4, 4))
    left[1:3, :2] = 1  # any value but zero is the part
    right = np.zeros((4, 4))
    right[3, 3] = 255
    save(tmp_path / "skin" / "a.png", whole)
    save(tmp_path / "left" / "a.png", left)
    save(tmp_path / "right" / "a.png", right)
    save(tmp_path / "left" / "b.png", left)
    return tmp_path


def module(root: Path, kind: type[Toy] = Toy, **arguments: Any) -> Toy:
    settings: dict[str, Any] = {"image_size": 4, "num_classes": 3, "val_fraction": 0.0}
    return kind(root=str(root), num_workers=0, **(settings | arguments))


def masks(root: Path, kind: type[Toy] = Toy, **arguments: Any) -> list[list[list[int]]]:
    data = module(root, kind, **arguments)
    data.setup("fit")
    return [item["mask"].tolist() for item in data.labelled_images()]


def error_of(root: Path, kind: type[Toy] = Toy, **arguments: Any) -> str:
    with pytest.raises(DataError) as error:
        module(root, kind, **arguments).setup("fit")
    return str(error.value)


EXPECTED_A = [[1, 1, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1], [1, 1, 1, 2]]
EXPECTED_B = [[0, 0, 0, 0], [2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_later_parts_lie_over_earlier_ones(root: Path, cache: str) -> None:
    assert masks(root, cache=cache) == [EXPECTED_A, EXPECTED_B]


def test_parts_of_a_file_with_ids_are_painted_over_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "labels", {"skin": None, "left": 2})
    save(root / "skin" / "a.png", np.full((4, 4), 1))
    save(root / "skin" / "b.png", np.zeros((4, 4)))
    found = masks(root)
    assert found[0] == [[1, 1, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1], [1, 1, 1, 1]]
    assert found[1] == EXPECTED_B


def test_a_part_must_be_binary(root: Path) -> None:
    save(root / "left" / "b.png", [[0, 128, 255, 3]] * 4)
    message = error_of(root)
    assert "1 problem" in message
    assert "left/b.png: holds grey values (3, 128, 255); expected 0 and one other value" in message


def test_classes_of_parts_need_their_place(root: Path) -> None:
    assert "marks class 2, but data.init_args.num_classes is 2; set it to 3" in error_of(
        root, num_classes=2
    )
    module(root, num_classes=5).setup("fit")  # not every class need occur


def test_one_class_is_two_with_the_background(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "labels", {"left": 1})
    assert "num_classes is 3; set it to 2" in error_of(root, num_classes=3)
    assert masks(root, num_classes=2)[1][1] == [1, 1, 0, 0]


def test_sizes_of_parts(root: Path) -> None:
    save(root / "right" / "a.png", np.zeros((2, 2)))
    message = error_of(root)
    assert "a.png: is 4x4 pixels, but its mask right/a.png is 2x2" in message
    message = error_of(root, SmallMasks)
    assert "skin/a.png: is 4x4 pixels, but another part of the mask, right/a.png is 2x2" in message


def test_masks_may_be_smaller_than_images_where_the_data_set_is_so(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        save(root / f"{name}.png", rng.integers(0, 256, (8, 8, 3)))
    assert "is 8x8 pixels" in error_of(root)
    assert masks(root, SmallMasks) == [EXPECTED_A, EXPECTED_B]


def test_a_missing_part_is_named(root: Path) -> None:
    (root / "left" / "b.png").write_bytes(b"")
    assert "left/b.png: is empty" in error_of(root)


def right_half(image: ImageArray) -> PixelBox:
    return 0, 2, 4, 4


def halve(image: ImageArray) -> ImageArray:
    assert image.shape == (4, 2, 3)  # cut, and not yet resized
    return (image / np.float32(2)).astype(np.float32)


class Cut(Toy):
    def cropping(self) -> Crop | None:
        return right_half

    def preprocessing(self) -> Preprocess | None:
        return halve


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_preprocessing_sees_files_as_they_are(root: Path, cache: str) -> None:
    data = module(root, Cut, cache=cache, image_size=4)
    data.setup("fit")
    for _ in range(2):  # the second time from the cache
        (first, second) = data.labelled_images()
        assert first["mask"].tolist() == [[1] * 4] * 3 + [[1, 1, 2, 2]]
        assert second["mask"].unique().tolist() == [0]
    stored = np.asarray(Image.open(root / "a.png"), np.float32)
    resized = Image.fromarray(stored[:, 2:, 0] / 2).resize((4, 4), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(resized)) / 127.5 - 1
    torch.testing.assert_close(first["image"][0], expected)  # halves are not rounded


def test_a_data_set_with_preprocessing_goes_to_other_processes(root: Path) -> None:
    data = module(root, Cut)
    data.setup("fit")
    dataset = data.train_dataloader().dataset
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert torch.equal(again[0]["image"], dataset[0]["image"])


def test_present_asks_for_folders_alone(root: Path, tmp_path: Path) -> None:
    (root / "left" / "b.png").write_bytes(b"")
    assert Toy.present(root)
    (tmp_path / "other").mkdir()
    assert not Toy.present(tmp_path / "other")
    assert not Toy.present(tmp_path / "gone")
