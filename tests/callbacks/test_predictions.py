import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image

from callbacks import LastCheckpoint, PredictionWriter
from tests.callbacks.toys import ToyData, ToyDataModule, ToyModule, loader, trainer_in


def predict(root: Path, module: ToyModule | None = None, **kwargs: Any) -> list[dict[str, Any]]:
    """Predicts five items and returns the lines of the newest manifest."""
    writer = PredictionWriter(kwargs.pop("image_format", "png"), kwargs.pop("size", "source"))
    data, ckpt_path = kwargs.pop("data", None), kwargs.pop("ckpt_path", None)
    trainer = trainer_in(root, writer, **kwargs)
    trainer.predict(
        module or ToyModule(),
        None if data else loader(5, 2),
        datamodule=data,
        ckpt_path=ckpt_path,
        return_predictions=False,
    )
    return manifest(max(root.glob("predictions*"), key=lambda path: (len(path.name), path.name)))


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def trained(root: Path, steps: int = 1) -> Path:
    trainer_in(root, LastCheckpoint(), max_steps=steps).fit(ToyModule(), loader())
    return root / "checkpoints" / "last.ckpt"


def test_files_hold_what_was_predicted(tmp_path: Path) -> None:
    lines = predict(tmp_path)
    folder = tmp_path / "predictions"
    listed = [file for line in lines for file in line["files"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*listed, "manifest.jsonl"])
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[3]["files"] == ["000003_image.png", "000003_mask.png", "000003_code.npy"]
    assert lines[3] | {"files": []} == {
        "index": 3,
        "files": [],
        "volumes": [],
        "volume_range": None,
        "classes": 2,
        "mask_values": "0/255",
        "source": None,
        "plane": None,
        "original_size": None,
        "network_size": [8, 8],
        "original_box": None,
        "network_box": None,
        "seen": "unknown",
        "size": "source",
        "image_format": "png",
        "seed": 3,
        "checkpoint": None,
        "checkpoint_sha256": None,
        "step": None,
    }
    item = ToyData(5)[3]
    image = np.asarray(Image.open(folder / "000003_image.png"))
    expected = (item["image"].permute(1, 2, 0).numpy() + 1) * 127.5
    assert image.dtype == np.uint8
    assert np.abs(image - expected).max() <= 0.5
    mask = np.asarray(Image.open(folder / "000003_mask.png"))
    assert np.array_equal(mask == 255, item["mask"].numpy() == 1)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(np.load(folder / "000003_code.npy"), item["image"][0].numpy())


