"""What `predictions.size` does to files and manifest."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import PredictionWriter
from callbacks.placement import Place
from tests.callbacks.test_predictions import manifest, predict, trained
from tests.callbacks.toys import SIZE, ToyData, ToyDataModule, ToyModule, trainer_in

PLACES = [
    Place((20, 31), (0, 0, 20, 31), (0, 0, SIZE, SIZE)),
    Place((5, 3), (0, 0, 5, 3), (0, 0, SIZE, SIZE)),
    Place((40, 30), (3, 8, 27, 26), (0, 0, SIZE, SIZE)),
    Place((13, 30), (0, 0, 13, 30), (2, 0, 6, SIZE)),
    Place((SIZE, SIZE), (0, 0, SIZE, SIZE), (0, 0, SIZE, SIZE)),
]


class PlacedData(ToyData):
    """Items of five sizes: stretched, made smaller, cropped, padded, as they are."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        place = PLACES[index]
        return super().__getitem__(index) | {
            "original_size": torch.tensor(place.size),
            "original_box": torch.tensor(place.box),
            "network_box": torch.tensor(place.inner),
        }


class PlacedDataModule(ToyDataModule):
    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(PlacedData(5), batch_size=5)


class Segments(ToyModule):
    def segment(self, image: Tensor) -> Tensor:
        logits = super().segment(image)
        return logits - logits.mean((2, 3), keepdim=True)  # several classes an image

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        logits = self.segment(batch["image"])
        return {"mask": logits.argmax(1), "logits": logits, "index": batch["index"]}


def masks(folder: Path) -> list[np.ndarray]:
    names = ("a-000000", "b_b", "A-000002", "c.tar", "d")
    return [np.asarray(Image.open(folder / f"{name}_mask.png")) for name in names]


@pytest.mark.parametrize("classes", [2, 5])
def test_masks_have_the_size_and_place_of_their_images(tmp_path: Path, classes: int) -> None:
    module = Segments(num_classes=classes)
    lines = predict(tmp_path, module, data=PlacedDataModule())
    logits = module.segment(torch.stack([ToyData(5)[k]["image"] for k in range(5)])).detach()
    for mask, place, own in zip(masks(tmp_path / "predictions"), PLACES, logits, strict=True):
        ids = place.classes(own).numpy()
        assert len(np.unique(ids)) > 1
        np.testing.assert_array_equal(mask, ids * 255 if classes == 2 else ids)
    assert [line["files"] for line in lines][1] == ["b_b_mask.png"]  # no file of logits
    for line, place in zip(lines, PLACES, strict=True):
        assert line["original_size"] == list(place.size)
        assert line["original_box"] == list(place.box)
        assert line["network_box"] == list(place.inner)
        assert line["network_size"] == [SIZE, SIZE]
        assert line["classes"] == classes
        assert line["mask_values"] == ("0/255" if classes == 2 else "ids")


def test_at_the_size_of_the_network_masks_are_as_they_were(tmp_path: Path) -> None:
    module = Segments()
    lines = predict(tmp_path, module, data=PlacedDataModule(), size="network")
    images = torch.stack([ToyData(5)[k]["image"] for k in range(5)])
    expected = module.segment(images).argmax(1).numpy() * 255
    np.testing.assert_array_equal(np.stack(masks(tmp_path / "predictions")), expected)
    assert lines[0]["size"] == "network"
    assert lines[0]["original_size"] == [20, 31]
    # Another size is another result: it goes into a folder of its own.
    predict(tmp_path, module, data=PlacedDataModule())
    assert masks(tmp_path / "predictions-2")[0].shape == (20, 31)


def test_images_and_masks_without_logits_are_put_back_too(tmp_path: Path) -> None:
    predict(tmp_path, data=PlacedDataModule())
    folder = tmp_path / "predictions"
    for index, (mask, place) in enumerate(zip(masks(folder), PLACES, strict=True)):
        ids = place.nearest(ToyData(5)[index]["mask"] % 255).numpy()
        np.testing.assert_array_equal(mask, ids * 255)
    image = np.asarray(Image.open(folder / "A-000002_image.png"))
    assert image.shape == (40, 30, 3)
    assert not image[:3].any()  # black where nothing was seen
    assert image[3:27, 8:26].any(axis=(1, 2)).all()
    assert np.load(folder / "A-000002_code.npy").shape == (SIZE, SIZE)  # what it is, is not known


