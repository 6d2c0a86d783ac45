from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks import AtomicCheckpointIO, BestCheckpoint, EMACallback, LastCheckpoint
from tests.callbacks.toys import (
    ToyModule,
    TwoSteps,
    assert_same,
    loader,
    read,
    trainer_in,
    weights_of,
)


class Scripted(Callback):
    """Logs a validation figure by step, and counts validations."""

    def __init__(self, figures: dict[int, float]) -> None:
        self.figures = figures
        self.validated: list[int] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)
            pl_module.log("val/figure", self.figures[trainer.global_step])


class Saves(AtomicCheckpointIO):
    """Notes the file and the step of every save."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, int]] = []

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        self.done.append((Path(path).name, checkpoint["global_step"]))


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


def fit(root: Path, *callbacks: Callback, resume: Path | None = None, **kwargs: Any) -> ToyModule:
    module = ToyModule()
    validation = loader(4) if kwargs.pop("validate", True) else None
    trainer_in(root, *callbacks, **kwargs).fit(module, loader(), validation, ckpt_path=resume)
    return module


def test_last_is_saved_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    saves = Saves()
    module = fit(tmp_path, LastCheckpoint(5), plugins=[saves], validate=False)
    assert saves.done == [("last.ckpt", 5), ("last.ckpt", 10), ("last.ckpt", 12)]
    assert files(tmp_path) == ["last.ckpt"]
    assert_same(read(tmp_path / "checkpoints/last.ckpt")["state_dict"], weights_of(module))


@pytest.mark.parametrize(
    "kwargs", [{"val_check_interval": 3}, {}, {"max_epochs": 3, "max_steps": -1}]
)
def test_last_with_validation_between(tmp_path: Path, kwargs: dict[str, Any]) -> None:
    saves = Saves()
    fit(tmp_path, LastCheckpoint(5), plugins=[saves], **kwargs)
    assert saves.done == [("last.ckpt", 5), ("last.ckpt", 10), ("last.ckpt", 12)]


def test_best_and_last_are_both_fresh_where_validation_runs_at_the_last_step(
    tmp_path: Path,
) -> None:
    script = Scripted({4: 3.0, 8: 1.0, 12: 2.0})
    saves = Saves()
    fit(tmp_path, script, BestCheckpoint("val/figure"), LastCheckpoint(4), plugins=[saves])
    expected = [("best.ckpt", 4), ("last.ckpt", 4), ("best.ckpt", 8), ("last.ckpt", 8)]
    assert saves.done == [*expected, ("last.ckpt", 12)]
    assert files(tmp_path) == ["best.ckpt", "last.ckpt"]
    state = read(tmp_path / "checkpoints/last.ckpt")["callbacks"]["BestCheckpoint"]
    assert state == {"monitor": "val/figure", "best_model_score": torch.tensor(1.0), "step": 8}


def test_best_by_the_largest(tmp_path: Path) -> None:
    script = Scripted({4: 1.0, 8: 3.0, 12: 2.0})
    fit(tmp_path, script, BestCheckpoint("val/figure", mode="max"))
    assert read(tmp_path / "checkpoints/best.ckpt")["global_step"] == 8


def test_best_is_silent_without_validation(tmp_path: Path) -> None:
    fit(tmp_path, BestCheckpoint("val/nothing"), LastCheckpoint(), validate=False)
    assert files(tmp_path) == ["last.ckpt"]


def test_best_names_what_was_logged_instead(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'val/nothing'; it logged val/loss"):
        fit(tmp_path, BestCheckpoint("val/nothing"))


def test_sanity_check_saves_nothing(tmp_path: Path) -> None:
    saves = Saves()
    fit(
        tmp_path,
        BestCheckpoint("val/loss"),
        LastCheckpoint(),
        plugins=[saves],
        num_sanity_val_steps=2,
        max_steps=2,
    )
    assert saves.done == [("last.ckpt", 2)]


@pytest.mark.parametrize("stop", [4, 5])
@pytest.mark.parametrize("kwargs", [{}, {"val_check_interval": 2}, {"accumulate_grad_batches": 2}])
def test_resume_from_any_step_is_exact_and_saves_no_step_twice(
    tmp_path: Path, stop: int, kwargs: dict[str, Any]
) -> None:
    figures = {step: abs(step - 8.5) for step in range(13)}

    def callbacks() -> tuple[Scripted, EMACallback, BestCheckpoint, LastCheckpoint]:
        script = Scripted(figures)
        return script, EMACallback(0.9), BestCheckpoint("val/figure"), LastCheckpoint(4)

    whole = callbacks()
    saves_whole = Saves()
    fit(tmp_path / "whole", *whole, plugins=[saves_whole], **kwargs)
    first, second = callbacks(), callbacks()
    part = tmp_path / "part"
    saves_first, saves_second = Saves(), Saves()
    fit(part, *first, plugins=[saves_first], max_steps=stop, **kwargs)
    resume = part / "checkpoints/last.ckpt"
    fit(part, *second, plugins=[saves_second], resume=resume, **kwargs)
    for name in ("best", "last"):
        ours = read(part / "checkpoints" / f"{name}.ckpt")
        theirs = read(tmp_path / "whole" / "checkpoints" / f"{name}.ckpt")
        assert ours["global_step"] == theirs["global_step"]
        assert_same(ours["state_dict"], theirs["state_dict"])
        assert_same(ours["current_model_state"], theirs["current_model_state"])
        assert ours["callbacks"]["BestCheckpoint"] == theirs["callbacks"]["BestCheckpoint"]
    assert first[0].validated + second[0].validated == whole[0].validated
    together = saves_first.done + saves_second.done
    assert [save for save in together if save != ("last.ckpt", stop) or stop % 4 == 0] == (
        saves_whole.done
    )


def test_resume_from_any_save_of_a_killed_run_is_exact(tmp_path: Path) -> None:
    class Copies(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            super().save_checkpoint(checkpoint, path, storage_options)
            torch.save(checkpoint, tmp_path / f"{checkpoint['global_step']}.ckpt")

    script = Scripted(dict.fromkeys(range(13), 1.0))
    whole = fit(tmp_path, script, LastCheckpoint(1), plugins=[Copies()], val_check_interval=2)
    for step in (3, 6, 8):  # inside an epoch, at a validation inside it, at its end
        again = Scripted(script.figures)
        resume = tmp_path / f"{step}.ckpt"
        resumed = fit(tmp_path / str(step), again, resume=resume, val_check_interval=2)
        assert_same(weights_of(whole), weights_of(resumed))
        assert again.validated == [at for at in script.validated if at > step]


def test_resume_to_the_same_limit_does_nothing(tmp_path: Path) -> None:
    fit(tmp_path, LastCheckpoint())
    saves = Saves()
    resume = tmp_path / "checkpoints/last.ckpt"
    fit(tmp_path, LastCheckpoint(), plugins=[saves], resume=resume)
    assert saves.done == []


def test_best_continues_from_its_score_and_starts_anew_elsewhere(tmp_path: Path) -> None:
    last = tmp_path / "a/checkpoints/last.ckpt"
    fit(
        tmp_path / "a",
        Scripted({4: 1.0}),
        BestCheckpoint("val/figure"),
        LastCheckpoint(),
        max_steps=4,
    )
    for folder, step in (("a", 4), ("b", 8)):
        best = BestCheckpoint("val/figure")
        fit(tmp_path / folder, Scripted({8: 2.0, 12: 3.0}), best, resume=last)
        assert read(tmp_path / folder / "checkpoints/best.ckpt")["global_step"] == step
        assert best.best_model_path == str(tmp_path / folder / "checkpoints/best.ckpt")


def test_resume_warns_of_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    callbacks = [BestCheckpoint("val/loss"), LastCheckpoint(3)]
    fit(tmp_path / "a", *callbacks, max_steps=5)
    (tmp_path / "a").rename(tmp_path / "moved")
    recwarn.clear()
    last = tmp_path / "moved/checkpoints/last.ckpt"
    fit(tmp_path / "moved", BestCheckpoint("val/loss"), LastCheckpoint(4), resume=last)
    said = " ".join(str(warning.message) for warning in recwarn)
    for phrase in ("dirpath has changed", "not empty", "need to be provided"):
        assert phrase not in said


def test_checkpoint_holds_no_path_of_the_machine(tmp_path: Path) -> None:
    fit(tmp_path, BestCheckpoint(), LastCheckpoint())
    assert str(tmp_path) not in str(read(tmp_path / "checkpoints/last.ckpt")["callbacks"])


def test_early_stop_is_saved(tmp_path: Path) -> None:
    class Stops(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = True

    saves = Saves()
    fit(tmp_path, Stops(), LastCheckpoint(), plugins=[saves], val_check_interval=2)
    assert saves.done == [("last.ckpt", 2)]
    whole = fit(tmp_path / "whole", LastCheckpoint(), validate=False)
    last = tmp_path / "checkpoints/last.ckpt"
    resumed = fit(tmp_path, LastCheckpoint(), resume=last, val_check_interval=2)
    assert_same(weights_of(whole), weights_of(resumed))


def test_two_optimiser_steps_a_batch_do_not_jump_over_a_save(tmp_path: Path) -> None:
    saves = Saves()
    trainer = trainer_in(tmp_path, LastCheckpoint(5), plugins=[saves])
    trainer.fit(TwoSteps(), loader())
    assert [step for _, step in saves.done] == [6, 10, 12]


def test_crash_while_saving_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def crash(checkpoint: Any, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert read(path) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match="every_n_steps: 0 given"):
        LastCheckpoint(0)