def test_masks_of_several_classes_are_class_ids(tmp_path: Path) -> None:
    class Classes(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            return {"mask": batch["index"][:, None, None].repeat(1, 4, 6), "index": batch["index"]}

    predict(tmp_path, Classes(num_classes=5))
    for k in range(5):
        mask = np.asarray(Image.open(tmp_path / "predictions" / f"00000{k}_mask.png"))
        assert mask.shape == (4, 6)
        assert np.array_equal(np.unique(mask), [k])


def test_exact_and_many_channelled_images_are_arrays(tmp_path: Path) -> None:
    predict(tmp_path, image_format="npy")
    stored = np.load(tmp_path / "predictions" / "000002_image.npy")
    assert np.array_equal(stored, ToyData(5)[2]["image"].numpy())

    class Channels(ToyModule):
        channels = 1

        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            image = batch["image"][:, :1].repeat(1, self.channels, 1, 1)
            return {"image": image, "index": batch["index"]}

    assert predict(tmp_path / "grey", Channels())[0]["files"] == ["000000_image.png"]
    grey = Image.open(tmp_path / "grey" / "predictions" / "000000_image.png")
    assert grey.mode == "L"
    expected = (ToyData(5)[0]["image"][0].numpy() + 1) * 127.5
    assert np.abs(np.asarray(grey) - expected).max() <= 0.5
    five = Channels()
    five.channels = 5
    assert predict(tmp_path / "five", five)[0]["files"] == ["000000_image.npy"]


def test_names_are_those_of_the_source_files(tmp_path: Path) -> None:
    lines = predict(tmp_path, data=ToyDataModule())
    assert [line["files"][1] for line in lines] == [
        "a-000000_mask.png",
        "b_b_mask.png",
        "A-000002_mask.png",
        "c.tar_mask.png",
        "d_mask.png",
    ]
    assert lines[1]["source"] == "images/b b.png"


def test_names_of_any_kind_become_safe_ones(tmp_path: Path) -> None:
    long = "x" * 240
    decomposed = unicodedata.normalize("NFD", "läsion")
    paths = [
        r"i/caf\xe9.png",
        f"i/{decomposed}.png",
        f"i/{long}1.png",
        f"i/{long}2.png",
        "i/a\tb=%.png",
    ]

    class Named(ToyDataModule):
        def item_path(self, split: str, index: int) -> str:
            return paths[index]

    lines = predict(tmp_path, data=Named())
    assert [line["source"] for line in lines] == paths
    names = [line["files"][1] for line in lines]
    assert names[:2] + names[4:] == [
        "caf_xe9_mask.png",
        unicodedata.normalize("NFC", "läsion_mask.png"),
        "a_b___mask.png",
    ]
    assert len(set(names)) == 5
    assert all(len(name.encode()) < 200 for name in names)
    assert all((tmp_path / "predictions" / name).is_file() for name in names)


def test_manifest_names_the_weights(tmp_path: Path) -> None:
    inside, outside = trained(tmp_path), trained(tmp_path / "elsewhere", 2)
    (line, *_) = predict(tmp_path, ckpt_path=inside)
    assert (line["checkpoint"], line["step"]) == ("checkpoints/last.ckpt", 1)
    (line, *_) = predict(tmp_path / "other", ckpt_path=outside)
    assert (line["checkpoint"], line["step"]) == (str(outside), 2)


def test_other_weights_do_not_overwrite(tmp_path: Path) -> None:
    predict(tmp_path, ckpt_path=trained(tmp_path, 1))
    before = {path: path.read_bytes() for path in (tmp_path / "predictions").iterdir()}
    assert predict(tmp_path, ckpt_path=trained(tmp_path, 2))[0]["step"] == 2
    assert predict(tmp_path, ToyModule(seed=4), ckpt_path=trained(tmp_path, 2))[0]["seed"] == 4
    assert {path: path.read_bytes() for path in (tmp_path / "predictions").iterdir()} == before
    assert len(manifest(tmp_path / "predictions-2")) == 5
    assert len(manifest(tmp_path / "predictions-3")) == 5


def test_a_folder_of_unknown_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "notes.txt").write_text("mine")
    predict(tmp_path)
    assert [path.name for path in (tmp_path / "predictions").iterdir()] == ["notes.txt"]
    assert len(manifest(tmp_path / "predictions-2")) == 5


def test_interrupted_run_is_completed(tmp_path: Path) -> None:
    class Breaks(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            if batch_idx == 1:
                raise KeyError("power cut")
            return super().predict_step(batch, batch_idx)

    with pytest.raises(KeyError):
        predict(tmp_path, Breaks())
    folder = tmp_path / "predictions"
    part = folder / "manifest.rank0.jsonl"
    part.write_text(part.read_text() + '{"index": 9, "fil')  # the crash cut a line short
    (folder / "000000_mask.png").unlink()
    (folder / "000001_mask.png").write_bytes(b"kept")
    assert [line["index"] for line in predict(tmp_path)] == [0, 1, 2, 3, 4]
    assert (folder / "000001_mask.png").read_bytes() == b"kept"
    assert Image.open(folder / "000000_mask.png").size == (8, 8)
    assert not list(folder.glob("*rank*"))
    assert not (tmp_path / "predictions-2").exists()


def test_two_processes_write_what_one_writes(tmp_path: Path) -> None:
    predict(tmp_path / "one")
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    predict(tmp_path / "two", devices=2, strategy=strategy)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "predictions").iterdir()}
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("missing", ["index", "image"])
def test_output_without_index_or_values(tmp_path: Path, missing: str) -> None:
    class Lacks(ToyModule):
        def predict_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            return {key: batch[key] for key in ("image", "index") if key != missing}

    with pytest.raises(ValueError, match="predict_step must return"):
        predict(tmp_path, Lacks())


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match=r"predictions\.image_format: 'gif'"):
        PredictionWriter("gif")  # type: ignore[arg-type]
