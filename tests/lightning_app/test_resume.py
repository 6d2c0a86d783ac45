import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_app.comparison import comparable, differences
from lightning_app.holder import NAME
from lightning_app.resume import Limits
from tests.lightning_app.conftest import Command
from tests.lightning_app.test_lock import write_lock
from tests.lightning_app.test_loggers import rows
from tests.lightning_app.toys import ARGS

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]


def record(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "run.json").read_text())
    return content


def interrupt(run: Path) -> None:
    """Makes a finished run look like one that was killed."""
    (run / "run.json").write_text(json.dumps(record(run) | {"state": "running", "ended": None}))


def test_auto_begins_finishes_and_extends_one_run(
    toy: Command, toy_runs: Runs, capfd: Captured
) -> None:
    auto = ["--resume", "auto"]
    assert toy("fit", "--trainer.max_steps", "3", *auto) == 0
    (run,) = toy_runs()
    before = (run / "config.yaml").read_bytes()
    assert toy("fit", "--trainer.max_steps", "3", *auto) == 0
    assert not (run / "config.2.yaml").exists()
    assert toy("fit", "--trainer.max_steps", "5", *auto) == 0
    assert toy_runs() == [run]
    assert (run / "config.yaml").read_bytes() == before
    assert (run / "config.2.yaml").is_file()
    assert [row["step"] for row in rows(run) if row["train/loss"]] == list("01234")
    assert record(run)["state"] == "finished"
    assert record(run)["last_step"] == 5
    assert record(run)["earlier_launches"][0]["last_step"] == 3
    assert not (run / NAME).exists()


def test_auto_says_that_nothing_is_unfinished(
    toy: Command, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert toy("fit", "--trainer.max_steps", "2", "--resume", "auto") == 0
    assert "nothing to do" in caplog.text


# The loss of the toy falls, so no step gains in the largest.
STOP_EARLY = [
    *("--early_stopping.monitor", "val/loss", "--early_stopping.patience", "2"),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "1"),
]


