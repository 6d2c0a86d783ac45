import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from callbacks import BestCheckpoint, SampleGrid, SegmentationMetrics
from callbacks.metrics.bootstrap import Bootstrap
from callbacks.metrics.overlap import Overlap, overlap_of, pixel_counts
from tests.callbacks.toys import ToyData, ToyModule, loader, read, trainer_in


def scores_of(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> Overlap:
    counts = pixel_counts(torch.tensor(predicted), torch.tensor(true), num_classes)
    assert counts.shape == (len(true), num_classes, 3)
    return overlap_of(counts.numpy())


def by_sets(predicted: np.ndarray, true: np.ndarray, k: int) -> tuple[float, float, bool]:
    """Dice and Jaccard of one class in one image, from sets of pixel positions."""
    counted = true != 255
    p = {tuple(at) for at in np.argwhere((predicted == k) & counted)}
    t = {tuple(at) for at in np.argwhere((true == k) & counted)}
    if not p | t:
        return 1.0, 1.0, False
    return 2 * len(p & t) / (len(p) + len(t)), len(p & t) / len(p | t), True


@pytest.mark.parametrize("num_classes", [2, 4])
def test_scores_agree_with_sets_of_pixels(num_classes: int) -> None:
    draw = np.random.default_rng(0)
    true = draw.integers(num_classes, size=(6, 7, 5))
    predicted = draw.integers(num_classes, size=(6, 7, 5))
    true[draw.random(true.shape) < 0.2] = 255
    true[1][true[1] != 255] = 0  # no foreground in the mask
    true[2][true[2] != 255] = predicted[2] = 0  # nor in the prediction
    true[3] = 255  # nothing counts
    true[4][true[4] == num_classes - 1] = 0  # a class less
    predicted[4][predicted[4] == num_classes - 1] = 0
    scores = scores_of(predicted, true, num_classes)
    for image in range(6):
        found = [by_sets(predicted[image], true[image], k) for k in range(1, num_classes)]
        present = [entry for entry in found if entry[2]] or [(1.0, 1.0, True)]
        assert scores.dice[image] == pytest.approx(np.mean([dice for dice, _, _ in present]))
        assert scores.jaccard[image] == pytest.approx(np.mean([jac for _, jac, _ in present]))
        for k, (_, jaccard, there) in enumerate(found):
            value = scores.class_jaccard[image, k]
            assert np.isnan(value) if not there else value == pytest.approx(jaccard)
    assert scores.jaccard[2] == scores.dice[2] == scores.jaccard[3] == 1
    assert scores.jaccard[1] == 0


def test_scores_of_known_counts() -> None:
    figures = SegmentationMetrics().figures(np.array([[3, 2, 1, 1, 1, 2], [3, 1, 0, 1, 0, 1]]))
    assert figures.columns["jaccard"].tolist() == [0.25, 0.5]
    assert figures.columns["dice"].tolist() == pytest.approx([2 / 5, 2 / 3])
    assert figures.logged["miou"] == pytest.approx((6 / 10 + 2 / 6) / 2)


def pooled_by_sets(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> list[float]:
    """IoU of each class from the sets of pixel positions of all images together."""
    counted = true != 255
    ious = []
    for k in range(num_classes):
        p = {tuple(at) for at in np.argwhere((predicted == k) & counted)}
        t = {tuple(at) for at in np.argwhere((true == k) & counted)}
        ious.append(len(p & t) / len(p | t) if p | t else 0.0)
    return ious


@pytest.mark.parametrize("num_classes", [2, 5])
def test_pooled_iou_agrees_with_sets_of_pixels(num_classes: int) -> None:
    draw = np.random.default_rng(3)
    true = draw.integers(num_classes, size=(6, 7, 5))
    predicted = draw.integers(num_classes, size=(6, 7, 5))
    true[draw.random(true.shape) < 0.2] = 255
    true[0], predicted[0] = 0, 0  # images of one class weigh by their pixels
    true[1], predicted[1] = 1, 1
    if num_classes > 2:  # a class that no image has
        true[true == num_classes - 1] = 0
        predicted[predicted == num_classes - 1] = 1
    scores = scores_of(predicted, true, num_classes)
    expected = pooled_by_sets(predicted, true, num_classes)
    assert scores.class_iou == pytest.approx(expected)
    assert (expected[-1] == 0) == (num_classes > 2)
    # Cut into other images, the same pixels have the same pooled figures.
    again = scores_of(predicted.reshape(3, 14, 5), true.reshape(3, 14, 5), num_classes)
    assert again.class_iou.tolist() == scores.class_iou.tolist()
    assert again.jaccard.mean() != scores.jaccard.mean()


def test_bootstrap_limits_are_those_of_the_seed_and_cover_the_mean() -> None:
    values = np.random.default_rng(1).random(400)
    limits = Bootstrap(1000, 0.95, seed=0).limits(values)
    assert limits == Bootstrap(1000, 0.95, seed=0).limits(values)
    assert limits != Bootstrap(1000, 0.95, seed=1).limits(values)
    # The normal approximation of the mean's limits.
    error = 1.96 * values.std() / np.sqrt(400)
    assert limits == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3], [1.0] * 40])