def test_what_is_made_of_no_image_has_the_networks_size(tmp_path: Path) -> None:
    class Samples(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            shape = (len(batch["index"]), 16, 12)
            return {
                "image": torch.zeros(shape)[:, None],
                "mask": torch.ones(shape, dtype=torch.int64),
                "index": batch["index"],
            }

    class Bare(PlacedDataModule):
        def predict_dataloader(self) -> Any:
            data: Any = [{"index": torch.tensor(index)} for index in range(5)]
            return DataLoader(data, batch_size=2)

    for number, data in enumerate((Bare(), PlacedDataModule())):
        (line, *_) = predict(tmp_path / str(number), Samples(), data=data)
        folder = tmp_path / str(number) / "predictions"
        assert {Image.open(folder / file).size for file in line["files"]} == {(12, 16)}
        assert line["original_size"] == (None if number == 0 else [20, 31])
    assert manifest(tmp_path / "0" / "predictions")[0]["network_size"] == [16, 12]


def test_the_manifest_names_the_weights_by_their_hash(tmp_path: Path) -> None:
    first = trained(tmp_path)
    (line, *_) = predict(tmp_path, ckpt_path=first)
    assert line["checkpoint_sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    # Other weights of the same path and step are others.
    weights = torch.load(first, weights_only=True)
    weights["state_dict"]["net.0.bias"] += 1
    torch.save(weights, first)
    predict(tmp_path, ckpt_path=first)
    (again, *_) = manifest(tmp_path / "predictions-2")
    assert again["checkpoint_sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert (again["checkpoint"], again["step"]) == (line["checkpoint"], line["step"])


def test_the_manifest_says_what_the_weights_had_seen(tmp_path: Path) -> None:
    writer = PredictionWriter()
    writer.seen = {1: "train", 3: "val"}
    trainer_in(tmp_path, writer).predict(
        ToyModule(), datamodule=PlacedDataModule(), return_predictions=False
    )
    seen = [line["seen"] for line in manifest(tmp_path / "predictions")]
    assert seen == [None, "train", None, "val", None]


def test_other_images_of_the_same_numbers_are_not_taken_for_these(tmp_path: Path) -> None:
    class Renamed(PlacedDataModule):
        def item_path(self, split: str, index: int) -> str:
            return f"new/{super().item_path(split, index)}"

    predict(tmp_path, data=PlacedDataModule())
    predict(tmp_path, data=Renamed())
    assert manifest(tmp_path / "predictions")[4]["source"] == "d.nii.gz"
    assert manifest(tmp_path / "predictions-2")[4]["source"] == "new/d.nii.gz"


@pytest.mark.parametrize("size", ["source", "network"])
@pytest.mark.parametrize("key", ["image", "logits"])
def test_what_is_not_finite_is_no_picture(tmp_path: Path, key: str, size: str) -> None:
    class Explodes(Segments):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
            given = super().predict_step(batch, batch_idx) | {"image": batch["image"].clone()}
            given[key][1, 0, 2, 2] = torch.nan
            return given

    with pytest.raises(ValueError, match=rf"item 1 \(images/b b\.png\): the {key} .* NaN"):
        predict(tmp_path, Explodes(), data=PlacedDataModule(), size=size)


def test_a_module_that_predicts_nothing_is_named(tmp_path: Path) -> None:
    class Trains(LightningModule):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    with pytest.raises(ValueError, match="Trains has no predict_step"):
        predict(tmp_path, Trains(), data=PlacedDataModule())  # type: ignore[arg-type]


def test_a_module_that_returns_no_dict_is_told(tmp_path: Path) -> None:
    class Bare(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return batch["image"]

    with pytest.raises(ValueError, match=r"must return a dict .* gave Tensor"):
        predict(tmp_path, Bare())


def test_names_stay_apart_and_short(tmp_path: Path) -> None:
    class Names(PlacedDataModule):
        def item_path(self, split: str, index: int) -> str:
            # Both spellings of an accent; a number that another name ends with; no UTF-8; long.
            names = ["x/a.png", "y/a.png", "a-000001.png", "\udcff.png", "ü" * 140 + ".png"]
            return names[index]

    lines = predict(tmp_path, Segments(), data=Names())
    files = [line["files"][0] for line in lines]
    assert files[:4] == [
        "a-000000_mask.png",
        "a-000001__mask.png",
        "a-000001_mask.png",
        "__mask.png",
    ]
    assert len({file.lower() for file in files}) == 5
    assert len(files[4].encode()) < 200


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match=r"predictions\.size: 'original'"):
        PredictionWriter(size="original")  # type: ignore[arg-type]
