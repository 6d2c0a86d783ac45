"""Planes of volumes: put together at the end, by any processes, after any interruption."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.placement import Place
from tests.callbacks.test_predictions import manifest, predict
from tests.callbacks.toys import SIZE, ToyData, ToyDataModule, ToyModule, Unpadded

ITEMS = [
    ("t1/a.nii.gz", 4),
    ("t1/a.nii.gz", 7),
    ("t1/a.nii.gz", 9),
    ("t2/a.nii.gz", 4),
    ("t2/a.nii.gz", 5),
    ("c.png", None),
    ("d.nii", None),
]


class Planes(ToyData):
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = super().__getitem__(index)
        return {
            "source": item["image"],
            "index": item["index"],
            "original_size": torch.tensor((6, 12)),
            "original_box": torch.tensor((0, 0, 6, 12)),
            "network_box": torch.tensor((2, 0, 6, SIZE)),
        }


class VolumeData(ToyDataModule):
    """Two volumes of one name, a picture and a single slice; a volume is written as text."""

    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        data = Planes(len(ITEMS))
        trainer: Any = self.trainer
        sampler = Unpadded(data, trainer.world_size, trainer.global_rank)
        return DataLoader(data, batch_size=2, sampler=sampler)

    def item_path(self, split: str, index: int) -> str:
        file, plane = ITEMS[index]
        return file if plane is None else f"{file.split('.')[0]}_slice{plane}.nii"

    def item_source(self, split: str, index: int) -> tuple[str, int | None]:
        return ITEMS[index]

    def is_volume(self, source: str) -> bool:
        return ".nii" in source

    def write_volume(
        self, source: str, planes: Mapping[int | None, np.ndarray], out: BinaryIO
    ) -> None:
        held = {str(k): planes[k].tolist() for k in sorted(planes, key=str)}
        kind = {str(plane.dtype) for plane in planes.values()}
        out.write(json.dumps({"source": source, "dtype": sorted(kind), "planes": held}).encode())


class Translates(ToyModule):
    breaks_at: int | None = None

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if batch_idx == self.breaks_at:
            raise KeyError("power cut")
        return {"image": batch["source"], "index": batch["index"]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_volume_holds_its_planes(tmp_path: Path) -> None:
    lines = predict(tmp_path, Translates(), data=VolumeData())
    folder = tmp_path / "predictions"
    assert [(line["source"], line["plane"]) for line in lines] == ITEMS
    assert [line["volumes"] for line in lines] == [
        *[["a-000000_image.nii.gz"]] * 3,
        *[["a-000001_image.nii.gz"]] * 2,
        [],
        ["d_image.nii.gz"],
    ]
    assert [line["volume_range"] for line in lines] == [[0.0, 1.0]] * 5 + [None, [0.0, 1.0]]
    assert all((folder / file).is_file() for line in lines for file in line["files"])
    first = json.loads((folder / "a-000000_image.nii.gz").read_text())
    assert first["source"] == "t1/a.nii.gz"
    assert first["dtype"] == ["float32"]
    assert list(first["planes"]) == ["4", "7", "9"]
    plane = np.array(first["planes"]["9"])
    place = Place((6, 12), (0, 0, 6, 12), (2, 0, 6, SIZE))
    # The mean of the channels, from 0 to 1.
    grey = (place.image(ToyData(9)[2]["image"]).mean(0).numpy() + 1) / 2
    np.testing.assert_allclose(plane, grey, atol=1e-6)
    assert list(json.loads((folder / "d_image.nii.gz").read_text())["planes"]) == ["None"]
    assert not list(folder.glob(".*"))


def test_a_volume_of_masks_holds_class_ids(tmp_path: Path) -> None:
    class Segments(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            mask = batch["index"][:, None, None].repeat(1, SIZE, SIZE)
            return {"mask": mask, "index": batch["index"]}

    (line, *_) = predict(tmp_path, Segments(num_classes=300), data=VolumeData())
    assert line["volumes"] == ["a-000000_mask.nii.gz"]
    assert line["volume_range"] is None
    held = json.loads((tmp_path / "predictions" / "a-000001_mask.nii.gz").read_text())
    assert held["dtype"] == ["uint16"]
    assert {key: np.unique(plane).tolist() for key, plane in held["planes"].items()} == {
        "4": [3],
        "5": [4],
    }


def test_at_the_size_of_the_network_there_are_no_volumes(tmp_path: Path) -> None:
    lines = predict(tmp_path, Translates(), data=VolumeData(), size="network")
    assert not any(line["volumes"] for line in lines)
    assert lines[0]["plane"] == 4
    assert not list((tmp_path / "predictions").glob("*.nii.gz"))


def test_two_processes_write_the_volumes_of_one(tmp_path: Path) -> None:
    predict(tmp_path / "one", Translates(), data=VolumeData())
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    settings: dict[str, Any] = {"devices": 2, "strategy": strategy}
    predict(tmp_path / "two", Translates(), data=VolumeData(), **settings)
    one, two = (contents(tmp_path / name / "predictions") for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_an_interrupted_run_ends_with_whole_volumes(tmp_path: Path, batch: int) -> None:
    predict(tmp_path / "whole", Translates(), data=VolumeData())
    module = Translates()
    module.breaks_at = batch
    with pytest.raises(KeyError):
        predict(tmp_path / "cut", module, data=VolumeData())
    folder = tmp_path / "cut" / "predictions"
    assert not list(folder.glob("*.nii.gz"))
    (folder / ".planes" / "000001_image.npy").unlink()  # and something was lost
    first = folder / "a_slice4-000000_image.png"
    kept = first.stat().st_mtime_ns
    predict(tmp_path / "cut", Translates(), data=VolumeData())
    assert contents(folder) == contents(tmp_path / "whole" / "predictions")
    assert first.stat().st_mtime_ns == kept
    assert not (tmp_path / "cut" / "predictions-2").exists()


def test_a_volume_that_lacks_planes_is_made_anew(tmp_path: Path) -> None:
    predict(tmp_path / "whole", Translates(), data=VolumeData())
    predict(tmp_path / "part", Translates(), data=VolumeData(), limit_predict_batches=1)
    folder = tmp_path / "part" / "predictions"
    assert list(json.loads((folder / "a-000000_image.nii.gz").read_text())["planes"]) == ["4", "7"]
    predict(tmp_path / "part", Translates(), data=VolumeData())
    assert contents(folder) == contents(tmp_path / "whole" / "predictions")


def test_a_finished_run_makes_nothing_again(tmp_path: Path) -> None:
    predict(tmp_path, Translates(), data=VolumeData())
    folder = tmp_path / "predictions"
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*g*")}
    (folder / "d_image.nii.gz").unlink()
    assert len(predict(tmp_path, Translates(), data=VolumeData())) == len(ITEMS)
    assert (folder / "d_image.nii.gz").is_file()
    again = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*g*")}
    changed = {name for name in times if times[name] != again[name]}
    assert changed == {"d_image.png", "d_image.nii.gz"}
    assert len(manifest(folder)) == len(ITEMS)
