import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from callbacks import LastCheckpoint, SampleGrid, TranslationMetrics
from callbacks.metrics.kmeans import cluster_dice, fit_clusters, label_clusters, mean_dice
from callbacks.pictures import PALETTE, to_colours, to_rgb
from meddiff.core.protocols import Generators
from meddiff.core.randomness import item_generators
from tests.callbacks.metrics.test_similarity import ssim_by_windows
from tests.callbacks.toys import ToyModule, Unpadded, trainer_in

SIDE = 16
LEVELS = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])


def target_of(index: int) -> Tensor:
    """Five tissues in stripes whose borders differ from slice to slice, a little uneven."""
    generator = torch.Generator().manual_seed(1000 + index)
    tissue = (torch.arange(SIDE) + index) // 4 % 5
    noise = torch.randn(1, SIDE, SIDE, generator=generator) * 0.05
    return (LEVELS[tissue].expand(1, SIDE, SIDE) + noise).clamp(-1, 1)


class Pairs(Dataset[dict[str, Tensor]]):
    """Slices of two modalities of which one is the negative of the other."""

    def __init__(self, length: int, keys: tuple[str, ...] = ("source", "target")) -> None:
        self.length = length
        self.keys = keys

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        target = target_of(index)
        item = {"source": -target, "target": target, "image": target}
        return {key: item[key] for key in self.keys} | {"index": torch.tensor(index)}


class Translator(ToyModule):
    """Gives the negative with noise of each item's generator; trained on nothing."""

    samples = segments = False
    error = 0.2

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.asked: list[Tensor] = []

    def translate(self, image: Tensor, generator: Generators = None) -> Tensor:
        assert isinstance(generator, list)
        self.asked.extend(image)
        torch.rand(2)
        noise = [torch.randn(image[0].shape, generator=g) for g in generator]
        return -image + self.error * torch.stack(noise)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass


class PairModule(LightningDataModule):
    """Test and validation pairs; the target's training slices as reference."""

    def __init__(self, order: list[int], batch_size: int = 2) -> None:
        super().__init__()
        self.order = order
        self.batch_size = batch_size
        self.asked: list[str | None] = []

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        self.asked.append(domain)
        return map(target_of, range(100, 106))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(Pairs(len(self.order)), self.batch_size, sampler=self.order)

    val_dataloader = test_dataloader


def translated_of(indices: range, seed: int = 3) -> Tensor:
    """What `Translator` makes of slices, one after the other."""
    made = []
    for index, generator in zip(indices, item_generators(seed, indices), strict=True):
        target = target_of(index)
        made.append(target + 0.2 * torch.randn(target.shape, generator=generator))
    return torch.stack(made)


def run_test(
    root: Path, order: list[int], batch_size: int = 2, **kwargs: Any
) -> tuple[dict[str, float], list[dict[str, str]]]:
    """Figures and table of a test."""
    trainer = trainer_in(root, TranslationMetrics(**kwargs))
    trainer.test(Translator(), datamodule=PairModule(order, batch_size), verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}, table(root)


def table(root: Path) -> list[dict[str, str]]:
    with (root / "test_translation.csv").open() as file:
        return list(csv.DictReader(file))


