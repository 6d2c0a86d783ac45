from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import LastCheckpoint
from callbacks.steps import Every, KnowsLoadedStep
from tests.callbacks.toys import ToyModule, TwoSteps, loader, trainer_in


def crossings(every: Every, start: int, steps: range) -> list[int]:
    """The steps at which a look says that a multiple was reached."""
    every.start(cast(Trainer, SimpleNamespace(global_step=start)))
    return [n for n in steps if every.crossed(cast(Trainer, SimpleNamespace(global_step=n)))]


@pytest.mark.parametrize(
    ("interval", "start", "jump", "expected"),
    [
        (5, 0, 1, [5, 10, 15]),
        (5, 0, 2, [6, 10, 16]),  # 5 and 15 are jumped over
        (1, 0, 2, [2, 4, 6, 8, 10, 12, 14, 16]),  # two multiples are one look
        (5, 10, 1, [15]),  # resumed at a multiple, which was seen before
        (5, 6, 2, [10, 16]),
        (100, 0, 1, []),
    ],
)
def test_multiples_are_crossed(interval: int, start: int, jump: int, expected: list[int]) -> None:
    steps = range(start + jump, 17, jump)
    assert crossings(Every(interval), start, steps) == expected


def test_a_step_that_is_not_finished_is_not_crossed_again() -> None:
    trainer = cast(Trainer, SimpleNamespace(global_step=5))
    every = Every(5)
    assert every.crossed(trainer)
    assert not every.crossed(trainer)


class Looks(Callback):
    """Notes when its interval is crossed."""

    def __init__(self) -> None:
        self.every = Every(5)
        self.seen: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.every.start(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if self.every.crossed(trainer):
            self.seen.append(trainer.global_step)


@pytest.mark.parametrize("stop", [4, 6, 10])
def test_a_run_resumed_in_the_middle_looks_where_the_whole_one_does(
    tmp_path: Path, stop: int
) -> None:
    whole, resumed = Looks(), Looks()
    trainer_in(tmp_path / "whole", whole, max_steps=20).fit(TwoSteps(), loader(16))
    assert whole.seen == [6, 10, 16, 20]
    trainer_in(tmp_path, LastCheckpoint(), max_steps=stop).fit(TwoSteps(), loader(16))
    trainer_in(tmp_path, resumed, max_steps=20).fit(
        TwoSteps(), loader(16), ckpt_path=tmp_path / "checkpoints/last.ckpt"
    )
    assert resumed.seen == [step for step in whole.seen if step > stop]


def test_the_step_of_the_weights_is_that_of_what_this_run_loaded(tmp_path: Path) -> None:
    fitted = trainer_in(tmp_path, LastCheckpoint(), max_steps=3)
    fitted.fit(ToyModule(), loader())
    knows, module = KnowsLoadedStep(), ToyModule()
    trainer = trainer_in(tmp_path / "new", knows, max_steps=2)
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    for stage in (trainer.test, trainer.validate):
        stage(module, loader(), ckpt_path=checkpoint, verbose=False)
        assert (knows.loaded_step, knows.step_of_weights(trainer)) == (3, 3)
    # Nothing is loaded in a fit that begins, nor in a test of what it made.
    trainer.fit(module, loader())
    trainer.test(module, loader(), verbose=False)
    assert knows.loaded_step is None
    assert knows.step_of_weights(trainer) == 2
