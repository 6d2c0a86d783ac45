import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from callbacks import BestCheckpoint, EMACallback, LastCheckpoint, ema_weights
from tests.callbacks.toys import ToyModule, assert_same, loader, read, trainer_in, weights_of

TRAINED = ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]


class Recorder(Callback):
    """Keeps the live weights after every batch; to be listed after EMA."""

    def __init__(self) -> None:
        self.live: list[dict[str, Tensor]] = []
        self.in_validation: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.live.append(weights_of(pl_module))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any
    ) -> None:
        self.in_validation.append(weights_of(pl_module))


def last(root: Path) -> dict[str, Any]:
    return read(root / "checkpoints" / "last.ckpt")


def fit(root: Path, ema: EMACallback, *others: Callback, **kwargs: Any) -> ToyModule:
    module = ToyModule()
    resume = kwargs.pop("ckpt_path", None)
    trainer = trainer_in(root, ema, *others, LastCheckpoint(every_n_steps=100), **kwargs)
    trainer.fit(module, loader(), loader(4), ckpt_path=resume)
    return module


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_average_is_the_closed_form(tmp_path: Path, warmup: bool, every: int) -> None:
    recorder = Recorder()
    ema = EMACallback(decay=0.8, warmup=warmup, every_n_steps=every)
    fit(tmp_path, ema, recorder, max_steps=6)

    def share(step: int) -> float:
        most = (1 + step) / (10 + step) if warmup else 1.0
        return float(min(0.8, most) ** every)

    updates = range(every, 7, every)
    averaged = last(tmp_path)["state_dict"]
    for name in TRAINED:
        # sum over updates of (1 - share_j) prod_{i > j} share_i w_j, and what is left of w_0
        expected = torch.zeros_like(averaged[name], dtype=torch.float64)
        kept = 1.0
        for step in reversed(updates):
            expected += kept * (1 - share(step)) * recorder.live[step - 1][name].double()
            kept *= share(step)
        expected += kept * ToyModule().state_dict()[name].double()
        torch.testing.assert_close(averaged[name].double(), expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(averaged[TRAINED[0]], recorder.live[-1][TRAINED[0]])


def test_average_before_the_first_update_is_the_initial_weights(tmp_path: Path) -> None:
    recorder = Recorder()
    fit(tmp_path, EMACallback(0.9), recorder, max_steps=1, num_sanity_val_steps=1)
    assert_same(recorder.in_validation[0], weights_of(ToyModule()))
    fit(tmp_path / "sparse", EMACallback(0.9, every_n_steps=100), max_steps=3)
    assert_same(last(tmp_path / "sparse")["state_dict"], weights_of(ToyModule()))


def test_checkpoint_holds_average_and_live_weights(tmp_path: Path) -> None:
    module = fit(tmp_path, EMACallback(0.9))
    checkpoint = last(tmp_path)
    assert_same(checkpoint["current_model_state"], weights_of(module))
    assert checkpoint["state_dict"].keys() == module.state_dict().keys()
    assert not torch.equal(checkpoint["state_dict"][TRAINED[0]], module.state_dict()[TRAINED[0]])
    loaded = ToyModule.load_from_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert_same(weights_of(loaded), checkpoint["state_dict"])


def test_checkpoint_off_is_lightnings_own(tmp_path: Path) -> None:
    module = fit(tmp_path, EMACallback())
    assert "current_model_state" not in last(tmp_path)
    assert_same(last(tmp_path)["state_dict"], weights_of(module))


def test_validation_uses_the_average_and_training_goes_on_unchanged(tmp_path: Path) -> None:
    recorder = Recorder()
    with_average = fit(tmp_path / "on", EMACallback(0.9), recorder, val_check_interval=3)
    without = fit(tmp_path / "off", EMACallback(), val_check_interval=3)
    assert_same(weights_of(with_average), weights_of(without))
    assert len(recorder.in_validation) >= 6
    for seen in recorder.in_validation:
        assert not any(torch.equal(seen[TRAINED[0]], live[TRAINED[0]]) for live in recorder.live)


def test_best_checkpoint_of_a_validation_holds_the_average_of_its_step(tmp_path: Path) -> None:
    fit(tmp_path, EMACallback(0.9), BestCheckpoint(), max_steps=4)
    best = read(tmp_path / "checkpoints" / "best.ckpt")
    assert best["global_step"] == 4
    assert_same(best["state_dict"], last(tmp_path)["state_dict"])
    assert_same(best["current_model_state"], last(tmp_path)["current_model_state"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_exact(tmp_path: Path, accumulate: int) -> None:
    def ema() -> EMACallback:
        return EMACallback(0.95, every_n_steps=2)

    whole = fit(tmp_path / "whole", ema(), accumulate_grad_batches=accumulate)
    fit(tmp_path / "part", ema(), max_steps=5, accumulate_grad_batches=accumulate)
    resumed = fit(
        tmp_path / "part",
        ema(),
        accumulate_grad_batches=accumulate,
        ckpt_path=tmp_path / "part" / "checkpoints" / "last.ckpt",
    )
    assert_same(weights_of(whole), weights_of(resumed))
    assert_same(last(tmp_path / "whole")["state_dict"], last(tmp_path / "part")["state_dict"])
    assert last(tmp_path / "part")["callbacks"]["EMACallback"] == {"steps": 12}


def test_accumulated_batches_update_once_a_step(tmp_path: Path) -> None:
    fit(tmp_path, EMACallback(0.9), accumulate_grad_batches=4, max_steps=3, limit_val_batches=0)
    assert last(tmp_path)["callbacks"]["EMACallback"] == {"steps": 3}


def test_turning_the_average_on_starts_from_the_live_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    before = fit(tmp_path, EMACallback(), max_steps=5)
    with caplog.at_level("INFO"):
        fit(tmp_path, EMACallback(0.9, warmup=False), max_steps=6, ckpt_path=path)
    assert caplog.text.count("holds no average") == 1
    checkpoint = last(tmp_path)
    for name in TRAINED:
        expected = before.state_dict()[name].lerp(checkpoint["current_model_state"][name], 0.1)
        torch.testing.assert_close(checkpoint["state_dict"][name], expected)


def test_turning_the_average_off_goes_on_from_the_live_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = fit(tmp_path / "whole", EMACallback())
    fit(tmp_path, EMACallback(0.9), max_steps=5)
    path = tmp_path / "checkpoints" / "last.ckpt"
    with caplog.at_level("INFO"):
        resumed = fit(tmp_path, EMACallback(), ckpt_path=path)
    assert caplog.text.count("goes on from the checkpoint's live weights") == 1
    assert_same(weights_of(whole), weights_of(resumed))
    assert "current_model_state" not in last(tmp_path)


def test_context_manager_swaps_and_restores(tmp_path: Path) -> None:
    inside: list[dict[str, Tensor]] = []

    class Peek(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            with ema_weights(trainer), ema_weights(trainer):
                inside.append(weights_of(pl_module))
            with pytest.raises(KeyError), ema_weights(trainer):
                raise KeyError

    module = fit(tmp_path, EMACallback(0.9), Peek())
    assert_same(inside[0], last(tmp_path)["state_dict"])
    assert_same(weights_of(module), last(tmp_path)["current_model_state"])


def test_loading_a_checkpoint_to_test_uses_its_weights(tmp_path: Path) -> None:
    class AtTest(Callback):
        seen: dict[str, Tensor]

        def on_test_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any
        ) -> None:
            self.seen = weights_of(pl_module)

    peek = AtTest()
    ema = EMACallback(0.9)
    trainer = trainer_in(tmp_path, ema, peek, LastCheckpoint(5), limit_val_batches=0)
    module = ToyModule()
    trainer.fit(module, loader(), loader())
    after_fit = last(tmp_path)
    trainer.test(module, loader(), verbose=False)
    assert_same(peek.seen, after_fit["state_dict"])
    early = dict(after_fit, state_dict={k: v + 1 for k, v in after_fit["state_dict"].items()})
    torch.save(early, tmp_path / "early.ckpt")
    trainer.test(module, loader(), ckpt_path=tmp_path / "early.ckpt", verbose=False)
    assert_same(peek.seen, early["state_dict"])


def test_frozen_parts_are_not_averaged_and_nothing_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: nn.Module, memo: Any) -> nn.Module:
        raise AssertionError("a module was copied")

    monkeypatch.setattr(nn.Module, "__deepcopy__", refuse, raising=False)
    ema = EMACallback(0.9)
    fit(tmp_path, ema)
    with pytest.raises(AssertionError):
        copy.deepcopy(nn.Linear(1, 1))
    assert len(ema._average) == len(TRAINED)


def test_tied_weights_agree_in_the_checkpoint(tmp_path: Path) -> None:
    module = ToyModule()
    module.alias = module.net[2]
    trainer = trainer_in(tmp_path, EMACallback(0.9), LastCheckpoint(), max_steps=3)
    trainer.fit(module, loader(), loader())
    state = last(tmp_path)["state_dict"]
    assert torch.equal(state["alias.weight"], state["net.2.weight"])
    assert not torch.equal(state["alias.weight"], module.state_dict()["net.2.weight"])


def test_a_failed_validation_leaves_the_live_weights(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_validation_batch_end(self, *args: Any) -> None:
            raise KeyError("broken")

    module, reference = ToyModule(), ToyModule()
    trainer = trainer_in(tmp_path, EMACallback(0.9), Fails(), max_steps=4)
    with pytest.raises(KeyError):
        trainer.fit(module, loader(), loader())
    trainer_in(tmp_path, max_steps=4).fit(reference, loader())
    assert_same(weights_of(module), weights_of(reference))


@pytest.mark.parametrize(
    ("kwargs", "word"), [({"decay": 1.0}, "decay"), ({"every_n_steps": 0}, "every")]
)
def test_arguments_out_of_range(kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        EMACallback(**kwargs)
