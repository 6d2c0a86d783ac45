import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import LastCheckpoint, SegmentationMetrics
from callbacks.metrics.bootstrap import Bootstrap
from callbacks.metrics.items import Figures, ItemMetrics, Measured, Stage
from callbacks.pictures import grid_of, lines_of, to_rgb
from callbacks.publishing import Kind
from tests.callbacks.toys import ToyData, ToyModule, Unpadded, loader, pictures, trainer_in


class Brightness(ItemMetrics):
    """The mean and the largest pixel of each image."""

    key = "brightness"
    table = "test_brightness.csv"
    pictures: ClassVar[Mapping[Stage, Kind]] = {
        "test": "test_segmentations",
        "val": "validation_translations",
    }

    def __init__(self, num: int = 4, form: str = "grid", limits: Bootstrap | None = None) -> None:
        super().__init__(num, limits)
        self.form = form

    def measure(
        self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]
    ) -> Measured | None:
        image = batch.get("image")
        if image is None:
            return None

        def draw(wanted: Tensor) -> Tensor:
            tiles = to_rgb(image[wanted])
            return tiles if self.form == "grid" else torch.stack([tiles, 255 - tiles], dim=1)

        flat = image.double().flatten(1)
        rows = torch.stack([flat.mean(1), flat.amax(1)], dim=1)
        finite = image.isfinite().flatten(1).all(1)
        return Measured(rows, finite, None if self.form == "none" else draw)

    def figures(self, rows: np.ndarray) -> Figures:
        columns = {"mean": rows[:, 0], "largest": rows[:, 1]}
        logged = {"mean": rows[:, 0].mean(), "images": len(rows)}
        return Figures(logged, columns, limited={"mean": rows[:, 0]})


