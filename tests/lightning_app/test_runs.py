import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lightning_app.cli import main
from lightning_app.run_summary import Best, summary_of
from lightning_app.runs import figures_text, find_runs
from tests.lightning_app.test_lock import write_lock

Captured = pytest.CaptureFixture[str]

FIT = {
    "name": "m",
    "subcommand": "fit",
    "state": "finished",
    "started": "2026-01-01T00:00:00",
    "limits": {"steps": 20, "epochs": -1},
    "last_step": 20,
    "wandb_id": "a1",
    "resolved": {"best": {"monitor": "val/dice", "mode": "max"}},
}
METRICS = """train/loss,epoch,step,val/dice
0.9,0,4,
,0,9,0.5
,1,14,0.75
,1,17,nan
,1,19,0.25
"""


def write(directory: Path, record: dict[str, Any] | str, metrics: str | None = None) -> Path:
    directory.mkdir(parents=True)
    text = record if isinstance(record, str) else json.dumps(record)
    (directory / "run.json").write_text(text)
    if metrics is not None:
        (directory / "metrics.csv").write_text(metrics)
    return directory


def checkpoints(run: Path) -> Path:
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.ckpt").touch()
    return run / "checkpoints" / "best.ckpt"


def test_a_fit_at_a_glance(tmp_path: Path) -> None:
    summary = summary_of(write(tmp_path / "m" / "1", FIT, METRICS))
    assert (summary.name, summary.state, summary.step, summary.max_steps) == (
        "m",
        "finished",
        20,
        20,
    )
    assert summary.best == Best("val/dice", 0.75, 15), "after 15 steps, which the row counts from 0"


def test_the_best_is_what_the_checkpoint_holds(tmp_path: Path) -> None:
    kept = {"best": {"figure": "val/dice", "value": 0.5}}
    assert summary_of(write(tmp_path / "a", FIT | kept, METRICS)).best == Best("val/dice", 0.5, 10)
    other = {"best": {"figure": "val/loss", "value": 0.5}}
    assert summary_of(write(tmp_path / "b", FIT | other, METRICS)).best == Best(
        "val/dice", 0.75, 15
    )


def test_a_record_of_an_earlier_version_and_its_config(tmp_path: Path) -> None:
    old = {key: FIT[key] for key in ("subcommand", "state", "started")}
    run = write(tmp_path / "m" / "1", old, METRICS)
    (run / "config.yaml").write_text("best:\n  monitor: train/loss\n  mode: min\n")
    (run / "config.2.yaml").write_text("best:\n  monitor: val/dice\n  mode: min\n")
    summary = summary_of(run)
    assert summary.best == Best("val/dice", 0.25, 20)
    assert (summary.name, summary.step, summary.max_steps) == ("m", 20, None)


@pytest.mark.parametrize(
    ("recorded", "held", "state"),
    [
        ("running", {}, "running"),
        ("running", None, "stale"),
        ("running", {"pid": 2**22 + 1}, "stale"),
        ("running", {"process_started": 1.0}, "stale"),
        ("running", {"host": "elsewhere"}, "running"),
        ("finished", None, "finished"),
        ("finished", {}, "running"),
        ("interrupted", {"pid": 2**22 + 1}, "interrupted"),
        ("failed", None, "failed"),
    ],
)
def test_the_state_of_a_run(
    recorded: str, held: dict[str, Any] | None, state: str, tmp_path: Path
) -> None:
    run = write(tmp_path / "m" / "1", FIT | {"state": recorded, "error": "why"})
    if held is not None:
        write_lock(run, **held)
    summary = summary_of(run)
    assert summary.state == state
    assert ("process" in str(summary.note)) == (state == "running")


def test_a_silent_lock_elsewhere_is_stale(tmp_path: Path) -> None:
    run = write(tmp_path / "m" / "1", FIT | {"state": "running"})
    write_lock(run, host="elsewhere")
    os.utime(run / "run.lock", (time.time() - 1000,) * 2)
    assert summary_of(run).state == "stale"


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"pid": 1}'])
def test_a_lock_that_is_cut_short_holds_as_long_as_it_may_beat(
    content: str, tmp_path: Path
) -> None:
    run = write(tmp_path / "m" / "1", FIT | {"state": "running"})
    (run / "run.lock").write_text(content)
    summary = summary_of(run)
    assert summary.state == "running"
    assert "run.lock is damaged" in str(summary.note)
    os.utime(run / "run.lock", (0, 0))
    assert summary_of(run).state == "stale"


