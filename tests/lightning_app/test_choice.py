"""Runs that are damaged, held or on other processes do not keep others from going on."""

import copy
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lightning_app.choice import Asked, choose_run, run_to_resume
from lightning_app.cli import main
from lightning_app.process import Launch
from lightning_app.run_config import read_config
from tests.lightning_app.conftest import Command
from tests.lightning_app.test_lock import write_lock
from tests.lightning_app.test_resume import Captured, Runs, interrupt, record
from tests.lightning_app.toys import ARGS

STEPS = ("--trainer.max_steps", "4", "--trainer.val_check_interval", "2")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that looks as if it had been killed at step 2, with both checkpoints."""
    folder = tmp_path_factory.mktemp("killed")
    args = [*ARGS, *STEPS, "--trainer.max_steps", "2", "--run_root", str(folder)]
    assert main(["fit", *args]) == 0
    (run,) = (folder / "ToyModule").iterdir()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["max_steps"] = 4
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    interrupt(run)
    return run


@pytest.fixture
def two(killed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two such runs; the second is the newer one."""
    parent = tmp_path / "runs" / "ToyModule"
    good, bad = (Path(shutil.copytree(killed, parent / name)) for name in ("1", "2"))
    started = datetime.now(UTC) + timedelta(minutes=1)
    change(bad, started=started.isoformat())
    return good, bad


def change(run: Path, **changes: Any) -> None:
    (run / "run.json").write_text(json.dumps(record(run) | changes))


def chosen(run: Path, **config: Any) -> Path | None:
    """The run that goes on beside this one, which is asked for with its own config."""
    asked = read_config(run)
    asked["trainer"] |= config
    return choose_run(run.parent, Asked("fit", asked, Launch())).run


def test_a_run_of_a_version_without_an_option_goes_on(killed: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(killed, tmp_path / "ToyModule" / "1"))
    asked = read_config(run)
    earlier = copy.deepcopy(asked)
    del earlier["wandb"]["pictures"]
    (run / "config.yaml").write_text(yaml.safe_dump(earlier))
    going_on = {
        given: choose_run(run.parent, Asked("fit", asked, Launch(), given=frozenset({given}))).run
        for given in ("wandb.enabled", "wandb.pictures", "wandb")
    }
    assert going_on.pop("wandb.enabled") == run
    assert set(going_on.values()) == {None}


