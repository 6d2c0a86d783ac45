import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from callbacks import BestCheckpoint, EMACallback, LastCheckpoint, SampleGrid, SegmentationMetrics
from callbacks.ema import ema_weights
from callbacks.metrics.bootstrap import Bootstrap
from callbacks.pictures import TRUTH, draw_outlines, grid_of, to_rgb
from tests.callbacks.metrics.test_overlap import by_sets, pooled_by_sets
from tests.callbacks.toys import (
    ToyData,
    ToyModule,
    Unpadded,
    assert_same,
    loader,
    pictures,
    read,
    trainer_in,
    weights_of,
)


def test_validation_logs_what_the_best_checkpoint_monitors(tmp_path: Path) -> None:
    best = BestCheckpoint("val/jaccard", mode="max")
    trainer = trainer_in(tmp_path, SegmentationMetrics(), best, max_steps=4)
    module = ToyModule()
    trainer.fit(module, loader(), loader(6))
    expected = []
    for item in map(ToyData(6).__getitem__, range(6)):
        predicted = module.segment(item["image"][None]).argmax(1)[0].numpy()
        expected.append(by_sets(predicted, item["mask"].numpy(), 1)[:2])
    dice, jaccard = np.mean(expected, axis=0)
    assert trainer.callback_metrics["val/dice"].item() == pytest.approx(dice)
    assert trainer.callback_metrics["val/jaccard"].item() == pytest.approx(jaccard)
    state = read(tmp_path / "checkpoints/best.ckpt")["callbacks"]["BestCheckpoint"]
    assert state["best_model_score"].item() == pytest.approx(jaccard)
    assert not any("class" in name for name in trainer.callback_metrics)