def test_a_fit_with_what_was_tested_on_it(tmp_path: Path, capsys: Captured) -> None:
    root = tmp_path / "runs"
    fit = write(root / "m" / "1", FIT, METRICS)
    best = checkpoints(fit)
    test = {"subcommand": "test", "state": "finished", "started": "2026-01-02", "seen": "none"}
    figures = "test/dice,test/dice_lo,test/dice_hi,epoch,step\n0.5,0.25,0.75,0,0\n"
    write(root / "m" / "2", test | {"checkpoint": str(best), "checkpoint_run": "a1"}, figures)
    seen = {"seen": {"train": 27, "val": 3}, "started": "2026-01-03"}
    write(root / "n" / "1", test | seen | {"checkpoint": str(best)}, "test/dice\n0.9\n")
    predict = {"subcommand": "predict", "state": "failed", "error": "no room", "started": "2026-02"}
    write(root / "m" / "3", predict | {"checkpoint": "/gone/x.ckpt"})
    assert main(["runs", str(root)]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    words = [[word.strip() for word in line if word.strip()] for line in lines]
    assert words == [
        ["run", "kind", "state", "step", "figures"],
        [str(fit), "fit", "finished", "step 20 of 20", "val/dice 0.75 at step 15"],
        ["2", "test", "finished", "test/dice 0.5 (0.25 to 0.75); seen: none"],
        [str(root / "n" / "1"), "test", "finished", "test/dice 0.9; seen: 27 of train, 3 of val"],
        [str(root / "m" / "3"), "predict", "failed", "seen: unknown"],
        ["no room"],
        ["checkpoint /gone/x.ckpt"],
    ]
    assert main(["runs", str(fit)]) == 0
    text = capsys.readouterr().out
    assert "no room" not in text, "of one run, only what was done with it"
    assert "seen: none" in text


def test_json_holds_all_and_is_json(tmp_path: Path, capsys: Captured) -> None:
    run = write(tmp_path / "m" / "1", FIT, METRICS)
    test = {"subcommand": "test", "state": "finished", "checkpoint": str(checkpoints(run))}
    write(tmp_path / "m" / "2", test, "test/dice,test/psnr\n0.5,inf\n")
    assert main(["runs", str(tmp_path), "--json"]) == 0
    fit, tested = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert fit["best"] == {"monitor": "val/dice", "value": 0.75, "step": 15}
    assert tested["figures"] == {"test/dice": 0.5, "test/psnr": None}
    assert tested["fit"] == fit["directory"] == str(run)


@pytest.mark.parametrize(
    ("record", "metrics"),
    [
        ("{", None),
        ("", METRICS),
        ("[1, 2]", None),
        ("{}", None),
        ('{"subcommand": "fit"}', ""),
        ('{"subcommand": "fit", "limits": 3, "resolved": [], "best": 7}', "step,val/loss\n1"),
        ('{"subcommand": "fit", "state": "odd"}', "step,val/loss\nx,y\n\0,,\n"),
        ('{"subcommand": "test", "checkpoint": 5}', "\xff\n1\n"),
    ],
)
def test_a_directory_in_any_state_is_listed(
    record: str, metrics: str | None, tmp_path: Path, capsys: Captured
) -> None:
    write(tmp_path / "odd", record, metrics)
    good = write(tmp_path / "good", FIT, METRICS)
    assert main(["runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert str(tmp_path / "odd") in text
    assert f"{good}  fit" in text
    assert main(["runs", str(tmp_path), "--json"]) == 0


def test_what_is_left_of_a_run_is_listed_as_broken(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "m" / "1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "m" / "1" / "config.yaml").touch()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "config.yaml").touch()
    assert main(["runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"m/1 +\? +broken\n +\S+run.json: cannot be read", text)
    assert "configs" not in text


def test_links_are_followed_and_each_run_is_listed_once(tmp_path: Path) -> None:
    run = write(tmp_path / "disk" / "m" / "1", FIT)
    write(run / "copied" / "inside", FIT)
    root = tmp_path / "runs"
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "disk")
    (root / "b").symlink_to(tmp_path / "disk" / "m" / "1")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "nowhere")
    assert list(find_runs(root)) == [root / "a" / "m" / "1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, capsys: Captured) -> None:
    write(tmp_path / "m" / "1", FIT)
    (tmp_path / "m").chmod(0)
    try:
        assert main(["runs", str(tmp_path)]) == 0
    finally:
        (tmp_path / "m").chmod(0o700)
    assert f"{tmp_path / 'm'}: cannot be read" in capsys.readouterr().err


def test_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1", FIT, METRICS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["runs", str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_no_folder_and_no_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "runs: no such folder" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "no runs in runs\n"


def test_many_figures_are_counted_and_limits_stand_with_theirs() -> None:
    figures = {f"test/iou_class{k}": k / 10 for k in range(9)} | {"test/iou_class0_lo": 0.0}
    text = figures_text(figures, {})
    assert text.endswith("test/iou_class5 0.5, 3 more; seen: none")


def test_it_imports_nothing_heavy_and_bears_a_closed_pipe(tmp_path: Path) -> None:
    write(tmp_path / "m" / "1", FIT, METRICS)
    code = (
        "import os, sys; from lightning_app.cli import main; "
        "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1); "
        "status = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "runs", str(tmp_path)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100000, b"7", bytes(range(256)), None])
@pytest.mark.parametrize("file", ["run.json", "metrics.csv", "run.lock", "config.yaml"])
def test_a_damaged_run_is_listed_beside_others(
    tmp_path: Path, file: str, content: bytes | None, capsys: Captured
) -> None:
    write(tmp_path / "m" / "1", FIT, METRICS)
    damaged = write(tmp_path / "m" / "2", FIT, METRICS)
    (damaged / "config.yaml").write_text("model: {}\n")
    (damaged / file).unlink(missing_ok=True)
    if content is None:
        (damaged / file).mkdir()
    else:
        (damaged / file).write_bytes(content)
    assert main(["runs", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "m/1  fit   finished  step 20 of 20  val/dice 0.75 at step 15" in told
    assert "m/2" in told
    assert ("broken" in told) == (file == "run.json")


def test_rows_without_a_step_in_numbers_are_no_step(tmp_path: Path) -> None:
    rows = "step,val/dice\nnan,0.9\ninf,0.8\n1e999,0.7\n4,0.5\n"
    record = {key: value for key, value in FIT.items() if key != "last_step"}
    assert summary_of(write(tmp_path / "a", record, rows)).step == 5
