"""A run that goes on with other processes and batches sees the same images in each step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn

from data_modules.kinds.sampler import ResumableSampler
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule
from lightning_app.errors import UsageError
from lightning_app.total_batch import (
    KEY,
    KeepTotalBatch,
    TotalBatch,
    processes_of,
    recorded_processes,
)

IMAGES = 14  # 13 are for training: 3 steps of 4 images an epoch


class Watch(LightningModule):
    """Notes the images of each optimiser step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.steps: dict[int, list[int]] = {}

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        self.steps.setdefault(self.global_step, []).extend(batch["index"].tolist())
        return self.layer(torch.ones(1, 1)).sum()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAtEnd(Callback):
    """Saves the last step before Lightning closes the epoch, as `LastCheckpoint` does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(self.path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for number in range(IMAGES):
            grey = np.full((8, 8), 255 * (number % 2), np.uint8)
            grey[0, 0] = number
            pixels = np.stack([grey] * 3, -1) if folder == "images" else (grey > 99) * np.uint8(255)
            Image.fromarray(pixels).save(root / folder / f"x{number}.png")
    return root


def fit(
    root: Path,
    size: int,
    accumulated: int,
    *,
    start: Path | None = None,
    save: tuple[Path, int] | None = None,
    resumed: bool = True,
    before: TotalBatch | None = None,
    drop_last: bool = True,
) -> dict[int, list[int]]:
    """Fits for 9 steps, or to the one that is saved; returns the images of each, in order."""
    data = ImageMaskFolderDataModule(
        root=str(root), image_size=8, batch_size=size, num_workers=0, drop_last=drop_last
    )
    module = Watch()
    trainer = Trainer(
        max_steps=9 if save is None else save[1],
        accumulate_grad_batches=accumulated,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[KeepTotalBatch(before, resumed), *([SaveAtEnd(save[0])] if save else [])],
    )
    trainer.fit(module, data, ckpt_path=start, weights_only=True)
    return {step: sorted(seen) for step, seen in module.steps.items()}


def edit(path: Path, **changes: Any) -> None:
    torch.save(torch.load(path, weights_only=True) | changes, path)


@pytest.mark.parametrize("stop", [2, 3, 7])
@pytest.mark.parametrize(("then", "now"), [((1, 4), (4, 1)), ((4, 1), (2, 2)), ((2, 2), (1, 4))])
def test_each_step_has_the_same_images(
    root: Path, tmp_path: Path, stop: int, then: tuple[int, int], now: tuple[int, int]
) -> None:
    file = tmp_path / "stop.ckpt"
    whole = fit(root, 4, 1)
    assert [len(images) for images in whole.values()] == [4] * 9
    begun = fit(root, *then, save=(file, stop))
    assert begun | fit(root, *now, start=file) == whole


def test_a_run_of_two_processes_goes_on_on_one(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "stop.ckpt"
    whole = fit(root, 4, 1, save=(file, 5))
    # The counters of two processes with half as much each are the same.
    edit(file, **{KEY: {"size": 2, "processes": 2, "accumulated": 1}})
    with caplog.at_level("INFO"):
        rest = fit(root, 2, 2, start=file)
    assert whole | rest == fit(root, 4, 1)
    assert "4 images a step (1 process x batch 2 x 2 accumulated) now" in caplog.text
    assert "not bit for bit" in caplog.text


def test_a_checkpoint_of_an_earlier_version_counts_as_its_run_did(
    root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "stop.ckpt"
    whole = fit(root, 4, 1, save=(file, 5))
    content = torch.load(file, weights_only=True)
    del content[KEY]
    torch.save(content, file)
    assert whole | fit(root, 2, 2, start=file, before=TotalBatch(2, 2, 1)) == fit(root, 4, 1)


def test_other_images_a_step_are_refused_to_the_run_itself(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "stop.ckpt"
    fit(root, 2, 1, save=(file, 5))
    edit(file, **{KEY: {"size": 2, "processes": 3, "accumulated": 1}})
    with pytest.raises(UsageError) as error:
        fit(root, 2, 1, start=file)
    assert str(error.value).splitlines()[1] == (
        "Give --trainer.accumulate_grad_batches 3, or --data.init_args.batch_size 6, or as many "
        "processes as before (3)"
    )
    assert list(fit(root, 2, 1, start=file, resumed=False)) == [5, 6, 7, 8]


def test_an_epoch_that_ended_with_part_of_a_step_has_ended(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "stop.ckpt"
    # 13 images in batches of 2, two a step: the fourth step has one image.
    begun = fit(root, 2, 2, save=(file, 4), drop_last=False)
    assert len(begun[3]) == 1
    rest = fit(root, 4, 1, start=file, drop_last=False)
    assert sorted(image for step in (4, 5, 6, 7) for image in rest[step]) == list(range(13))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_first_images_of_an_epoch_are_the_same_on_any_number_of_processes(world: int) -> None:
    size, steps = 12 // world, 2

    def seen(rank: int) -> set[int]:
        numbers: Any = range(50)
        sampler = ResumableSampler(numbers, num_replicas=world, rank=rank, seed=3, multiple=size)
        return {index for index, _ in list(sampler)[: steps * size]}

    order: Any = range(50)
    alone = list(ResumableSampler(order, seed=3, multiple=12))[: steps * 12]
    assert set().union(*(seen(rank) for rank in range(world))) == {index for index, _ in alone}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"accelerator": "cpu", "devices": 1}, 1),
        ({"accelerator": "cpu", "devices": 3, "num_nodes": 2}, 6),
        ({"accelerator": "cpu", "devices": "auto"}, 1),
        ({"accelerator": "cpu", "devices": "2", "num_nodes": None}, 2),
        ({"accelerator": "none such", "devices": 1}, None),
        ({"accelerator": "cpu", "devices": 0}, None),
    ],
)
def test_how_many_processes_are_asked_for(asked: dict[str, Any], expected: int | None) -> None:
    assert processes_of(asked) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"resolved": {"trainer": {"devices": 2, "num_nodes": 3}}}, 6),
        ({"resolved": {"trainer": {"devices": "auto", "num_nodes": 1}}}, None),
        ({"resolved": {"trainer": 7}}, None),
        ({"resolved": None}, None),
        ({}, None),
    ],
)
def test_how_many_processes_a_run_had(record: dict[str, Any], expected: int | None) -> None:
    assert recorded_processes(record) == expected