def test_limits_of_what_does_not_vary_are_the_value(
    values: list[float], recwarn: pytest.WarningsRecorder
) -> None:
    assert Bootstrap(100, 0.95, 0).limits(np.array(values)) == pytest.approx([values[0]] * 2)
    assert not recwarn.list


def test_a_test_of_one_image(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    trainer.test(ToyModule(), loader(1), verbose=False)
    figures = trainer.callback_metrics
    for name in ("test/dice", "test/jaccard"):
        assert figures[f"{name}_lo"] == figures[f"{name}_hi"] == figures[name]


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
    assert {row["source"] for row in rows} == {""}  # a loader alone names no files
    figures = trainer.callback_metrics
    for name in ("dice", "jaccard"):
        values = np.array([float(row[name]) for row in rows])
        assert figures[f"test/{name}"].item() == pytest.approx(values.mean())
        low, high = Bootstrap(1000, 0.95, 0).limits(values)
        assert figures[f"test/{name}_lo"].item() == pytest.approx(low)
        assert figures[f"test/{name}_hi"].item() == pytest.approx(high)


class Named(LightningDataModule):
    """Knows where its items come from."""

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return loader(4)

    def item_path(self, split: str, index: int) -> str:
        return f"{split}/p{index}.png"


def test_the_table_names_the_files(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SegmentationMetrics())
    trainer.test(ToyModule(), datamodule=Named(), verbose=False)
    with (tmp_path / "test_metrics.csv").open() as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    assert sources == [f"test/p{index}.png" for index in range(4)]


@pytest.mark.parametrize(("num", "drawn"), [(0, 0), (3, 3), (16, 5)])
def test_the_pictures_of_a_test_are_as_many_as_asked_for(
    tmp_path: Path, num: int, drawn: int
) -> None:
    callbacks = [SegmentationMetrics(num=num), SampleGrid(num=2)]
    trainer = trainer_in(tmp_path, *callbacks)
    trainer.test(ToyModule(), loader(5), verbose=False)
    trainer.validate(ToyModule(), loader(5), verbose=False)
    files = list((tmp_path / "samples").glob("*")) if drawn else []
    assert [file.name for file in files] == ["test-00000000.png"] * bool(drawn)
    for file in files:
        with Image.open(file) as image:
            columns, lines = (side // 130 for side in image.size)
        assert (columns - 1) * lines < drawn <= columns * lines


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
    assert not (tmp_path / "test_metrics.csv").exists()


class Unpadded(DistributedSampler[dict[str, Tensor]]):
    """Rank r gets items r, r + world, ..., so 17 items are 9 and 8."""

    def __iter__(self) -> Any:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


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
    table = (tmp_path / "two" / "test_metrics.csv").read_text()
    assert table == (tmp_path / "one" / "test_metrics.csv").read_text()
    assert len(table.splitlines()) == 17 + 1


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [({"bootstrap": -1}, "bootstrap"), ({"confidence": 1.0}, "confidence"), ({"num": -1}, "num")],
)
def test_arguments_out_of_range(kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=rf"metrics\.{word}"):
        SegmentationMetrics(**kwargs)
