"""From files to files: what a network finds comes back where it lay in the image."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks import PredictionWriter
from data_modules.kinds.chest import without_blank_borders
from data_modules.kinds.mask_dataset import Crop
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from data_modules.sets.ixi import IXIDataModule

SIZES = [(97, 64), (40, 150), (20, 24), (200, 133)]  # height and width
ORIENTATION = 0x0112


class Thresholds(LightningModule):
    """A network that is right: what is bright is class 1, and a slice is its own translation."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        if "source" in batch:
            return {"image": batch["source"], "index": batch["index"]}
        bright = batch["image"].mean(1)
        logits = torch.stack([-bright, bright], dim=1)
        return {"mask": logits.argmax(1), "logits": logits, "index": batch["index"]}


def ellipse(height: int, width: int) -> np.ndarray:
    """Off the middle, so that no flip or turn of it is the same."""
    rows, columns = np.mgrid[:height, :width]
    down, across = (rows + 0.5) / height, (columns + 0.5) / width
    return np.asarray(((down - 0.35) / 0.2) ** 2 + ((across - 0.6) / 0.3) ** 2 < 1)


def pictures(root: Path, border: int = 0) -> list[np.ndarray]:
    """Images of several sizes with one bright thing each, and where it is."""
    (root / "images").mkdir(parents=True)
    truth = []
    for number, (height, width) in enumerate(SIZES):
        inside = ellipse(height, width)
        rng = np.random.default_rng(number)
        grey = np.where(inside, 230, 40) + rng.integers(0, 20, inside.shape)
        # More on one side, so that what is left of it does not lie in the middle.
        around = ((border, 2 * border), (3 * border, 0))
        image = np.pad(grey.astype(np.uint8), around)
        truth.append(np.pad(inside, around))
        exif = Image.Exif()
        exif[ORIENTATION] = 6  # to be turned to the right by a quarter
        Image.fromarray(image).save(root / "images" / f"{number}.png", exif=exif)
    return truth


def predicted(root: Path, data: Any, **kwargs: Any) -> tuple[Path, list[dict[str, Any]]]:
    Trainer(
        default_root_dir=root,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[PredictionWriter(**kwargs)],
    ).predict(Thresholds(), datamodule=data, return_predictions=False)
    folder = root / "predictions"
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return folder, [json.loads(line) for line in lines]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


class Cropped(ImageMaskFolderDataModule):
    def cropping(self) -> Crop | None:
        return without_blank_borders


@pytest.mark.parametrize("orientation", ["stored", "upright"])
@pytest.mark.parametrize("border", [0, 9])
def test_masks_lie_on_what_they_are_of(tmp_path: Path, border: int, orientation: str) -> None:
    """Images of four sizes in one batch; with borders, that are cut before the network sees them.

    A network of 32 pixels cannot tell an edge better than by some pixels of the image.
    """
    truth = pictures(tmp_path / "data", border)
    kind = Cropped if border else ImageMaskFolderDataModule
    data = kind(
        root=str(tmp_path / "data"),
        image_size=32,
        batch_size=4,
        num_workers=0,
        orientation=orientation,
    )
    folder, lines = predicted(tmp_path, data)
    for line, expected, (height, width) in zip(lines, truth, SIZES, strict=True):
        right = np.rot90(expected, -1) if orientation == "upright" else expected
        mask = np.asarray(Image.open(folder / line["files"][0])) == 255
        assert mask.shape == right.shape == tuple(line["original_size"])
        assert overlap(mask, right) > 0.85
        assert overlap(mask[::-1], right) < 0.6
        assert overlap(mask[:, ::-1], right) < 0.6
        assert (tmp_path / "data" / line["source"]).is_file()
        box = [border, 3 * border, border + height, 3 * border + width]
        if orientation == "stored":
            assert line["original_box"] == box


def volume(path: Path, axes: str, shape: tuple[int, int, int]) -> np.ndarray:
    """A brain-like volume stored along these axes; returns it along right, anterior, superior."""
    x, y, z = (np.linspace(-1, 1, n).reshape(np.roll([-1, 1, 1], k)) for k, n in enumerate(shape))
    head = (x**2 + y**2 + z**2 < 1) * (2 + x - 1.5 * y + 0.5 * z)
    spot = 2 * ((x - 0.4) ** 2 + (y + 0.3) ** 2 + (z - 0.1) ** 2 < 0.08)
    upright = ((head + spot) * 100).astype(np.int16)
    image = nibabel.Nifti1Image(upright, np.diag([1.0, 1.5, 2.0, 1.0]))
    image.set_sform(image.affine, 1)
    turn = nibabel.orientations.axcodes2ornt(tuple(axes))
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), turn)
    )
    nibabel.save(turned, path)
    return upright


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR"])
def test_a_translated_volume_lies_on_its_source(tmp_path: Path, axes: str) -> None:
    for name in ("a", "b"):
        volume(tmp_path / "data" / "T1" / f"{name}.nii.gz", "RAS", (44, 30, 12))
        upright = volume(tmp_path / "data" / "PD" / f"{name}.nii.gz", axes, (44, 30, 12))
    data = IXIDataModule(
        root=str(tmp_path / "data"),
        predict_split="all",
        image_size=48,
        num_workers=0,
        slices=(0.4, 0.6),
    )
    folder, lines = predicted(tmp_path, data)
    planes = sorted({line["plane"] for line in lines})
    assert planes == [4, 7]
    assert {line["source"] for line in lines} == {"PD/a.nii.gz", "PD/b.nii.gz"}
    for name in ("a", "b"):
        made: Any = nibabel.load(folder / f"{name}_image.nii.gz")
        source: Any = nibabel.load(tmp_path / "data" / "PD" / f"{name}.nii.gz")
        assert made.shape == source.shape
        np.testing.assert_array_equal(made.affine, source.affine)
        again = nibabel.as_closest_canonical(made).get_fdata()
        low, high = np.percentile(upright, (0.5, 99.5))
        expected = np.clip((upright - low) / (high - low), 0, 1)
        for index in range(12):
            if index not in planes:
                assert not again[..., index].any()
                continue
            own, true = again[..., index], expected[..., index]
            # At the network's resolution: edges are smoother than those of the source.
            assert abs(own - true).mean() < 0.02
            for wrong in (true[::-1], true[:, ::-1]):
                assert abs(own - wrong).mean() > 0.05
    picture = Image.open(folder / lines[0]["files"][0])
    assert picture.size == (44, 30)