def test_a_run_that_stopped_early_is_finished(
    toy: Command, toy_runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    auto = ["--resume", "auto", *STOP_EARLY, "--trainer.max_steps", "9"]
    assert toy("fit", *auto) == 0
    (run,) = toy_runs()
    assert (record(run)["state"], record(run)["last_step"]) == ("finished", 3)
    saved = torch.load(run / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == 3
    assert saved["callbacks"]["EarlyStopping"]["wait_count"] == 2
    assert toy("fit", *auto) == 0
    assert f"{run.name} is finished" in caplog.text
    assert "nothing to do" in caplog.text
    assert not (run / "config.2.yaml").exists()


def test_a_run_killed_after_it_stopped_early_trains_no_further(
    toy: Command, toy_runs: Runs
) -> None:
    auto = ["--resume", "auto", *STOP_EARLY]
    assert toy("fit", *auto, "--trainer.max_steps", "9") == 0
    (run,) = toy_runs()
    before, table = torch.load(run / "checkpoints" / "last.ckpt"), rows(run)
    interrupt(run)
    for steps in ("9", "20"):  # nor one with a further limit
        assert toy("fit", *auto, "--trainer.max_steps", steps) == 0
        assert (record(run)["state"], record(run)["last_step"]) == ("finished", 3)
    assert toy_runs() == [run]
    after = torch.load(run / "checkpoints" / "last.ckpt")
    assert torch.equal(before["state_dict"]["layer.weight"], after["state_dict"]["layer.weight"])
    assert rows(run) == table


def test_more_patience_continues_a_run_that_stopped_early(toy: Command, toy_runs: Runs) -> None:
    assert toy("fit", *STOP_EARLY, "--trainer.max_steps", "9") == 0
    (run,) = toy_runs()
    more = ["--early_stopping.patience", "4", "--trainer.max_steps", "10"]
    assert toy("fit", *STOP_EARLY, *more, "--resume", str(run)) == 0
    assert record(run)["last_step"] == 5
    assert torch.load(run / "checkpoints" / "best.ckpt")["global_step"] == 5


def test_another_seed_or_argument_is_another_run(
    toy: Command, toy_runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    auto = ["--resume", "auto", "--trainer.max_steps", "2"]
    assert toy("fit", *auto) == 0
    interrupt(toy_runs()[0])
    assert toy("fit", *auto, "--seed_everything", "4") == 0
    assert toy("fit", *auto, "--model.init_args.learning_rate", "0.2") == 0
    assert "differs in seed_everything\n" in caplog.text
    assert "differs in seed_everything, model.init_args.learning_rate" in caplog.text
    assert len(toy_runs()) == 3


def test_paths_and_hardware_are_aside(toy: Command, toy_runs: Runs, tmp_path: Path) -> None:
    assert toy("fit", "--trainer.max_steps", "2", "--resume", "auto") == 0
    other = ["--data.init_args.root", str(tmp_path), "--performance.channels_last", "true"]
    assert toy("fit", "--trainer.max_steps", "4", "--resume", "auto", *other) == 0
    assert len(toy_runs()) == 1


def test_a_checkpoint_from_before_rows_were_counted_keeps_them(
    toy: Command, toy_runs: Runs
) -> None:
    assert toy("fit", "--trainer.max_steps", "3") == 0
    (run,) = toy_runs()
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    del content["callbacks"]["KeptRows"]
    torch.save(content, last)
    assert toy("fit", "--trainer.max_steps", "5", "--resume", "auto") == 0
    assert [row["step"] for row in rows(run) if row["train/loss"]] == list("01234")


def test_a_run_without_a_checkpoint_starts_again_there(toy: Command, toy_runs: Runs) -> None:
    assert toy("fit", "--trainer.max_steps", "3") == 0
    (run,) = toy_runs()
    interrupt(run)
    (run / "checkpoints" / "last.ckpt").unlink()
    assert toy("fit", "--trainer.max_steps", "3", "--resume", "auto") == 0
    assert toy_runs() == [run]
    assert [row["step"] for row in rows(run) if row["train/loss"]] == list("012")


def test_a_held_run_is_left_alone(toy: Command, toy_runs: Runs, capsys: Captured) -> None:
    assert toy("fit", "--trainer.max_steps", "2") == 0
    (run,) = toy_runs()
    interrupt(run)
    write_lock(run)
    for asked in ("auto", str(run)):
        assert toy("fit", "--trainer.max_steps", "4", "--resume", asked) == os.EX_TEMPFAIL
        assert f"{run.name}: held by process {os.getpid()}" in capsys.readouterr().err
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 2


def test_a_named_run_brings_its_config(toy_runs: Runs, toy: Command) -> None:
    from lightning_app.cli import main

    assert toy("fit", "--trainer.max_steps", "2", "--model.init_args.width", "2") == 0
    (run,) = toy_runs()
    assert main(["fit", "--resume", str(run), "--trainer.max_steps", "4"]) == 0
    assert toy_runs() == [run]
    last = torch.load(run / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 4
    assert last["state_dict"]["layer.weight"].shape == (1, 2)


def test_a_named_run_of_another_subcommand_is_refused(
    toy: Command, toy_runs: Runs, capsys: Captured
) -> None:
    assert toy("validate") == 0
    assert toy("fit", "--resume", str(toy_runs()[0])) == 2
    assert "is a run of validate, not of fit" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_in_its_directory(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "lightning_app", "fit", *ARGS, "--trainer.max_steps", "12"]
    command += ["--model.init_args.seconds", "0.2"]
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = (tmp_path / "runs" / "ToyModule").iterdir()
    assert (run / NAME).is_file()
    reached = torch.load(run / "checkpoints" / "last.ckpt")["global_step"]
    assert 1 <= reached < 12
    kept = [row for row in rows(run) if int(row["step"]) < reached]
    subprocess.run([*command, "--resume", "auto"], cwd=tmp_path, env=environment, check=True)
    assert list((tmp_path / "runs" / "ToyModule").iterdir()) == [run]
    table = rows(run)
    assert table[: len(kept)] == [{**row, **dict.fromkeys(table[0], "")} | row for row in kept]
    assert [int(row["step"]) for row in table if row["train/loss"]] == list(range(12))


@pytest.mark.parametrize(
    ("now", "then", "further"),
    [
        (Limits(20, -1), Limits(10, -1), True),
        (Limits(10, -1), Limits(10, -1), False),
        (Limits(5, -1), Limits(10, -1), False),
        (Limits(-1, -1), Limits(10, -1), True),
        (Limits(-1, 3), Limits(-1, 2), True),
        (Limits(10, -1), Limits(-1, -1), False),
    ],
)
def test_which_limit_lies_further(now: Limits, then: Limits, further: bool) -> None:
    assert now.beyond(then) == further


def test_what_is_compared() -> None:
    config = {
        "seed_everything": 0,
        "data": {"class_path": "D", "init_args": {"root": "/a", "batch_size": 4}},
        "trainer": {"max_steps": 3, "devices": 2, "precision": "32-true"},
        "performance": {"compile": "on"},
    }
    assert comparable(config) == {
        "seed_everything": 0,
        "data": {"class_path": "D", "init_args": {"batch_size": 4}},
        "trainer": {"precision": "32-true"},
    }
    assert config["trainer"] == {"max_steps": 3, "devices": 2, "precision": "32-true"}
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c", "d"]
