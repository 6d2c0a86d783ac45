import io
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import rich
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from callbacks import LastCheckpoint, Progress, RunProgressBar
from tests.callbacks.toys import ToyModule, TwoSteps, loader, trainer_in

SECONDS = 4.0


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        for name in ("callbacks.progress.time.monotonic", "callbacks.clock.time.perf_counter"):
            monkeypatch.setattr(name, lambda: self.now)


class Slow(ToyModule):
    """Four seconds a batch of any loop."""

    clock: Clock

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.clock.now += SECONDS
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.clock.now += SECONDS

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.clock.now += SECONDS

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        self.clock.now += SECONDS
        return super().predict_step(batch, batch_idx)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Told:
    """The lines of a run."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level("INFO")

    @property
    def whole(self) -> list[str]:
        said = [record.getMessage() for record in self._caplog.records]
        return [line for line in said if re.search(r", epoch \d|: batch \d", line)]

    @property
    def lines(self) -> list[str]:
        """Those of the training; the losses of all but the first go by the name of LOSS."""
        said = [line for line in self.whole if ", epoch" in line]
        return [re.sub(r"train/loss \S+,", "LOSS,", line) for line in said]

    @property
    def batches(self) -> list[str]:
        """Those of the other loops."""
        return [line for line in self.whole if ": batch" in line]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def fit(
    root: Path, clock: Clock, *more: Callback, validate: bool = False, **kwargs: Any
) -> Trainer:
    module = Slow()
    module.clock = clock
    trainer = trainer_in(root, Progress(), *more, **kwargs)
    trainer.fit(module, loader(), loader(4) if validate else None)
    return trainer


def test_a_line_at_most_every_30_seconds(tmp_path: Path, clock: Clock, told: Told) -> None:
    fit(tmp_path, clock, max_steps=24)
    # A batch of two images takes 4 s, and an epoch has four: 32 s pass until the next line.
    assert told.lines[1:] == [
        "step 9 of 24, epoch 3, LOSS, 0.50 images/s, 0:01:00 left",
        "step 17 of 24, epoch 5, LOSS, 0.50 images/s, 0:00:28 left",
    ]
    assert re.fullmatch(r"step 1 of 24, epoch 1, train/loss [\d.]+", told.lines[0])


def test_the_loss_is_that_of_the_step_and_fetched_for_a_line_alone(
    tmp_path: Path, clock: Clock, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keeps(Callback):
        losses: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *a: Any) -> None:
            self.losses.append(outputs["loss"].item())

    fetched: list[Tensor] = []
    real = Tensor.__float__

    def fetch(tensor: Tensor) -> float:
        fetched.append(tensor)
        return real(tensor)

    monkeypatch.setattr(Tensor, "__float__", fetch)
    keeps = Keeps()
    fit(tmp_path, clock, keeps, max_steps=12)
    shown = [
        float(match[1]) for line in told.whole if (match := re.search(r"train/loss ([\d.]+)", line))
    ]
    assert shown == pytest.approx([keeps.losses[0], keeps.losses[8]], rel=1e-3)
    assert len(fetched) == 2


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        # 12 batches in all; the line is of the ninth.
        (
            {"max_steps": -1, "max_epochs": 3},
            "step 9 of 12, epoch 3 of 3, LOSS, SPEED, 0:00:12 left",
        ),
        (
            {"max_steps": 30, "max_epochs": 3},
            "step 9 of 12, epoch 3 of 3, LOSS, SPEED, 0:00:12 left",
        ),
        (
            {"max_steps": -1, "max_epochs": 3, "accumulate_grad_batches": 3},
            # Two steps an epoch, after three batches and after the fourth.
            "step 4 of 6, epoch 3 of 3, LOSS, SPEED, 0:00:12 left",
        ),
        (
            {"max_steps": 6, "accumulate_grad_batches": 2},
            "step 4 of 6, epoch 3, LOSS, SPEED, 0:00:16 left",
        ),
    ],
    ids=str,
)
def test_steps_and_time_by_whichever_limit_is_nearest(
    tmp_path: Path, clock: Clock, told: Told, kwargs: dict[str, Any], line: str
) -> None:
    fit(tmp_path, clock, **kwargs)
    assert told.lines[1] == line.replace("SPEED", "0.50 images/s")


def test_a_run_without_an_end_and_one_with_a_time(tmp_path: Path, clock: Clock, told: Told) -> None:
    fit(tmp_path, clock, Timer(timedelta(seconds=50)), max_steps=-1, max_epochs=-1)
    assert told.lines[1] == "step 9, epoch 3, LOSS, 0.50 images/s, 0:00:14 left"


def test_a_validation_counts_for_the_time_left_and_not_for_the_speed(
    tmp_path: Path, clock: Clock, told: Told
) -> None:
    fit(tmp_path, clock, LastCheckpoint(1), validate=True, max_steps=16)
    # After 4 batches come 2 of validation: 9 batches and 4 of validation take 52 s.
    assert told.lines[1].startswith("step 7 of 16, epoch 2, LOSS, 0.50 images/s, 0:00:48 left")


def test_a_resumed_run_counts_on(tmp_path: Path, clock: Clock, told: Told) -> None:
    fit(tmp_path, clock, LastCheckpoint(), max_steps=5)
    module = Slow()
    module.clock = clock
    trainer = trainer_in(tmp_path, Progress(), max_steps=24)
    trainer.fit(module, loader(), ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert told.lines[-3].startswith("step 6 of 24, epoch 2,")
    assert told.lines[-2].startswith("step 14 of 24, epoch 4, LOSS, 0.50 images/s, 0:00:40 left")


@pytest.mark.parametrize("limit", [{"max_steps": 24}, {"max_steps": -1, "max_epochs": 3}], ids=str)
def test_a_module_that_counts_two_steps_a_batch(
    tmp_path: Path, clock: Clock, told: Told, limit: dict[str, int]
) -> None:
    class Two(TwoSteps):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            clock.now += SECONDS
            self.log_dict({"train/loss_g": torch.tensor(1.5), "train/loss_d": torch.tensor(2.0)})
            super().training_step(batch, batch_idx)

    trainer_in(tmp_path, Progress(), **limit).fit(Two(), loader())
    losses = "train/loss_g 1.5, train/loss_d 2"
    epoch = "epoch 3 of 3" if "max_epochs" in limit else "epoch 3"
    assert told.lines[1] == f"step 18 of 24, {epoch}, {losses}, 0.50 images/s, 0:00:12 left"


def test_a_loss_that_is_not_logged_is_that_of_the_whole_step(
    tmp_path: Path, clock: Clock, told: Told
) -> None:
    class Unlogged(ToyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = 3.0 + 0 * self.net(batch["image"]).mean()
            return loss

    trainer_in(tmp_path, Progress(), max_steps=2, accumulate_grad_batches=2).fit(
        Unlogged(), loader()
    )
    assert told.lines[0] == "step 0 of 2, epoch 1, loss 3"


def test_other_loops_say_where_they_are(tmp_path: Path, clock: Clock, told: Told) -> None:
    module = Slow()
    module.clock = clock
    trainer = trainer_in(tmp_path, Progress())
    trainer.validate(module, loader(20), verbose=False)
    trainer.test(module, loader(20), verbose=False)
    trainer.predict(module, [loader(20), loader(4)], return_predictions=False)
    assert told.batches == [
        "validate: batch 1 of 10, 0.50 images/s, 0:00:36 left",
        "validate: batch 9 of 10, 0.50 images/s, 0:00:04 left",
        "test: batch 1 of 10, 0.50 images/s, 0:00:36 left",
        "test: batch 9 of 10, 0.50 images/s, 0:00:04 left",
        "predict: batch 1 of 12, 0.50 images/s, 0:00:44 left",
        "predict: batch 9 of 12, 0.50 images/s, 0:00:12 left",
    ]


def test_a_long_validation_within_a_fit_says_where_it_is(
    tmp_path: Path, clock: Clock, told: Told
) -> None:
    module = Slow()
    module.clock = clock
    trainer = trainer_in(tmp_path, Progress(), max_steps=4, num_sanity_val_steps=2)
    trainer.fit(module, loader(), loader(40))
    assert told.batches == [
        "validation at step 4: batch 5 of 20, 0.50 images/s, 0:01:00 left",
        "validation at step 4: batch 13 of 20, 0.50 images/s, 0:00:28 left",
    ]


def test_null_says_nothing(tmp_path: Path, clock: Clock, told: Told) -> None:
    module = Slow()
    module.clock = clock
    trainer_in(tmp_path, Progress(None), max_steps=24).fit(module, loader())
    assert told.lines == []


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf])
def test_seconds_out_of_range(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"every_n_seconds: .* expected a number >0, finite"):
        Progress(wrong)


def test_the_first_process_speaks_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Says(Progress):
        def _tell(self, loop: str, text: str) -> None:
            print("said:", text, flush=True)

    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    trainer = trainer_in(tmp_path, Says(), devices=2, strategy=strategy, max_steps=1)
    trainer.fit(ToyModule(), loader())
    assert capfd.readouterr().out.count("said: step 1 of 1, epoch 1, train/loss") == 1


def test_a_bar_shows_the_same_and_no_line_is_printed(
    tmp_path: Path, clock: Clock, told: Told
) -> None:
    screen = io.StringIO()
    console = {"file": screen, "force_terminal": True, "width": 150, "no_color": True}
    try:
        bar = RunProgressBar(console_kwargs=console)
        fit(tmp_path, clock, bar, validate=True, max_steps=12, enable_progress_bar=True)
        module = Slow()
        module.clock = clock
        trainer = trainer_in(tmp_path, Progress(), bar, enable_progress_bar=True)
        trainer.test(module, loader(20), verbose=False)
    finally:
        rich.reconfigure()
    shown = screen.getvalue()
    assert re.search(r"Epoch 3 .*step 12 of 12, epoch 3, train/loss [\d.]+, 0.50 images/s", shown)
    assert "test: batch 10 of 10, 0.50 images/s, 0:00:00 left" in shown
    assert "Epoch 0" not in shown
    assert told.lines == told.batches == []
