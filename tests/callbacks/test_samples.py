from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import EMACallback, SampleGrid, ema_weights
from callbacks.pictures import PALETTE, TRUTH, lines_of, to_rgb
from meddiff.core.protocols import Generators
from meddiff.core.randomness import item_generators
from tests.callbacks.toys import (
    ToyData,
    ToyModule,
    assert_same,
    loader,
    pictures,
    trainer_in,
    weights_of,
)


def fit(
    root: Path, *callbacks: Callback, module: ToyModule | None = None, **kwargs: Any
) -> ToyModule:
    module = module or ToyModule()
    trainer_in(root, *callbacks, **kwargs).fit(module, loader(), loader(6))
    return module


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}


def test_files_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(5, num=4))
    assert list(pictures(tmp_path)) == [
        f"{kind}-{step:08d}.png" for kind in ("segment", "step") for step in (5, 10, 12)
    ]


def test_same_seed_same_picture(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(folder))
        fit(tmp_path / folder, SampleGrid(100, num=4, seed=seed))
    a, b, c = (pictures(tmp_path / folder)["step-00000012.png"] for folder in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_training_is_not_disturbed(tmp_path: Path) -> None:
    class Modes(Callback):
        seen: list[list[bool]]

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            self.seen = [*getattr(self, "seen", []), [m.training for m in pl_module.modules()]]

    class Draws(ToyModule):
        """Draws from the global generator, unlike our modules."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.net(torch.randn(2, 3, 8, 8)).square().mean()
            return loss * (1 + np.random.rand())  # noqa: NPY002

    weights, modes = [], []
    for name, callbacks in (("on", [EMACallback(0.9), SampleGrid(2, num=3)]), ("off", [])):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        watch = Modes()
        trainer = trainer_in(tmp_path / name, *callbacks, watch)
        module = Draws()
        trainer.fit(module, loader(), loader())
        weights.append(weights_of(module))
        modes.append(watch.seen)
    assert_same(*weights)
    assert modes[0] == modes[1]
    assert False in modes[0][0]  # the frozen part


def test_picture_shows_the_averaged_weights_and_outlines(tmp_path: Path) -> None:
    expected = []

    class Peek(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            with torch.no_grad(), ema_weights(trainer):
                assert isinstance(pl_module, ToyModule)
                made = pl_module.sample(4, item_generators(0, range(4)))
                expected.append(made["image"])

    fit(tmp_path, EMACallback(0.99, warmup=False), Peek(), SampleGrid(100, num=4))
    picture = pictures(tmp_path)["step-00000012.png"]
    assert PALETTE[0] in colours(picture)
    # Tiles are 8 pixels enlarged 16 times, 2 apart; the corner pixel lies outside the mask.
    image = ((expected[0].clamp(-1, 1) + 1) * 127.5).round()
    for tile, (row, column) in enumerate(((2, 2), (2, 132), (132, 2), (132, 132))):
        assert picture[row, column].tolist() == image[tile, :, 0, 0].tolist()


def test_segmentations_show_prediction_over_truth(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(100, num=4), module=ToyModule(num_classes=3))
    shown = colours(pictures(tmp_path)["segment-00000012.png"])
    assert TRUTH in shown
    assert PALETTE[0] in shown or PALETTE[1] in shown


def test_what_a_module_cannot_do_is_left_out(tmp_path: Path) -> None:
    class OnlySegments(ToyModule):
        samples = False

    class OnlySamples(ToyModule):
        segments = False

    fit(tmp_path / "a", SampleGrid(100), module=OnlySegments())
    fit(tmp_path / "b", SampleGrid(100), module=OnlySamples())
    fit(tmp_path / "c", SampleGrid(100, num=0))
    assert list(pictures(tmp_path / "a")) == ["segment-00000012.png"]
    assert list(pictures(tmp_path / "b")) == ["step-00000012.png"]
    assert not pictures(tmp_path / "c")


def test_no_validation_set_no_segmentations(tmp_path: Path) -> None:
    trainer_in(tmp_path, SampleGrid(100)).fit(ToyModule(), loader(), [])
    assert list(pictures(tmp_path)) == ["step-00000012.png"]


def test_pictures_that_are_there_are_kept(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-00000005.png").write_bytes(b"earlier")
    trainer_in(tmp_path, SampleGrid(5, num=1)).fit(ToyModule(), loader())
    assert (tmp_path / "samples" / "step-00000005.png").read_bytes() == b"earlier"
    assert (tmp_path / "samples" / "step-00000010.png").stat().st_size > 100


def test_two_processes_draw_the_pictures_of_one(tmp_path: Path) -> None:
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")

    class NoTraining(ToyModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.net.parameters(), lr=0.0)

    for processes, extra in ((1, {}), (2, {"strategy": strategy, "devices": 2})):
        root = tmp_path / str(processes)
        fit(root, SampleGrid(100, num=5), module=NoTraining(), max_steps=1, **extra)
    one, two = pictures(tmp_path / "1"), pictures(tmp_path / "2")
    assert len(one) == 2
    assert one.keys() == two.keys()
    for name, picture in one.items():
        assert np.array_equal(picture, two[name]), name


class Translates(ToyModule):
    """Darkens, with noise of each item's generator."""

    samples = segments = False

    def translate(self, image: Tensor, generator: Generators = None) -> Tensor:
        assert isinstance(generator, list)
        noise = [torch.randn(image[0].shape, generator=g) for g in generator]
        return image / 2 - 0.5 + 0.1 * torch.stack(noise)


class Paired(ToyData):
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = super().__getitem__(index)
        return {"source": -item["image"], "target": item["image"], "index": item["index"]}


def translated(items: list[int], seed: int = 0, sign: float = 1.0) -> list[tuple[Tensor, Tensor]]:
    """Each item's input and translation."""
    module = Translates()
    images = [sign * ToyData(20)[item]["image"] for item in items]
    made = [
        module.translate(image[None], [generator])[0]
        for image, generator in zip(images, item_generators(seed, items), strict=True)
    ]
    return list(zip(images, made, strict=True))


def lines(rows: Sequence[tuple[Tensor, ...]]) -> np.ndarray:
    tiles = torch.stack([torch.cat([to_rgb(image[None]) for image in row]) for row in rows])
    return lines_of(tiles).permute(1, 2, 0).numpy()


def test_translations_of_validation_images_over_the_whole_set(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, SampleGrid(8, num=3, seed=5))
    trainer.fit(Translates(), loader(), loader(7, 3))
    shown = pictures(tmp_path)
    assert list(shown) == ["translate-00000008.png", "translate-00000012.png"]
    # Items, and not places in a batch, key what is drawn.
    assert np.array_equal(shown["translate-00000012.png"], lines(translated([0, 2, 4], seed=5)))


def test_the_true_target_is_shown_where_batches_have_it(tmp_path: Path) -> None:
    class Sources(Translates):
        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            pass

    trainer = trainer_in(tmp_path, SampleGrid(100, num=2))
    trainer.fit(Sources(), loader(), DataLoader(Paired(6), 2))
    rows = [(source, made, -source) for source, made in translated([0, 3], sign=-1)]
    assert np.array_equal(pictures(tmp_path)["translate-00000012.png"], lines(rows))


def test_without_a_validation_set_training_images_are_translated(tmp_path: Path) -> None:
    trainer_in(tmp_path, SampleGrid(100, num=4)).fit(Translates(), loader(), [])
    expected = lines(translated([0, 2, 4, 6]))
    assert np.array_equal(pictures(tmp_path)["translate-00000012.png"], expected)


def test_no_translations_of_a_module_that_samples_and_nothing_in_a_test(tmp_path: Path) -> None:
    class SamplesToo(Translates):
        samples = True

    class Not(Translates):
        translates = False

    fit(tmp_path / "a", SampleGrid(100), module=SamplesToo())
    fit(tmp_path / "b", SampleGrid(100), module=Not())
    for module in (Translates(), ToyModule()):
        trainer_in(tmp_path / "c", SampleGrid()).test(module, loader(), verbose=False)
    assert list(pictures(tmp_path / "a")) == ["step-00000012.png"]
    assert not pictures(tmp_path / "b")
    assert not pictures(tmp_path / "c")


def test_two_processes_draw_the_translations_of_one(tmp_path: Path) -> None:
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    for processes, extra in ((1, {}), (2, {"strategy": strategy, "devices": 2})):
        root = tmp_path / str(processes)
        fit(root, SampleGrid(100, num=3), module=Translates(), max_steps=1, **extra)
    one, two = (pictures(tmp_path / folder)["translate-00000001.png"] for folder in "12")
    assert np.array_equal(one, two)


def test_tensorboard_gets_the_picture(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path, SampleGrid(6, num=2), logger=TensorBoardLogger(tmp_path, name="", version=""))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(events.Tags()["images"]) == ["samples", "segmentations"]
    assert [image.step for image in events.Images("samples")] == [6, 12]


def test_wandb_gets_the_picture(tmp_path: Path) -> None:
    sent: list[tuple[str, tuple[int, ...], int]] = []

    class Fake(WandbLogger):
        def __init__(self) -> None:
            pass

        experiment = None
        save_dir = str(tmp_path)
        name = version = "fake"

        def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
            assert step is not None
            sent.append((key, images[0].shape, step))

        def log_metrics(self, *args: Any, **kwargs: Any) -> None: ...
        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...
        def log_graph(self, *args: Any, **kwargs: Any) -> None: ...
        def save(self) -> None: ...
        def finalize(self, status: str) -> None: ...
        def after_save_checkpoint(self, *args: Any) -> None: ...

    fit(tmp_path, SampleGrid(100, num=1), logger=Fake())
    assert sent == [("samples", (128, 128, 3), 12), ("segmentations", (128, 128, 3), 12)]


@pytest.mark.parametrize(
    ("kwargs", "word"), [({"every_n_steps": 0}, "every_n_steps"), ({"num": -1}, "num")]
)
def test_arguments_out_of_range(kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SampleGrid(**kwargs)
