from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.errors import DataError
from data_modules.phantoms.ffhq34 import write
from data_modules.registry import check
from data_modules.sets.ffhq34 import CLASSES, FFHQ34DataModule


def module(root: Path, **arguments: Any) -> FFHQ34DataModule:
    settings: dict[str, Any] = {"image_size": 16, "batch_size": 4, "num_workers": 0} | arguments
    return FFHQ34DataModule(root=str(root), **settings)


def test_class_names() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 34
    assert [CLASSES.index(name) for name in ("background", "pupil", "hair", "wrinkles")] == [
        *(0, 10, 17),
        33,
    ]


def test_the_papers_split_of_twenty_ten_and_ten(tmp_path: Path) -> None:
    write(tmp_path, num=20, seed=0, size=(32, 32))
    tables = []
    for seed in (0, 1):
        data = module(tmp_path, num_train_samples=20, seed=seed)
        data.setup("fit")
        tables.append(data.split_table())
    assert tables[0] == tables[1]
    assert [len(tables[0][split]) for split in ("train", "val", "test")] == [20, 10, 10]
    assert all("/train/" in path for path in tables[0]["train"])
    assert all("/test/" in path for path in tables[0]["val"] + tables[0]["test"])


def test_without_counts_the_official_test_set_is_whole(tmp_path: Path) -> None:
    write(tmp_path, num=20, seed=0, size=(32, 32))
    data = module(tmp_path, val_fraction=0.2)
    data.setup("fit")
    table = data.split_table()
    assert len(table["test"]) == 20
    assert len(table["train"]) + len(table["val"]) == 20


@pytest.mark.parametrize("base", ["ffhq_34", "datasets/ffhq_34"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_class_ids_and_images_are_read_side_by_side(
    tmp_path: Path, base: str, dtype: type[np.generic]
) -> None:
    rng = np.random.default_rng(0)
    ids = {}
    for part in ("train", "test"):
        folder = tmp_path / base / "real" / part
        folder.mkdir(parents=True)
        for k in range(4):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"image_{k}.jpg")
            ids[f"{part}/image_{k}.jpg"] = rng.integers(0, 34, (16, 16)).astype(dtype)
            np.save(folder / f"image_{k}.npy", ids[f"{part}/image_{k}.jpg"])
    assert FFHQ34DataModule.present(tmp_path)
    data = module(tmp_path)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    for index, mask in zip(batch["index"], batch["mask"], strict=True):
        path = data.item_path("test", int(index))
        assert path.startswith(f"{base}/real/test/")
        expected = torch.from_numpy(ids[path.removeprefix(f"{base}/real/")].astype(np.int64))
        assert torch.equal(mask, expected)


def test_all_classes_in_the_batches_of_a_phantom(tmp_path: Path) -> None:
    write(tmp_path, num=20, seed=0, size=(96, 96))
    data = module(tmp_path, image_size=96, val_fraction=0.0)
    data.setup("fit")
    found = torch.cat([batch["mask"].flatten() for batch in data.train_dataloader()]).unique()
    assert found.tolist() == list(range(34))


def test_what_is_wrong_is_listed(tmp_path: Path) -> None:
    write(tmp_path, num=4, seed=0, size=(32, 32))
    train = tmp_path / "ffhq_34/real/train"
    (train / "face_00000.npy").unlink()
    (train / "face_00001.png").unlink()
    np.save(train / "face_00002.npy", np.full((32, 32), 34, np.uint8))
    found = {(p.kind, p.path) for p in check("ffhq34", tmp_path)}
    assert found == {
        ("unpaired", "ffhq_34/real/train/face_00000.png"),
        ("unpaired", "ffhq_34/real/train/face_00001.npy"),
        ("values", "ffhq_34/real/train/face_00002.npy"),
    }


def test_a_missing_layout_is_explained(tmp_path: Path) -> None:
    assert not FFHQ34DataModule.present(tmp_path)
    with pytest.raises(DataError, match="holds nothing") as error:
        module(tmp_path).setup("fit")
    assert "ffhq_34/real/train/" in str(error.value)
    assert "lightning phantom ffhq34" in str(error.value)
