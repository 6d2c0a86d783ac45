"""A run that is asked to stop, anywhere, and resumed, ends as one that was left alone."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_app.cli import main
from tests.integration.signal_toys import Sends, Sent

REPOSITORY = Path(__file__).parents[2]
HERE = "tests.integration.signal_toys"
ARGS = (
    *("--model", f"{HERE}.SignalModule", "--data", f"{HERE}.SignalDataModule"),
    *("--trainer.callbacks", f"{HERE}.Sends", "--ema.decay", "0.9"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.enable_progress_bar", "false", "--progress.every_n_seconds", "null"),
    *("--trainer.num_sanity_val_steps", "0", "--resume", "auto"),
    *("--best.monitor", "val/loss", "--best.mode", "min"),
    *("--early_stopping.monitor", "val/loss", "--early_stopping.mode", "min"),
)
BY_BATCHES = "--trainer.check_val_every_n_epoch null --trainer.val_check_interval"
EVERY_SECOND = f"--trainer.max_steps 15 {BY_BATCHES} 2 --trainer.log_every_n_steps 1"
# The figure is never better than the first one: it stops at step 12.
STOPS_EARLY = f"{EVERY_SECOND} --model.init_args.gain -1 --early_stopping.patience 5"

# What a fit can be made of. An epoch has 10 batches where it does not say otherwise.
FITS = {
    "every second step": EVERY_SECOND,
    "stops early": STOPS_EARLY,
    "stops early, not before min_steps": (
        f"--trainer.max_steps 30 --trainer.min_steps 7 {BY_BATCHES} 2 --model.init_args.gain -1 "
        "--early_stopping.patience 1 --trainer.log_every_n_steps 1"
    ),
    "saved and logged at each step": f"{EVERY_SECOND} --last.every_n_steps 1",
    "logged every seventh step": f"--trainer.max_steps 15 {BY_BATCHES} 2",
    "ends between validations": "--trainer.max_steps 13 --trainer.val_check_interval 0.5",
    "epochs": (
        "--trainer.max_epochs 3 --data.init_args.batches 4 --model.init_args.schedule epoch "
        "--last.every_n_steps 3 --trainer.log_every_n_steps 1"
    ),
    "validates every second epoch": (
        "--trainer.max_epochs 3 --data.init_args.batches 4 --trainer.check_val_every_n_epoch 2"
    ),
    "accumulates": (
        "--trainer.max_steps 6 --trainer.accumulate_grad_batches 3 --last.every_n_steps 1 "
        f"--model.init_args.schedule step {BY_BATCHES} 2 --trainer.log_every_n_steps 1"
    ),
    "two optimisers": (
        "--trainer.max_steps 26 --model.init_args.optimizers 2 --last.every_n_steps 3 "
        f"{BY_BATCHES} 2 --trainer.log_every_n_steps 1"
    ),
    # Epochs 2 and 3 end behind batches that no validation follows.
    "falls on a plateau": (
        f"--trainer.max_steps 15 --data.init_args.batches 5 {BY_BATCHES} 4 "
        "--model.init_args.schedule plateau --model.init_args.gain -1 "
        "--trainer.log_every_n_steps 1"
    ),
    "not validated": "--trainer.max_steps 12 --trainer.limit_val_batches 0",
    "not averaged": f"{EVERY_SECOND} --ema.decay null",
}


def fit(root: Path, given: str) -> int:
    return main(["fit", *ARGS, "--run_root", str(root), *given.split()])


def only_run(root: Path) -> Path:
    (run,) = (root / "SignalModule").iterdir()
    return run


@pytest.fixture(autouse=True)
def _handlers_stay() -> Iterator[None]:
    """A signal that comes too late or stays unsent shows as a failure of its test."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    yield
    Sends.plan.clear()
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1)] == before