def put(path: Path, damage: str) -> None:
    """Damages a file, or what would have its place."""
    content = path.read_bytes() if path.is_file() else b'{"host": "elsewhere", "pid": 5, '
    path.unlink(missing_ok=True)
    if damage == "folder":
        path.mkdir()
    elif damage == "dangling":
        path.symlink_to("gone")
    else:
        binary = bytes(range(256)) * 8
        kinds = {"empty": b"", "binary": binary, "list": b"[1, 2]", "number": b"7"}
        path.write_bytes(kinds.get(damage, content[: len(content) // 2]))


FILES = (
    *("run.json", "config.yaml", "run.lock", "checkpoints/last.ckpt", "checkpoints/best.ckpt"),
    *("splits.json", "metrics.csv"),
)
DAMAGES = ("empty", "cut", "binary", "list", "number", "folder", "dangling")
# What a crash leaves, or what holds nothing, is no damage to the rows.
HARMLESS = {("metrics.csv", "empty"), ("metrics.csv", "cut")}


# The rest of the product is slow.
FEW = {*((file, "cut") for file in FILES), *(("run.json", damage) for damage in DAMAGES)}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        pytest.param(file, damage, marks=() if (file, damage) in FEW else pytest.mark.slow)
        for file in FILES
        for damage in DAMAGES
    ],
)
def test_a_damaged_run_is_named_and_passed_over(
    two: tuple[Path, Path], file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = two
    put(bad / file, damage)
    if (file, damage) in HARMLESS:
        assert chosen(good) == bad
        return
    assert chosen(good) == good
    told = [line for line in caplog.messages if str(bad) in line]
    assert len(told) == 1
    assert file in told[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limits": 7}, "limits"),
        ({"limits": {"steps": "4", "epochs": -1}}, "limits"),
        ({"limits": None}, "limits"),
        ({"state": ["running"]}, "state"),
        ({"state": None}, "state"),
        ({"subcommand": 3}, "subcommand"),
        ({"earlier_launches": 1}, "earlier_launches"),
        ({"resolved": "x"}, "resolved"),
        ({"wandb_id": 5}, "wandb_id"),
        ({"config": 2}, "config"),
    ],
)
def test_a_record_with_other_kinds_of_values_is_damaged(
    two: tuple[Path, Path],
    changes: dict[str, Any],
    named: str,
    caplog: pytest.LogCaptureFixture,
    capsys: Captured,
) -> None:
    good, bad = two
    change(bad, **changes)
    assert chosen(good) == good
    assert f"run.json: its {named} " in caplog.text
    assert main(["fit", "--resume", str(bad)]) == 2
    assert f"run.json: its {named} " in capsys.readouterr().err


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_run_that_is_named_is_a_short_error(
    two: tuple[Path, Path], file: str, capsys: Captured
) -> None:
    _, bad = two
    put(bad / file, "binary")
    code = main(["fit", "--resume", str(bad)])
    assert code == (os.EX_TEMPFAIL if file == "run.lock" else 2)
    error = capsys.readouterr().err.split("error: ")[1]
    assert file in error
    assert len(error.splitlines()) <= 3


def test_a_good_run_ends_beside_a_damaged_one(
    two: tuple[Path, Path], toy: Command, capsys: Captured
) -> None:
    good, bad = two
    put(bad / "config.yaml", "empty")
    before = sorted(path.name for path in bad.iterdir())
    assert toy("fit", *STEPS, "--resume", "auto") == 0
    assert (record(good)["state"], record(good)["last_step"]) == ("finished", 4)
    assert sorted(path.name for path in bad.iterdir()) == before


def test_where_all_are_damaged_a_new_one_begins(
    two: tuple[Path, Path], toy: Command, toy_runs: Runs
) -> None:
    for run in two:
        put(run / "checkpoints" / "last.ckpt", "cut")
    assert toy("fit", *STEPS, "--resume", "auto") == 0
    (new,) = set(toy_runs()) - set(two)
    assert record(new)["last_step"] == 4


def test_the_config_of_a_launch_that_did_not_begin_is_set_aside(
    two: tuple[Path, Path], toy: Command, caplog: pytest.LogCaptureFixture
) -> None:
    _, run = two
    (run / "config.2.yaml").touch()  # the disk was full
    assert toy("fit", *STEPS, "--resume", "auto") == 0
    assert "config.2.yaml is of a launch that did not begin; config.yaml counts" in caplog.text
    assert record(run)["config"] == "config.3.yaml"
    assert record(run)["last_step"] == 4


def test_a_damaged_config_says_which_counts_without_it(
    two: tuple[Path, Path], capsys: Captured
) -> None:
    _, run = two
    (run / "config.2.yaml").write_text("trainer: 7\n")
    change(run, config="config.2.yaml")
    assert main(["fit", "--resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert "config.2.yaml: is damaged, it has no section model, data, trainer" in error
    assert "or remove the file: config.yaml then counts" in error
    (run / "config.2.yaml").unlink()
    assert main(["fit", "--resume", str(run)]) == 0
    assert record(run)["last_step"] == 4


def test_a_cut_last_checkpoint_offers_the_best_and_that_works(
    two: tuple[Path, Path], toy: Command, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    _, run = two
    put(run / "checkpoints" / "last.ckpt", "cut")
    option = f"--resume {run} --ckpt_path {run}/checkpoints/best.ckpt"
    assert chosen(run) != run
    assert f"of step 2, and do again what came after: {option}" in caplog.text
    assert main(["fit", "--resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert "last.ckpt: cannot be read, it is damaged or cut short" in error
    assert option in error
    assert main(["fit", *option.split()]) == 0
    assert record(run)["last_step"] == 4
    assert record(run)["checkpoint"] == f"{run}/checkpoints/best.ckpt"
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 4


@pytest.mark.parametrize("subcommand", ["fit", "test"])
def test_a_cut_checkpoint_names_the_whole_one_beside_it(
    two: tuple[Path, Path], subcommand: str, capsys: Captured
) -> None:
    _, run = two
    taken, other = ("last", "best") if subcommand == "fit" else ("best", "last")
    put(run / "checkpoints" / f"{taken}.ckpt", "cut")
    assert main([subcommand, "--ckpt_path", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"{taken}.ckpt: cannot be read" in error
    whole = f"{run}/checkpoints/{other}.ckpt"
    assert f"{whole}, of step 2, is whole: give that one" in error
    assert main([subcommand, "--ckpt_path", whole]) == 0


def test_a_run_goes_on_from_its_own_checkpoint_alone(
    two: tuple[Path, Path], capsys: Captured
) -> None:
    good, bad = two
    other = f"{good}/checkpoints/best.ckpt"
    for asked in (str(bad), "auto"):
        assert main(["fit", *ARGS, "--resume", asked, "--ckpt_path", other]) == 2
        assert "--ckpt_path and --resume: give one of them, or" in capsys.readouterr().err


def test_others_hold_what_is_unfinished(
    two: tuple[Path, Path], toy: Command, capsys: Captured
) -> None:
    good, bad = two
    for run, pid in ((good, 1), (bad, 2)):
        write_lock(run, host="elsewhere", pid=pid)
    assert toy("fit", *STEPS, "--resume", "auto") == os.EX_TEMPFAIL
    error = capsys.readouterr().err.split("error: ")[1]
    assert "others hold every unfinished run of this config" in error
    assert "runs/ToyModule/2: held by process 2 on elsewhere\n" in error
    assert "runs/ToyModule/1: held by process 1 on elsewhere\n" in error
    (good / "run.lock").unlink()
    assert toy("fit", *STEPS, "--resume", "auto") == 0
    assert record(good)["last_step"] == 4


def test_a_lock_lost_between_choice_and_begin_is_told_as_held(
    two: tuple[Path, Path], toy: Command, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def slow(*args: Any) -> Path | None:
        run = run_to_resume(*args)
        assert run is not None
        write_lock(run)
        return run

    monkeypatch.setattr("lightning_app.training.run_to_resume", slow)
    for asked in ("auto", str(two[1])):
        assert toy("fit", *STEPS, "--resume", asked) == os.EX_TEMPFAIL
        assert f"2: held by process {os.getpid()}" in capsys.readouterr().err
        (two[1] / "run.lock").unlink()
    assert not (two[1] / "config.2.yaml").exists()


@pytest.mark.parametrize(
    "started", [None, 7, "yesterday", "2026-01-01T00:00:00", "2999-01-01T00:00:00+00:00"]
)
def test_a_start_that_no_clock_can_have_said_is_the_oldest(
    two: tuple[Path, Path], started: Any
) -> None:
    good, bad = two
    change(bad, started=started)
    assert chosen(good) == good


def test_a_start_is_compared_as_a_time(two: tuple[Path, Path]) -> None:
    good, bad = two
    change(good, started="2026-01-01T05:00:00+00:00")
    change(bad, started="2026-01-01T06:00:00+03:00")
    assert chosen(good) == good


def resized(run: Path, processes: int, batch: int | None, accumulated: int) -> None:
    """Makes a run look as if it had been on other processes with other batches."""
    config = read_config(run)
    if batch is not None:
        config["data"].setdefault("init_args", {})["batch_size"] = batch
    config["trainer"]["accumulate_grad_batches"] = accumulated
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    change(run, resolved={"trainer": {"devices": processes, "num_nodes": 1}})


@pytest.mark.parametrize(
    ("batch", "accumulated", "goes_on"), [(4, 1, False), (8, 1, True), (4, 2, True), (8, 2, False)]
)
def test_another_number_of_processes_goes_on_with_as_many_images_a_step(
    two: tuple[Path, Path],
    batch: int,
    accumulated: int,
    goes_on: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good, bad = two
    resized(bad, 2, 4, 1)
    asked = read_config(bad)
    asked["data"]["init_args"]["batch_size"] = batch
    asked["trainer"]["accumulate_grad_batches"] = accumulated
    shutil.rmtree(good)
    found = choose_run(bad.parent, Asked("fit", asked, Launch())).run
    assert (found == bad) == goes_on
    assert ("8 images a step (2 processes x batch 4 x 1 accumulated) before" in caplog.text) != (
        goes_on
    )


def test_a_named_run_says_what_makes_the_same_step(
    two: tuple[Path, Path], toy: Command, capsys: Captured
) -> None:
    _, run = two
    resized(run, 2, None, 1)
    assert toy("fit", *STEPS, "--resume", str(run)) == 2
    error = capsys.readouterr().err
    assert "had 2 images a step (2 processes x batch 1 x 1 accumulated), and this is 1" in error
    assert "--trainer.accumulate_grad_batches 2" in error