class Files(LightningDataModule):
    """Items in a certain order, each with a file."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(ToyData(max(self.order) + 1), 2, sampler=self.order)

    def item_path(self, split: str, index: int) -> str:
        return f"{split}/image, {index}.png"


def means(*items: int) -> list[float]:
    return [ToyData(20)[item]["image"].double().mean().item() for item in items]


def table(root: Path, name: str = Brightness.table) -> list[dict[str, str]]:
    with (root / name).open() as file:
        return list(csv.DictReader(file))


def figures_of(trainer: Trainer) -> dict[str, float]:
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_each_item_counts_once_and_comes_in_order(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, Brightness())
    trainer.test(ToyModule(), datamodule=Files(4, 2, 2, 0, 4), verbose=False)
    assert figures_of(trainer) == {
        "test/images": 3,
        "test/mean": pytest.approx(np.mean(means(0, 2, 4))),
    }
    rows = table(tmp_path)
    assert [row["index"] for row in rows] == ["0", "2", "4"]
    assert [float(row["mean"]) for row in rows] == means(0, 2, 4)
    shown = to_rgb(torch.stack([ToyData(5)[item]["image"] for item in (0, 2)]))
    # Of items 0, 1, 2 and 3 those that were measured.
    expected = grid_of(shown).permute(1, 2, 0)
    assert np.array_equal(pictures(tmp_path)["test-00000000.png"], expected.numpy())


@pytest.mark.parametrize(
    ("kind", "name"), [(Brightness, Brightness.table), (SegmentationMetrics, "test_metrics.csv")]
)
def test_the_table_names_the_file_of_each_item(tmp_path: Path, kind: Any, name: str) -> None:
    trainer_in(tmp_path, kind()).test(ToyModule(), datamodule=Files(1, 0, 2), verbose=False)
    rows = table(tmp_path, name)
    assert list(rows[0])[:2] == ["index", "source"]
    assert [row["source"] for row in rows] == [f"test/image, {k}.png" for k in range(3)]
    # Without a data module that names files the column is empty.
    trainer_in(tmp_path / "b", kind()).test(ToyModule(), loader(3), verbose=False)
    unnamed = table(tmp_path / "b", name)
    assert [row["source"] for row in unnamed] == ["", "", ""]
    assert [{**row, "source": ""} for row in rows] == unnamed


def test_limits_are_of_a_test_alone_and_where_asked_for(tmp_path: Path) -> None:
    limits = Bootstrap(100, 0.9, seed=3)
    trainer = trainer_in(tmp_path, Brightness(limits=limits))
    trainer.test(ToyModule(), loader(6), verbose=False)
    found = figures_of(trainer)
    assert (found["test/mean_lo"], found["test/mean_hi"]) == pytest.approx(
        limits.limits(np.array(means(*range(6))))
    )
    trainer.validate(ToyModule(), loader(6), verbose=False)
    assert set(figures_of(trainer)) == {"val/mean", "val/images", "val/loss"}


@pytest.mark.parametrize("form", ["grid", "lines"])
def test_test_and_validate_draw_items_over_the_whole_set(tmp_path: Path, form: str) -> None:
    fitted = trainer_in(tmp_path, LastCheckpoint(), Brightness(), max_steps=3)
    fitted.fit(ToyModule(), loader(), loader())
    assert not pictures(tmp_path)
    trainer = trainer_in(tmp_path / "new", Brightness(3, form))
    last = tmp_path / "checkpoints/last.ckpt"
    for stage in (trainer.test, trainer.validate):
        stage(ToyModule(), loader(7), ckpt_path=last, verbose=False)
    shown = pictures(tmp_path / "new")
    assert list(shown) == ["test-00000003.png", "validate-00000003.png"]
    tiles = to_rgb(torch.stack([ToyData(7)[item]["image"] for item in (0, 2, 4)]))
    as_lines = lines_of(torch.stack([tiles, 255 - tiles], dim=1))
    expected = (grid_of(tiles) if form == "grid" else as_lines).permute(1, 2, 0).numpy()
    assert all(np.array_equal(picture, expected) for picture in shown.values())


def test_items_are_spread_over_those_that_a_limit_leaves(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, Brightness(2), limit_test_batches=2)
    trainer.test(ToyModule(), loader(8), verbose=False)
    tiles = to_rgb(torch.stack([ToyData(8)[item]["image"] for item in (0, 2)]))
    expected = grid_of(tiles).permute(1, 2, 0).numpy()
    assert np.array_equal(pictures(tmp_path)["test-00000000.png"], expected)


@pytest.mark.parametrize(("num", "form"), [(0, "grid"), (4, "none")])
def test_no_picture_where_there_is_nothing_to_draw(tmp_path: Path, num: int, form: str) -> None:
    trainer_in(tmp_path, Brightness(num, form)).test(ToyModule(), loader(), verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == [Brightness.table]


class Sharded(Files):
    """Makes its own loader of 7 items, 4 and 3 of them a process."""

    def __init__(self) -> None:
        super().__init__(*range(7))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        world, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = Unpadded(ToyData(7), num_replicas=world, rank=rank)
        return DataLoader(ToyData(7), batch_size=2, sampler=sampler)


@pytest.mark.parametrize("form", ["grid", "lines", "none"])
def test_two_processes_write_what_one_writes(tmp_path: Path, form: str) -> None:
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    figures = []
    for processes, extra in ((1, {}), (2, {"strategy": strategy})):
        trainer = trainer_in(
            tmp_path / str(processes),
            Brightness(1, form, Bootstrap(20, 0.9, 0)),  # one process has nothing to draw
            devices=processes,
            use_distributed_sampler=False,
            **extra,
        )
        trainer.test(ToyModule(), datamodule=Sharded(), verbose=False)
        figures.append(figures_of(trainer))
    assert figures[0] == figures[1]
    written = [{path.name for path in (tmp_path / folder).rglob("*")} for folder in "12"]
    assert written[0] == written[1]
    for name in written[0] - {"samples"}:
        one, two = (next((tmp_path / folder).rglob(name)).read_bytes() for folder in "12")
        assert one == two, name


def test_the_number_of_pictures_is_checked() -> None:
    with pytest.raises(ValueError, match="num: -1 given, expected a whole number >=0"):
        Brightness(-1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_what_is_not_finite_is_an_error_and_no_figure(
    stage: str, value: float, tmp_path: Path
) -> None:
    class Broken(ToyData):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            item = super().__getitem__(index)
            return item | {"image": item["image"] * (value if index == 3 else 1)}

    trainer = trainer_in(tmp_path, Brightness())
    with pytest.raises(
        ValueError, match=r"1 of 5 items is NaN or infinite, first of the item .* 3"
    ):
        getattr(trainer, stage)(ToyModule(), DataLoader(Broken(5), 2), verbose=False)
    assert not (tmp_path / Brightness.table).exists()
    assert not list(tmp_path.glob("samples/*"))
