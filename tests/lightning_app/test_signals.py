import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightning_app import session, signals, training
from lightning_app.cli import main
from tests.lightning_app.conftest import Command
from tests.lightning_app.toys import ARGS, HERE

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]

STOPPING = ["SIGINT", "SIGTERM", "SIGUSR1"]


def sends(hook: str, number: str, again: str | None = None) -> list[str]:
    args = {"class_path": f"{HERE}.Sends", "init_args": {"hook": hook, "number": number}}
    if again is not None:
        args["init_args"]["again"] = again  # type: ignore[index]
    return ["--trainer.callbacks", json.dumps([args])]


def state(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["state"])


@pytest.fixture(autouse=True)
def _handlers_as_found() -> Iterator[None]:
    before = [signal.getsignal(name) for name in signals.STOPPING]
    yield
    assert [signal.getsignal(name) for name in signals.STOPPING] == before


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize(
    ("subcommand", "hook"),
    [
        ("fit", "setup"),
        ("validate", "on_validation_batch_start"),
        ("test", "on_test_batch_start"),
        ("test", "on_test_end"),
        ("predict", "on_predict_batch_start"),
    ],
)
def test_a_signal_stops_at_once_in_one_line(
    toy: Command, toy_runs: Runs, capsys: Captured, subcommand: str, hook: str, number: str
) -> None:
    code = toy(subcommand, "--trainer.max_steps", "2", *sends(hook, number))
    assert code == 128 + signal.Signals[number]
    (run,) = toy_runs()
    assert state(run) == "interrupted"
    assert not (run / "run.lock").exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if number in line]
    assert line.startswith(f"{number}: stopped; runs/ToyModule/")
    assert line.endswith("--resume auto goes on there" if subcommand == "fit" else "again")


def test_ctrl_c_in_a_fit_names_the_checkpoint(
    toy: Command, toy_runs: Runs, capsys: Captured
) -> None:
    steps = ["--trainer.num_sanity_val_steps", "0", "--trainer.max_steps", "4"]
    assert toy("fit", *steps, *sends("on_validation_batch_start", "SIGINT")) == 130
    (run,) = toy_runs()
    assert state(run) == "interrupted"
    printed = capsys.readouterr()
    assert f"{run.name}/checkpoints/last.ckpt is kept; the same command with" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGUSR1")])
def test_a_second_signal_while_leaving_is_ignored(
    toy: Command, toy_runs: Runs, capsys: Captured, first: str, second: str
) -> None:
    code = toy("test", *sends("on_test_batch_start", first, second))
    assert code == 128 + signal.Signals[first]
    assert state(toy_runs()[0]) == "interrupted"
    assert capsys.readouterr().err.count("stopped;") == 1


@pytest.mark.parametrize(("module", "name"), [(training, "this_launch"), (session, "facts")])
def test_a_signal_before_the_run_is_recorded_leaves_nothing(
    toy: Command,
    toy_runs: Runs,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
) -> None:
    monkeypatch.setattr(module, name, lambda *args: signal.raise_signal(signal.SIGTERM))
    assert toy("fit", "--trainer.max_steps", "1") == 143
    assert "SIGTERM: stopped; nothing was begun yet; give the same" in capsys.readouterr().err
    assert toy_runs() == []


def held_back(number: str, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A fit that got a signal before Python had begun."""
    script = f'kill -s {number.removeprefix("SIG")} $$; exec "$@"'
    command = (sys.executable, "-m", "lightning_app", "fit", *ARGS, *more)
    return subprocess.run(
        ["env", "--block-signal=USR1,TERM", "sh", "-c", script, "sh", *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
def test_a_signal_that_was_held_back_comes_before_anything_is_imported(number: str) -> None:
    done = held_back(number, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 128 + signal.Signals[number]
    lines = [line for line in done.stderr.splitlines() if "import time" not in line]
    assert lines == [f"{number}: stopped; nothing was begun yet; give the same command again"]
    assert "| torch" not in done.stderr


def test_a_slurm_job_is_put_back_although_nothing_is_imported(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho JobState=RUNNING\n')
    scontrol.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = held_back("SIGUSR1", SLURM_JOB_ID="42", PATH=path)
    assert done.returncode == 138
    assert "SLURM job 42 goes back into the queue" in done.stderr
    assert (tmp_path / "asked").read_text().splitlines()[1] == "requeue 42"


def test_other_processes_than_the_first_leave_without_a_word() -> None:
    done = held_back("SIGTERM", RANK="1", SLURM_JOB_ID="42")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_whoever_calls_the_command_keeps_his_handlers(toy: Command, toy_runs: Runs) -> None:
    got = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        assert toy("test", *sends("on_test_batch_start", "SIGINT")) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert got
    assert state(toy_runs()[0]) == "finished"


def test_ctrl_c_in_a_tool_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from lightning_app import doctor

    monkeypatch.setattr(doctor, "run", lambda args: signal.raise_signal(signal.SIGINT))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "SIGINT: stopped\n"


@contextmanager
def forked() -> Iterator[int]:
    """A child like a data loader's worker, just forked and not told yet what to do."""
    with signals.handled():
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(signal.SIGUSR1)
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(7)
        yield child


def test_a_forked_worker_just_ends() -> None:
    with forked() as child:
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
