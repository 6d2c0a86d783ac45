"""A user's own pairs: what is yielded, and what is said of bad input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import CorruptImageError, DataError
from data_modules.kinds.mask_dataset import ImageMaskDataset
from data_modules.listing.items import Item
from data_modules.listing.records import FileRecord, Role
from data_modules.reading.options import Reading
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule

WritePairs = Callable[..., Path]


def module(root: Path, **arguments: Any) -> ImageMaskFolderDataModule:
    settings: dict[str, Any] = {"image_size": 8, "batch_size": 4, "num_workers": 0} | arguments
    return ImageMaskFolderDataModule(root=str(root), **settings)


def error_of(root: Path, stage: str = "fit", **arguments: Any) -> str:
    with pytest.raises(DataError) as error:
        module(root, **arguments).setup(stage)
    message = str(error.value)
    assert len(message.splitlines()) <= 16
    return message


def save_mask(path: Path, values: Any) -> None:
    mask = np.zeros((16, 20), np.uint8)
    mask.flat[: len(values)] = values
    Image.fromarray(mask).save(path)


NAMES = [f"x{k}" for k in range(12)]


def test_batches_are_as_declared(write_pairs: WritePairs) -> None:
    data = module(write_pairs(*NAMES), image_size=16, val_fraction=0.2)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"image", "mask", "index"}
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert -1 <= batch["image"].min() < -0.5
    assert 0.5 < batch["image"].max() <= 1
    assert batch["mask"].dtype == torch.int64
    assert batch["mask"].unique().tolist() == [0, 1]
    assert batch["index"].dtype == torch.int64
    share = float((batch["mask"] == 1).float().mean())
    assert share == pytest.approx(8 * 10 / (16 * 20), abs=0.05)


def test_the_index_leads_back_to_the_file(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    data = module(root, image_size=16, val_fraction=0.0)
    data.setup("fit")
    for batch in data.train_dataloader():
        for image, index in zip(batch["image"], batch["index"].tolist(), strict=True):
            path = data.item_path("train", index)
            assert data.split_table()["train"][index] == path
            file = Image.open(root / path).resize((16, 16), Image.Resampling.BILINEAR)
            expected = torch.from_numpy(np.array(file)).permute(2, 0, 1) / 127.5 - 1
            torch.testing.assert_close(image, expected)


@pytest.mark.parametrize("cache", ["auto", "memory", "none"])
def test_the_cache_changes_nothing(write_pairs: WritePairs, cache: str) -> None:
    root = write_pairs(*NAMES)
    settings: dict[str, Any] = {"val_fraction": 0.0, "augment": ["hflip"], "seed": 3}
    plain, cached = module(root, cache="none", **settings), module(root, cache=cache, **settings)
    plain.setup("fit")
    cached.setup("fit")
    for epoch in range(3):
        loaders = plain.train_dataloader(), cached.train_dataloader()
        for loader in loaders:
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for one, other in zip(*loaders, strict=True):
            for key in one:
                assert torch.equal(one[key], other[key])


def test_a_full_cache_needs_no_files_and_forked_workers_fill_it(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    data = module(root, val_fraction=0.0, cache="memory", num_workers=2, batch_size=3)
    data.setup("fit")
    first: dict[int, torch.Tensor] = {}
    for batch in data.train_dataloader():
        first |= dict(zip(batch["index"].tolist(), batch["image"], strict=True))
    for file in (root / "images").iterdir():
        file.unlink()
    again = list(data.reference_images())  # read in this process, filled by the workers
    assert all(torch.equal(first[i], image) for i, image in enumerate(again))
    assert len(again) == 12


def test_deep_images_are_cached_without_rounding(write_pairs: WritePairs) -> None:
    root = write_pairs("a", "b", "c")
    deep = np.arange(320, dtype=np.uint16).reshape(16, 20)
    Image.fromarray(deep).save(root / "images" / "a.png")
    read = []
    for cache in ("none", "memory"):
        data = module(root, val_fraction=0.0, cache=cache, in_channels=1, image_size=16)
        data.setup("fit")
        dataset = data.train_dataloader().dataset
        assert isinstance(dataset, ImageMaskDataset)
        read += [dataset[0]["image"], dataset[0]["image"]]
    assert all(torch.equal(read[0], other) for other in read)
    assert read[0].unique().numel() > 200


def test_too_little_memory_is_said(
    write_pairs: WritePairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_pairs(*NAMES)

    class Free:
        available = 100

    monkeypatch.setattr("data_modules.kinds.masks.psutil.virtual_memory", Free)
    assert "data.init_args.cache" in error_of(root, cache="memory")
    data = module(root)  # auto
    data.setup("fit")
    assert data.train_dataloader().dataset.cache is None  # type: ignore[attr-defined]


def test_nested_folders_and_patients(write_pairs: WritePairs) -> None:
    root = write_pairs("flat")
    for patient in range(8):
        for k in range(3):
            for folder in ("images", "masks"):
                (root / folder / f"p{patient}").mkdir(exist_ok=True)
                source = root / folder / "flat.png"
                value = np.array(Image.open(source))
                if folder == "images":
                    value[0, 0, 0] = patient * 3 + k
                Image.fromarray(value).save(root / folder / f"p{patient}" / f"{k}.png")
    for folder in ("images", "masks"):
        (root / folder / "flat.png").unlink()
    data = module(root, group_regex=r"^(p\d+)/", val_fraction=0.3, test_fraction=0.3)
    data.setup("fit")
    table = data.split_table()
    patients = [{path.split("/")[1] for path in paths} for paths in table.values()]
    assert all(patients)
    assert sum(map(len, patients)) == 8  # no patient in two splits
    assert sum(map(len, table.values())) == 24


def test_identical_files_stay_in_one_split(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    for name in NAMES[1:8]:
        (root / "images" / f"{name}.png").write_bytes((root / "images" / "x0.png").read_bytes())
    for seed in range(6):
        data = module(root, val_fraction=0.3, split_seed=seed, test_fraction=0.2)
        data.setup("fit")
        copies = {f"images/{name}.png" for name in NAMES[:8]}
        assert sum(bool(copies & set(paths)) for paths in data.split_table().values()) == 1


def test_predicting_needs_no_masks(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    for file in (root / "masks").iterdir():
        file.unlink()
    (root / "masks").rmdir()
    data = module(root)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert [index for b in batches for index in b["index"].tolist()] == list(range(12))
    assert all("mask" not in b for b in batches)
    assert data.item_path("predict", 0) == "images/x0.png"
    for stage in ("fit", "test"):
        message = error_of(root, stage)
        assert "masks/: missing folder: the masks of 12 images" in message


def test_predicting_a_part_and_with_masks(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    fit = module(root, val_fraction=0.3)
    fit.setup("fit")
    predict = module(root, val_fraction=0.3, predict_split="val")
    predict.setup("predict")
    assert predict.split_table() == {"predict": fit.split_table()["val"]}
    assert "mask" in next(iter(predict.predict_dataloader()))


def test_no_validation_where_none_is_wanted(write_pairs: WritePairs) -> None:
    data = module(write_pairs(*NAMES), val_fraction=0.0)
    data.setup("fit")
    assert data.val_dataloader() == []
    assert len(data.split_table()["train"]) == 12


def test_binary_and_multiclass_masks(write_pairs: WritePairs) -> None:
    root = write_pairs("a", "b")
    save_mask(root / "masks" / "a.png", [0, 1, 2, 255])
    save_mask(root / "masks" / "b.png", [0, 2])
    data = module(root, num_classes=3, val_fraction=0.0, image_size=20, batch_size=2)
    data.setup("fit")
    masks = next(iter(data.train_dataloader()))["mask"]
    assert masks.unique().tolist() == [0, 1, 2, 255]  # 255 stays: ignore


# Bad input: each is one error that names file or field and the fix.


def test_missing_root(tmp_path: Path) -> None:
    message = error_of(tmp_path / "nowhere")
    assert "data.init_args.root: there is no folder" in message
    assert "lightning phantom image_mask_folder --root" in message


def test_wrong_layout(write_pairs: WritePairs, tmp_path: Path) -> None:
    root = write_pairs("a")
    message = error_of(root, images="pictures")
    assert "there is no folder pictures/" in message
    assert "holds images, masks" in message
    (tmp_path / "empty" / "images").mkdir(parents=True)
    assert "holds no png" in error_of(tmp_path / "empty")


def test_unpaired_files(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    (root / "images" / "x3.png").unlink()
    (root / "masks" / "x5.png").unlink()
    message = error_of(root)
    assert "2 problems" in message
    assert "masks/x3.png: a mask without an image in images/" in message
    assert "images/x5.png: an image without its mask masks/x5.png" in message
    assert f"lightning check image_mask_folder --root {root}" in message
    assert "exclude_file" in message


def test_many_problems_are_counted(write_pairs: WritePairs) -> None:
    root = write_pairs(*(f"y{k:02d}" for k in range(40)))
    for k in range(5, 40):
        (root / "masks" / f"y{k:02d}.png").unlink()
    message = error_of(root)
    assert "35 problems" in message
    assert "... and 25 more" in message


def test_sizes_that_differ(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    Image.new("L", (10, 16)).save(root / "masks" / "x1.png")
    assert "images/x1.png: is 20x16 pixels, but its mask masks/x1.png is 10x16" in error_of(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 16)).save(root / "images" / "x1.png", exif=exif)
    Image.new("L", (16, 20)).save(root / "masks" / "x1.png")
    message = error_of(root)
    assert "EXIF orientation 6" in message
    assert "data.init_args.orientation to upright" in message
    module(root, orientation="upright").setup("fit")


def test_a_truncated_jpg(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    path = root / "images" / "x2.jpg"
    Image.open(root / "images" / "x2.png").save(path)
    (root / "images" / "x2.png").unlink()
    path.write_bytes(path.read_bytes()[:-200])
    message = error_of(root)
    assert "images/x2.jpg: cannot be decoded" in message
    assert "truncated" in message


def test_grey_masks_and_wrong_numbers_of_classes(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    assert "data.init_args.num_classes is 5; set it to 2" in error_of(root, num_classes=5)
    save_mask(root / "masks" / "x4.png", [0, 90, 128, 255])
    message = error_of(root)
    assert "masks/x4.png: holds grey values (90, 128)" in message
    assert "PNG" in message
    for k, name in enumerate(NAMES):
        save_mask(root / "masks" / f"{name}.png", [0, 1, 2 + (k == 7)])
    message = error_of(root)
    assert "masks/x7.png: holds class 3 (so do 11 other masks)" in message
    assert "data.init_args.num_classes is 2; set it to 4" in message
    module(root, num_classes=4).setup("fit")


def test_two_codings_of_the_foreground(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    save_mask(root / "masks" / "x4.png", [0, 1])
    assert "by 255, but masks/x4.png by class ids" in error_of(root)


def test_nothing_left_for_training(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    message = error_of(root, val_fraction=0.99)
    assert "0 training samples" in message
    assert "12 images in 12 groups" in message
    assert "data.init_args.val_fraction" in message


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"in_channels": 2}, "in_channels: 2 given, expected 1 or 3"),
        ({"num_classes": 1}, "num_classes: 1 given"),
        ({"image_size": 0}, "image_size: 0 given"),
        ({"group_regex": "("}, r"group_regex: '\(' is no regular expression"),
        ({"group_regex": "patient"}, "group_regex: 'patient' finds nothing in 'a'"),
        ({"augment": ["swirl"]}, "augment: 'swirl' given"),
        ({"val_fraction": 2}, "val_fraction: 2 given"),
    ],
)
def test_wrong_arguments_name_the_field(
    write_pairs: WritePairs, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(DataError, match=field):
        module(write_pairs("a"), **arguments).setup("fit")


def test_the_exclusion_file(write_pairs: WritePairs, tmp_path: Path) -> None:
    root = write_pairs(*NAMES)
    (root / "images" / "x2.png").write_bytes(b"junk")
    (root / "masks" / "x3.png").unlink()
    (root / "images" / "x4.png").unlink()
    listed = tmp_path / "exclude.txt"
    listed.write_text("# bad files\nimages/x2.png  # junk\nx3\n\nmasks/x4\n")
    data = module(root, exclude_file=str(listed), val_fraction=0.0)
    data.setup("fit")
    assert len(data.split_table()["train"]) == 9
    listed.write_text("images/x2.png\nx33\n")
    message = error_of(root, exclude_file=str(listed))
    assert "lists x33, which match no file" in message
    assert "exclude_file: " in error_of(root, exclude_file=str(tmp_path / "gone.txt"))


def test_hidden_and_other_files_are_ignored(write_pairs: WritePairs) -> None:
    root = write_pairs(*NAMES)
    (root / "images" / "._x0.png").write_bytes(b"resource fork")
    (root / "images" / "Thumbs.db").write_bytes(b"")
    (root / "images" / "ATTRIBUTION.txt").write_text("")
    module(root).setup("fit")


def test_files_are_read_once_and_again_when_they_change(
    write_pairs: WritePairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_modules.listing import verify

    read: list[str] = []
    original = verify.read_whole

    def counted(path: Path, role: Role, reading: Reading) -> FileRecord:
        read.append(path.name)
        return original(path, role, reading)

    monkeypatch.setattr(verify, "read_whole", counted)
    root = write_pairs(*NAMES)
    module(root).prepare_data()
    assert len(read) == 24
    module(root).setup("fit")
    assert len(read) == 24
    (root / "images" / "x1.png").write_bytes(b"overwritten since")
    assert "images/x1.png" in error_of(root)
    assert read[24:] == ["x1.png"]


def test_an_unwritable_home_does_no_harm(
    write_pairs: WritePairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    module(write_pairs(*NAMES)).setup("fit")


def test_a_file_that_vanishes_in_training_is_named(tmp_path: Path) -> None:
    dataset = ImageMaskDataset(
        tmp_path, [Item("gone.png", (), "g")], image_size=8, in_channels=3, with_masks=False
    )
    with pytest.raises(CorruptImageError, match=r"gone\.png"):
        dataset[0]
    loader = torch.utils.data.DataLoader(dataset, num_workers=1)
    with pytest.raises(CorruptImageError, match=r"gone\.png"):
        next(iter(loader))


def test_evaluation_on_more_processes_than_images(write_pairs: WritePairs) -> None:
    data = module(write_pairs("a", "b", "c"), val_fraction=0.05)
    data.setup("fit")
    data._place = lambda: (4, 0)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="val split has 1 images for 4 processes"):
        data.val_dataloader()