def test_figures_and_table_are_those_of_the_slices(tmp_path: Path) -> None:
    figures, rows = run_test(tmp_path, list(range(5)))
    made = translated_of(range(5))
    true = torch.stack([target_of(index) for index in range(5)])
    error = (((made + 1) / 2).clamp(0, 1) - (true + 1) / 2).double().square().mean((1, 2, 3))
    psnr = -10 * error.log10().numpy()
    centroids = fit_clusters(map(target_of, range(100, 106)), 5, seed=0)
    # The pixels are a level plus noise, so that the clusters are the levels.
    assert centroids.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.03)
    dice = cluster_dice(label_clusters(made, centroids), label_clusters(true, centroids), 5)
    assert [row["index"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [float(row["psnr"]) for row in rows] == pytest.approx(psnr, rel=1e-5)
    for k in range(5):
        column = [float(row[f"kmeans_dice_cluster{k}"]) for row in rows]
        assert column == pytest.approx(dice[:, k].tolist(), nan_ok=True)
    expected = {"psnr": psnr, "kmeans_dice": mean_dice(dice).numpy()}
    expected["ssim"] = np.array(
        [
            ssim_by_windows(
                *(((image[k, 0] + 1) / 2).clamp(0, 1).numpy() for image in (made, true))
            )
            for k in range(5)
        ]
    )
    for name, values in expected.items():
        assert figures[f"test/{name}"] == pytest.approx(values.mean(), rel=1e-4)
        assert figures[f"test/{name}_sd"] == pytest.approx(np.std(values, ddof=1), rel=1e-3)
    assert 0 < figures["test/kmeans_dice"] < 1


def test_order_and_batch_size_change_nothing(tmp_path: Path) -> None:
    one = run_test(tmp_path / "a", [0, 1, 2, 3, 4, 5], 2)
    assert one == run_test(tmp_path / "b", [4, 0, 5, 2, 1, 3], 4)
    assert one == run_test(tmp_path / "c", [5, 4, 3, 2, 1, 0], 1)


def test_one_slice_has_no_spread(tmp_path: Path) -> None:
    figures, _ = run_test(tmp_path, [0])
    assert figures["test/psnr_sd"] == figures["test/ssim_sd"] == figures["test/kmeans_dice_sd"] == 0


def test_the_seed_of_the_module_decides_what_is_drawn(tmp_path: Path) -> None:
    figures: list[float] = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(figures))
        trainer = trainer_in(tmp_path, TranslationMetrics())
        trainer.test(Translator(seed=seed), datamodule=PairModule([0, 1]), verbose=False)
        figures.append(trainer.callback_metrics["test/psnr"].item())
    assert figures[0] == figures[1] != figures[2]


def test_each_slice_is_translated_once_and_the_clusters_are_fitted_once(tmp_path: Path) -> None:
    module, data = Translator(), PairModule([0, 1, 2, 3, 4])
    trainer = trainer_in(tmp_path, TranslationMetrics(num=4), SampleGrid(num=4))
    trainer.test(module, datamodule=data, verbose=False)
    assert torch.equal(torch.stack(module.asked), torch.stack([-target_of(k) for k in range(5)]))
    assert data.asked == ["target"]
    trainer.validate(module, datamodule=data, verbose=False)
    assert len(module.asked) == 10
    assert {"val/psnr", "val/ssim_sd", "val/kmeans_dice"} <= trainer.callback_metrics.keys()


def test_without_reference_images_there_is_no_dice_and_it_is_said(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, TranslationMetrics())
    with pytest.warns(UserWarning, match="no K-means Dice.*reference_images") as said:
        trainer.test(Translator(), DataLoader(Pairs(4), 2), verbose=False)
    assert len([w for w in said if "K-means" in str(w.message)]) == 1
    assert set(trainer.callback_metrics) == {
        f"test/{name}{sd}" for name in ("psnr", "ssim") for sd in ("", "_sd")
    }
    assert list(table(tmp_path)[0]) == ["index", "source", "psnr", "ssim"]
    # Three tiles a line.
    assert picture(tmp_path, "test-00000000.png").shape == (4 * 130 + 2, 3 * 130 + 2, 3)


class HeldOut(PairModule):
    """A folder that was held out whole: it has no training slices."""

    def reference_images(self, domain: str | None = None) -> Iterator[Tensor]:
        return iter(())


def test_without_training_images_there_is_no_dice_and_it_is_said(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, TranslationMetrics(num=0))
    with pytest.warns(UserWarning, match="no K-means Dice.*the data at hand have none"):
        trainer.test(Translator(), datamodule=HeldOut([0, 1]), verbose=False)
    assert "test/psnr" in trainer.callback_metrics
    assert "test/kmeans_dice" not in trainer.callback_metrics


def picture(root: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(root / "samples" / name))


def tile(shown: np.ndarray, line: int, column: int) -> Tensor:
    part = shown[2 + 130 * line :, 2 + 130 * column :][:128, :128]
    return torch.tensor(part).permute(2, 0, 1)


def test_a_picture_shows_what_was_measured_of_slices_over_the_whole_set(tmp_path: Path) -> None:
    run_test(tmp_path, [3, 1, 0, 2, 4, 5, 6, 8, 7], 4, num=3)
    shown = picture(tmp_path, "test-00000000.png")
    assert shown.shape == (3 * 130 + 2, 5 * 130 + 2, 3)
    made = translated_of(range(9))
    centroids = fit_clusters(map(target_of, range(100, 106)), 5, seed=0)
    for line, index in enumerate((0, 3, 6)):
        true = target_of(index)[None]
        expected = [to_rgb(-true), to_rgb(made[index][None]), to_rgb(true)]
        labels = [label_clusters(image, centroids) for image in (made[index][None], true)]
        expected += [to_colours(image) for image in labels]
        for column, tiles in enumerate(expected):
            assert torch.equal(tile(shown, line, column), tiles[0]), (line, column)
    colours = {tuple(pixel) for pixel in tile(shown, 0, 4).flatten(1).T.tolist()}
    assert (0, 0, 0) in colours
    assert colours <= {(0, 0, 0), *PALETTE[:4]}


def test_slices_are_spread_over_those_that_a_limit_leaves(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, TranslationMetrics(num=2), limit_test_batches=2)
    trainer.test(Translator(), datamodule=PairModule(list(range(8))), verbose=False)
    shown = picture(tmp_path, "test-00000000.png")
    assert shown.shape[0] == 2 * 130 + 2
    assert torch.equal(tile(shown, 1, 2), to_rgb(target_of(2)[None])[0])


def test_the_step_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    fitted = trainer_in(tmp_path, LastCheckpoint(), max_steps=3)
    fitted.fit(Translator(), DataLoader(Pairs(4, ("image",)), 2))
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    trainer = trainer_in(tmp_path / "new", TranslationMetrics(num=2))
    for stage in (trainer.validate, trainer.test):
        stage(Translator(), datamodule=PairModule([0, 1]), ckpt_path=checkpoint, verbose=False)
    trainer_in(tmp_path / "none", TranslationMetrics(num=0)).test(
        Translator(), datamodule=PairModule([0, 1]), verbose=False
    )
    assert sorted(path.name for path in (tmp_path / "new" / "samples").iterdir()) == [
        "test-00000003.png",
        "validate-00000003.png",
    ]
    assert (tmp_path / "none" / "test_translation.csv").is_file()
    assert not (tmp_path / "none" / "samples").exists()


def test_nothing_is_measured_while_fitting_on_the_target_alone(tmp_path: Path) -> None:
    module = Translator()
    trainer = trainer_in(tmp_path, TranslationMetrics(), max_steps=2, num_sanity_val_steps=1)
    images = DataLoader(Pairs(4, ("image",)), 2)
    trainer.fit(module, images, images)
    assert not module.asked
    assert not any("psnr" in name for name in trainer.callback_metrics)
    assert not (tmp_path / "samples").exists()


class NoTranslations(Translator):
    translates = False


@pytest.mark.parametrize(
    ("kind", "keys"),
    [(ToyModule, ("source", "target")), (NoTranslations, ("source", "target"))]
    + [(Translator, keys) for keys in (("source",), ("image",), ("target",))],
)
def test_silent_where_there_is_nothing_to_translate(
    tmp_path: Path, kind: Any, keys: tuple[str, ...]
) -> None:
    trainer = trainer_in(tmp_path, TranslationMetrics())
    trainer.test(kind(), DataLoader(Pairs(4, keys), 2), verbose=False)
    assert not trainer.callback_metrics
    assert not list(tmp_path.iterdir())


def test_slices_smaller_than_the_window(tmp_path: Path) -> None:
    class Small(Pairs):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            item = super().__getitem__(index)
            return {k: v[:, :10] if k != "index" else v for k, v in item.items()}

    module = Translator()
    with pytest.raises(ValueError, match=r"11 x 11 pixels.* 10 x 16; raise .*image_size"):
        trainer_in(tmp_path, TranslationMetrics()).test(module, DataLoader(Small(2)), verbose=False)
    assert not module.asked  # before anything is spent on it


def test_a_translation_of_another_shape(tmp_path: Path) -> None:
    class Crops(Translator):
        def translate(self, image: Tensor, generator: Generators = None) -> Tensor:
            return image[..., 1:]

    with pytest.raises(ValueError, match=r"\(2, 1, 16, 15\).* \(2, 1, 16, 16\)"):
        trainer_in(tmp_path, TranslationMetrics()).test(
            Crops(), DataLoader(Pairs(2), 2), verbose=False
        )


class Sharded(PairModule):
    """Makes its own loaders of 7 slices, where 8 would be padded."""

    def __init__(self) -> None:
        super().__init__(list(range(7)))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        sampler = Unpadded(
            Pairs(7), num_replicas=self.trainer.world_size, rank=self.trainer.global_rank
        )
        return DataLoader(Pairs(7), batch_size=2, sampler=sampler)


def test_two_processes_give_exactly_the_figures_and_pictures_of_one(tmp_path: Path) -> None:
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    figures = []
    for processes, extra in ((1, {}), (2, {"strategy": strategy})):
        trainer = trainer_in(
            tmp_path / str(processes),
            TranslationMetrics(num=1),  # one process has nothing to draw
            devices=processes,
            use_distributed_sampler=False,
            **extra,
        )
        trainer.test(Translator(), datamodule=Sharded(), verbose=False)
        figures.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert figures[0] == figures[1]
    assert "test/kmeans_dice_sd" in figures[0]
    for name in ("test_translation.csv", "samples/test-00000000.png"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in "12")
        assert one == two, name


def test_tensorboard_gets_the_picture(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = trainer_in(tmp_path, TranslationMetrics(num=2), logger=logger)
    for stage in (trainer.test, trainer.validate):
        stage(Translator(), datamodule=PairModule([0, 1]), verbose=False)
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["images"]) == ["test_translations", "validation_translations"]


def test_figures_of_rows_with_clusters_and_without() -> None:
    rows = np.array([[30, 0.6, 0.9, 1, 0.9], [20, 0.5, 0.7, np.nan, 0.7]])
    found = TranslationMetrics().figures(rows)
    assert list(found.logged) == [
        f"{name}{sd}" for name in ("psnr", "ssim", "kmeans_dice") for sd in ("", "_sd")
    ]
    assert found.logged["psnr"] == 25
    assert found.logged["kmeans_dice"] == pytest.approx(0.8)
    assert found.columns["kmeans_dice"].tolist() == [0.9, 0.7]
    assert found.columns["kmeans_dice_cluster1"].tolist() == [0.9, 0.7]
    assert "kmeans_dice_cluster2" not in found.columns
    assert not found.limited
    assert list(TranslationMetrics().figures(rows[:, :2]).columns) == ["psnr", "ssim"]


@pytest.mark.parametrize(("kwargs", "word"), [({"clusters": 1}, "clusters"), ({"num": -1}, "num")])
def test_arguments_out_of_range(kwargs: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word}: .* given"):
        TranslationMetrics(**kwargs)


def test_translations_that_are_not_finite_give_no_figure(tmp_path: Path) -> None:
    class Broken(Translator):
        error = float("inf")

    trainer = trainer_in(tmp_path, TranslationMetrics())
    with pytest.raises(ValueError, match="3 of 3 items is NaN or infinite"):
        trainer.test(Broken(), datamodule=PairModule([0, 1, 2]), verbose=False)