Whole = Callable[[str], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run of a fit that was left alone; each is made once."""
    made: dict[str, Path] = {}

    def run_of(given: str) -> Path:
        if given not in made:
            root = tmp_path_factory.mktemp("whole")
            assert fit(root, given) == 0
            made[given] = only_run(root)
        return made[given]

    return run_of


def broken(root: Path, given: str, plan: list[Sent]) -> tuple[Path, list[int]]:
    """The run of a fit that is signalled by plan and resumed until it ends; its exit codes."""
    Sends.plan = list(plan)
    codes = [fit(root, given)]
    while codes[-1] != 0 and len(codes) <= len(plan):
        codes.append(fit(root, given))
    assert Sends.plan == []
    return only_run(root), codes


def differences(ours: Any, theirs: Any, at: str = "") -> list[str]:
    """The places where two nested values differ, tensors bit by bit."""
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return [] if torch.equal(ours, theirs) else [at]
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = dict.fromkeys([*ours, *theirs])
        missing = object()
        pairs = [(k, ours.get(k, missing), theirs.get(k, missing)) for k in keys]
        return [d for k, one, other in pairs for d in differences(one, other, f"{at}/{k}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        numbered = enumerate(zip(ours, theirs, strict=True))
        return [d for k, (one, other) in numbered for d in differences(one, other, f"{at}/{k}")]
    return [] if ours == theirs else [f"{at}: {ours!r} is not {theirs!r}"]


def contents(run: Path) -> dict[str, Any]:
    """All that must be equal: checkpoints whole, the table, and what the record tells."""
    checkpoints = {
        path.name: torch.load(path, weights_only=True)
        for path in sorted((run / "checkpoints").iterdir())
    }
    with (run / "metrics.csv").open(newline="") as file:
        table = list(csv.reader(file))
    record = json.loads((run / "run.json").read_text())
    told = {key: record[key] for key in ("state", "last_step", "best")}
    return {"checkpoints": checkpoints, "table": table, "record": told}


def assert_equal_runs(ours: Path, theirs: Path) -> None:
    assert differences(contents(ours), contents(theirs)) == []


def test_the_comparison_sees_a_difference(whole: Whole) -> None:
    assert contents(whole(EVERY_SECOND))["record"]["state"] == "finished"
    other = differences(contents(whole(EVERY_SECOND)), contents(whole(STOPS_EARLY)))
    assert any(at.startswith("/checkpoints/last.ckpt/loops") for at in other)
    assert any(at.startswith("/checkpoints/last.ckpt/state_dict") for at in other)
    assert any(at.startswith("/table") for at in other)


CHAINS = {
    "at validations and ends of epochs": (
        STOPS_EARLY,
        [Sent("on_train_batch_end", batch, signal.SIGUSR1) for batch in (1, 2, 10, 11)],
        [138, 138, 138, 138, 0],
    ),
    "between all places": (
        FITS["ends between validations"],
        [
            Sent("setup", 0, times=2),
            Sent("on_validation_batch_end", 5),
            Sent("on_save_checkpoint", 10, signal.SIGUSR1),
            Sent("on_train_end", 13),
            Sent("on_validation_start", 13),
        ],
        # The last one comes in the final validation, which is not left undone.
        [143, 143, 138, 143, 0],
    ),
    "of epochs": (
        FITS["epochs"],
        [Sent("on_train_batch_end", 4), Sent("on_train_epoch_end", 8), Sent("on_train_end", 12)],
        [143, 143, 0],
    ),
    "before the rate falls": (
        FITS["falls on a plateau"],
        [Sent("on_train_batch_end", 3), Sent("on_train_batch_end", 8)],
        [143, 143, 0],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_a_run_of_several_signals_equals_one_of_none(
    name: str, whole: Whole, tmp_path: Path
) -> None:
    given, plan, expected = CHAINS[name]
    run, codes = broken(tmp_path, given, plan)
    assert codes == expected
    assert_equal_runs(run, whole(given))


def test_a_signal_in_the_last_batch_lets_the_run_end(whole: Whole, tmp_path: Path) -> None:
    run, codes = broken(tmp_path, STOPS_EARLY, [Sent("on_train_batch_end", 12)])
    assert codes == [0]
    assert_equal_runs(run, whole(STOPS_EARLY))


def test_a_signal_where_a_callback_stops_lets_the_run_end(whole: Whole, tmp_path: Path) -> None:
    given = f"{EVERY_SECOND} --trainer.callbacks+={HERE}.Stops --trainer.callbacks.batch 9"
    run, codes = broken(tmp_path, given, [Sent("on_train_batch_end", 9)])
    assert codes == [0]
    assert contents(run)["record"]["last_step"] == 9
    assert_equal_runs(run, whole(given))


@pytest.mark.parametrize("name", ["ends between validations", "stops early"])
def test_a_run_that_was_killed_at_its_end_ends_alike(
    name: str, whole: Whole, tmp_path: Path
) -> None:
    """As SIGKILL leaves it, in the final validation or before the record was written."""
    assert fit(tmp_path, FITS[name]) == 0
    run = only_run(tmp_path)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "running", "ended": None}))
    assert fit(tmp_path, FITS[name]) == 0
    assert_equal_runs(run, whole(FITS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=str)
@pytest.mark.parametrize("batch", range(1, 13))
@pytest.mark.parametrize("name", ["every second step", "stops early"])
def test_each_of_twelve_batch_ends(
    name: str, batch: int, number: signal.Signals, whole: Whole, tmp_path: Path
) -> None:
    run, codes = broken(tmp_path, FITS[name], [Sent("on_train_batch_end", batch, number)])
    assert codes in ([128 + number, 0], [0])
    assert_equal_runs(run, whole(FITS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_a_signal_at_each_batch_of_one_run(name: str, whole: Whole, tmp_path: Path) -> None:
    last = contents(whole(FITS[name]))["checkpoints"]["last.ckpt"]["loops"]["fit_loop"]
    batches = last["epoch_loop.batch_progress"]["total"]["ready"]
    plan = [Sent("on_train_batch_end", batch) for batch in range(1, batches + 1)]
    run, codes = broken(tmp_path, FITS[name], plan)
    # Half an optimiser step is finished first, with two signals then.
    assert len(codes) >= batches // (3 if name == "accumulates" else 1)
    assert set(codes[:-1]) == {143}
    assert_equal_runs(run, whole(FITS[name]))


# Where a validation, a save or the end of an epoch or of the fit is, and so a hook is called.
PLACES = {
    "every second step": [
        *(("on_validation_start", 2), ("on_validation_epoch_end", 10), ("on_validation_end", 12)),
        *(("on_train_batch_start", 4), ("on_train_epoch_end", 10), ("on_train_epoch_start", 10)),
        *(("on_fit_start", 0), ("on_train_start", 0), ("on_train_end", 15)),
        *(("on_validation_start", 15), ("on_save_checkpoint", 15)),
    ],
    "saved and logged at each step": [("on_save_checkpoint", batch) for batch in (3, 4, 10, 15)],
    "ends between validations": [("on_validation_batch_end", 13), ("on_train_epoch_end", 13)],
    "epochs": [("on_train_epoch_end", 4), ("on_validation_end", 12), ("on_train_end", 12)],
    "stops early": [("on_validation_start", 12), ("on_train_end", 12)],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hook", "batches"), [(name, *place) for name in PLACES for place in PLACES[name]]
)
def test_each_place(name: str, hook: str, batches: int, whole: Whole, tmp_path: Path) -> None:
    run, _ = broken(tmp_path, FITS[name], [Sent(hook, batches)])
    assert_equal_runs(run, whole(FITS[name]))


@pytest.mark.parametrize("place", ["on_sanity_check_start", "on_validation_start"])
def test_a_signal_in_the_sanity_check(place: str, whole: Whole, tmp_path: Path) -> None:
    given = f"{EVERY_SECOND} --trainer.num_sanity_val_steps 2"
    run, codes = broken(tmp_path, given, [Sent(place, 0)])
    assert codes == [143, 0]
    assert_equal_runs(run, whole(given))


def in_two_processes(root: Path, given: str, signalled_at: str = "") -> int:
    more = "--trainer.devices 2 --trainer.strategy ddp --preemption.every_n_steps 1"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lightning_app", "fit", *ARGS, "--run_root", str(root)),
            *(*given.split(), *more.split()),
        ],
        env=os.environ | {"SIGNALLED_AT": signalled_at, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    return done.returncode


@pytest.mark.slow
def test_two_processes_of_which_one_is_signalled(tmp_path: Path) -> None:
    """A validation is due after the sixth batch, the fifth ends an epoch, the seventh the fit."""
    given = f"--trainer.max_steps 7 --data.init_args.batches 10 {BY_BATCHES} 3"
    assert in_two_processes(tmp_path / "whole", given) == 0
    for place in ("on_train_batch_end 5", "on_train_batch_end 6", "on_train_batch_end 7"):
        root = tmp_path / place
        assert in_two_processes(root, given, place) == 143
        assert in_two_processes(root, given) == 0
        assert_equal_runs(only_run(root), only_run(tmp_path / "whole"))
