"""One of the two folders lies in the other: no mask is taken for an image, no image for a mask."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule


@pytest.mark.parametrize("stage", ["fit", "predict"])
@pytest.mark.parametrize(
    ("images", "masks"),
    [(".", "masks"), ("images", "."), ("a", "a/b/masks"), ("a/images", "a"), ("a", "ab")],
)
def test_a_folder_in_the_other(images: str, masks: str, stage: str, tmp_path: Path) -> None:
    for folder in (images, masks):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for k in range(4):
        grey = np.full((8, 8), 20 + 40 * k, np.uint8)
        mask = np.zeros((8, 8), np.uint8)
        mask[:, 4:] = 255
        Image.fromarray(grey).save(tmp_path / images / f"c{k}.png")
        Image.fromarray(mask).save(tmp_path / masks / f"c{k}_m.png")
    data = ImageMaskFolderDataModule(
        root=str(tmp_path),
        images=images,
        masks=masks,
        mask_suffix="_m",
        image_size=8,
        num_workers=0,
        val_fraction=0.0,
        predict_split="all",
    )
    data.setup(stage)
    found = data.split_table()["predict" if stage == "predict" else "train"]
    expected = [Path(images, f"c{k}.png").as_posix() for k in range(4)]
    assert sorted(found) == expected