def test_each_class_is_logged_where_there_are_several(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    module = ToyModule(num_classes=3)
    trainer.validate(module, DataLoader(ToyData(4, num_classes=3), 2), verbose=False)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    per_class = []
    for k in (1, 2):
        found = [
            by_sets(
                module.segment(item["image"][None]).argmax(1)[0].numpy(), item["mask"].numpy(), k
            )
            for item in map(ToyData(4, num_classes=3).__getitem__, range(4))
        ]
        per_class.append(np.mean([jaccard for _, jaccard, there in found if there]))
        assert figures[f"val/jaccard_class{k}"] == pytest.approx(per_class[-1])
    assert figures["val/jaccard"] == pytest.approx(np.mean(per_class))
    items = [ToyData(4, num_classes=3)[index] for index in range(4)]
    predicted = module.segment(torch.stack([item["image"] for item in items])).argmax(1)
    true = torch.stack([item["mask"] for item in items])
    ious = pooled_by_sets(predicted.numpy(), true.numpy(), 3)
    assert [figures[f"val/iou_class{k}"] for k in range(3)] == pytest.approx(ious)
    assert figures["val/miou"] == pytest.approx(np.mean(ious))


def test_test_writes_a_table_and_limits(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    trainer.test(ToyModule(), loader(5), verbose=False)
    with (tmp_path / "test_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "source", "dice", "jaccard"]
    assert [row["index"] for row in rows] == ["0", "1", "2", "3", "4"]
    figures = trainer.callback_metrics
    for name in ("dice", "jaccard"):
        values = np.array([float(row[name]) for row in rows])
        assert figures[f"test/{name}"].item() == pytest.approx(values.mean())
        low, high = Bootstrap(1000, 0.95, 0).limits(values)
        assert figures[f"test/{name}_lo"].item() == pytest.approx(low)
        assert figures[f"test/{name}_hi"].item() == pytest.approx(high)


@pytest.mark.filterwarnings("error:.*(bootstrap|observations|degenerate)")
def test_a_test_of_one_image_has_its_value_as_limits(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    trainer.test(ToyModule(), loader(1), verbose=False)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    for name in ("dice", "jaccard"):
        assert figures[f"test/{name}_lo"] == figures[f"test/{name}_hi"] == figures[f"test/{name}"]
    assert len((tmp_path / "test_metrics.csv").read_text().splitlines()) == 2
    assert pictures(tmp_path)["test-00000000.png"].shape == (128, 128, 3)


def test_limits_are_left_out_where_none_are_asked_for(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics(bootstrap=0))
    trainer.test(ToyModule(), loader(3), verbose=False)
    assert set(trainer.callback_metrics) == {"test/dice", "test/jaccard", "test/miou"}


def drawn(module: ToyModule, *items: int) -> np.ndarray:
    """The picture of items with the masks that the module predicts."""
    chosen = [ToyData(20)[item] for item in items]
    image, mask = (torch.stack([item[key] for item in chosen]) for key in ("image", "mask"))
    with torch.no_grad():
        predicted = module.segment(image).argmax(1)
    tiles = draw_outlines(draw_outlines(to_rgb(image), mask, TRUTH), predicted)
    return grid_of(tiles).permute(1, 2, 0).numpy()


def test_a_test_draws_test_images_with_the_tested_weights(tmp_path: Path) -> None:
    module = ToyModule()
    trainer = trainer_in(tmp_path, EMACallback(0.5, warmup=False), LastCheckpoint())
    trainer.fit(module, loader(), loader(6))
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    trainer = trainer_in(tmp_path / "test", EMACallback(0.5), SegmentationMetrics(num=4))
    trainer.test(ToyModule(), loader(9), ckpt_path=checkpoint, verbose=False)
    shown = pictures(tmp_path / "test")
    assert list(shown) == ["test-00000012.png"]
    averaged = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert not torch.equal(averaged["net.0.weight"], weights_of(module)["net.0.weight"])
    module.load_state_dict(averaged)
    assert np.array_equal(shown["test-00000012.png"], drawn(module, 0, 2, 4, 6))  # evenly spread


def test_a_test_without_a_checkpoint_draws_the_step_of_the_trainer(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, EMACallback(0.9, warmup=False), SegmentationMetrics(num=2))
    trainer.test(ToyModule(), loader(), verbose=False)
    module = ToyModule()
    trainer.fit(module, loader())
    before = weights_of(module)
    trainer.test(module, loader(), verbose=False)
    shown = pictures(tmp_path)
    assert list(shown) == ["test-00000000.png", "test-00000012.png"]
    assert_same(before, weights_of(module))
    live = drawn(module, 0, 4)
    with ema_weights(trainer):
        averaged = drawn(module, 0, 4)
    assert np.array_equal(shown["test-00000012.png"], averaged)
    assert not np.array_equal(averaged, live)


def test_pictures_of_a_test_are_drawn_once_from_what_was_measured(tmp_path: Path) -> None:
    class Counts(ToyModule):
        asked = 0

        def segment(self, image: Tensor) -> Tensor:
            self.asked += len(image)
            return super().segment(image)

    module = Counts()
    callbacks = [SegmentationMetrics(num=3), SampleGrid(num=2)]
    trainer_in(tmp_path, *callbacks).test(module, loader(7), verbose=False)
    assert module.asked == 7
    assert list(pictures(tmp_path)) == ["test-00000000.png"]
    # Three tiles, whatever `samples.num` says.
    assert pictures(tmp_path)["test-00000000.png"].shape == (2 * 130 + 2, 2 * 130 + 2, 3)
    # Validation draws none, be it of a fit or alone.
    trainer = trainer_in(tmp_path / "val", SegmentationMetrics(num=3))
    trainer.validate(module, loader(4), verbose=False)
    trainer.fit(module, loader(), loader(4))
    assert not pictures(tmp_path / "val")


def test_sanity_check_logs_nothing(tmp_path: Path) -> None:
    trainer = trainer_in(
        tmp_path,
        SegmentationMetrics(),
        num_sanity_val_steps=2,
        max_steps=2,
        logger=CSVLogger(tmp_path),
    )
    trainer.fit(ToyModule(), loader(), loader())
    assert "val/jaccard" not in trainer.callback_metrics


class NoMasks(ToyModule):
    segments = False


class DropMask(ToyModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {key: value for key, value in batch.items() if key != "mask"}


@pytest.mark.parametrize("kind", [NoMasks, DropMask])
def test_silent_without_masks(tmp_path: Path, kind: Callable[[], LightningModule]) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    trainer.test(kind(), loader(), verbose=False)
    assert "test/jaccard" not in trainer.callback_metrics
    assert not list(tmp_path.iterdir())


def test_no_picture_where_none_is_asked_for(tmp_path: Path) -> None:
    trainer_in(tmp_path, SegmentationMetrics(num=0)).test(ToyModule(), loader(), verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["test_metrics.csv"]


class Sharded(ToyModule):
    """Makes its own loader of 17 items, where one of 18 comes twice or none does."""

    padded = False

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        kind = DistributedSampler if self.padded else Unpadded
        world, rank = self.trainer.world_size, self.global_rank
        sampler: DistributedSampler[Any] = kind(
            ToyData(17), num_replicas=world, rank=rank, shuffle=False
        )
        return DataLoader(ToyData(17), batch_size=4, sampler=sampler)


def run_test(root: Path, processes: int, padded: bool) -> dict[str, float]:
    module = Sharded()
    module.padded = padded
    kwargs: dict[str, Any] = {}
    if processes > 1:
        kwargs["strategy"] = DDPStrategy(start_method="fork", process_group_backend="gloo")
    trainer = trainer_in(
        root, SegmentationMetrics(), devices=processes, use_distributed_sampler=False, **kwargs
    )
    trainer.test(module, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("padded", [False, True])
def test_two_processes_give_exactly_the_figures_of_one(tmp_path: Path, padded: bool) -> None:
    one = run_test(tmp_path / "one", 1, padded)
    two = run_test(tmp_path / "two", 2, padded)
    assert one == two
    assert {"test/dice", "test/jaccard_lo", "test/miou"} <= one.keys()
    first, second = (pictures(tmp_path / k)["test-00000000.png"] for k in ("one", "two"))
    assert np.array_equal(first, second)
    assert len(first) == 4 * 130 + 2
    table = (tmp_path / "two" / "test_metrics.csv").read_text()
    assert table == (tmp_path / "one" / "test_metrics.csv").read_text()
    assert len(table.splitlines()) == 17 + 1


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [({"bootstrap": -1}, "bootstrap"), ({"confidence": 1.0}, "confidence"), ({"num": -1}, "num")],
)
def test_arguments_out_of_range(kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word}: .* given"):
        SegmentationMetrics(**kwargs)


def test_logits_that_are_not_finite_give_no_figure(tmp_path: Path) -> None:
    class Broken(ToyModule):
        def segment(self, image: Tensor) -> Tensor:
            return super().segment(image).index_fill(0, torch.tensor([0]), float("nan"))

    trainer = trainer_in(tmp_path, SegmentationMetrics())
    with pytest.raises(ValueError, match="2 of 4 items is NaN or infinite"):
        trainer.test(Broken(), loader(4), verbose=False)
