"""A run whose disk fails says so in one error, and goes on from there once the disk is mended.

Real disks are tmpfs, which only root may mount; the same tests run with files that pretend.
"""

import errno
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from callbacks.files import TEMPORARY, temporary_of
from lightning_app.cli import main
from lightning_app.quiet import quiet
from lightning_app.senders import RunTensorBoardLogger
from tests.callbacks.toys import ToyDataModule, ToyModule, trainer_in
from tests.lightning_app.test_loggers import rows
from tests.lightning_app.toys import ARGS, HERE, AtStep

Captured = pytest.CaptureFixture[str]
Fault = Literal["full", "read-only"]
STEPS = 6
FIT = [
    *("fit", *ARGS, "--model", f"{HERE}.OwnBatches", "--trainer.callbacks", f"{HERE}.AtStep"),
    *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", "2"),
    *("--trainer.check_val_every_n_epoch", "null", "--run_root"),
]


class Tmpfs:
    """A real disk of 256 KiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("this system has no mount")
        if done.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")

    def _remount(self, way: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{way}", str(self.folder)], check=True)

    def fail(self, fault: Fault) -> None:
        if fault == "read-only":
            self._remount("ro")
            return
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def mend(self) -> None:
        self._remount("rw")
        (self.folder / "filler").unlink(missing_ok=True)

    def remove(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)


class Pretended:
    """Files that fail as they would on such a disk; `only` limits it to names with this part."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.only = ""
        self._patch = pytest.MonkeyPatch()

    def fail(self, fault: Fault) -> None:
        number = errno.EROFS if fault == "read-only" else errno.ENOSPC
        only = self.only

        class Failing(io.FileIO):
            def __init__(self, name: Any, mode: str) -> None:
                if number == errno.EROFS and only in str(name):
                    raise OSError(number, os.strerror(number), str(name))
                super().__init__(name, mode)

            def write(self, data: Any) -> int:
                if only in str(self.name):
                    raise OSError(number, os.strerror(number))
                return super().write(data)

        self._patch.setattr(io, "FileIO", Failing)

    def mend(self) -> None:
        self._patch.undo()

    remove = mend


FAST = {("tmpfs", "full", 0), ("tmpfs", "read-only", 3), ("pretended", "full", 1)}
Disk = Tmpfs | Pretended
DISKS: dict[str, type[Disk]] = {"tmpfs": Tmpfs, "pretended": Pretended}


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made: Disk = DISKS[request.param](tmp_path / "disk")
    yield made
    AtStep.does = None
    made.mend()
    made.remove()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing befell."""
    root = tmp_path_factory.mktemp("whole")
    assert main([*FIT, str(root)]) == 0
    return only_run(root)


def only_run(root: Path) -> Path:
    (run,) = (root / "OwnBatches").iterdir()
    return run


def failing_at(step: int, fault: Fault, disk: Disk) -> None:
    AtStep.step, AtStep.does = step, lambda: disk.fail(fault)


def told_once(capsys: Captured, *words: str) -> None:
    error = capsys.readouterr().err
    assert error.count("error:") == 1, error
    assert "Traceback" not in error
    for word in words:
        assert word in error


def is_tidy(root: Path) -> bool:
    """Whether nothing was left of a write that failed."""
    files = [path for path in root.rglob("*") if path.is_file()]
    empty = [path for path in files if not path.stat().st_size and path.name != "run.lock"]
    return not empty and not [path for path in files if path.name.endswith(TEMPORARY)]


def saved(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def assert_same(run: Path, other: Path) -> None:
    for name in ("last", "best"):
        ours, theirs = saved(run, name), saved(other, name)
        assert ours["global_step"] == theirs["global_step"]
        for key, tensor in theirs["state_dict"].items():
            assert torch.equal(ours["state_dict"][key], tensor), key
        assert ours["optimizer_states"] == theirs["optimizer_states"]
    assert [without_blanks(row) for row in rows(run)] == [without_blanks(r) for r in rows(other)]


def without_blanks(row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if value}


CASES = [
    # One of each kind of disk and of each fault is fast.
    pytest.param(kind, fault, step, marks=[] if (kind, fault, step) in FAST else pytest.mark.slow)
    for kind in DISKS
    for fault in ("full", "read-only")
    for step in (0, 1, 3)
]


@pytest.mark.parametrize(("disk", "fault", "step"), CASES, indirect=["disk"])
def test_a_run_goes_on_where_its_disk_failed(
    disk: Disk, fault: Fault, step: int, whole: Path, capsys: Captured
) -> None:
    """At the first checkpoint, at the second, at one that a validation comes before."""
    root = disk.folder / "runs"
    failing_at(step, fault, disk)
    words = "no space is left" if fault == "full" else "read-only"
    assert main([*FIT, str(root)]) == 2
    run = only_run(root)
    told_once(capsys, words, str(run), "--resume auto")
    assert is_tidy(run)
    assert (run / "checkpoints" / "last.ckpt").is_file() == (step > 0)
    assert step == 0 or saved(run, "last")["global_step"] == step
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if fault == "read-only":  # it could not be removed; another process would see it is dead
        disk.mend()
        before.pop(run / "run.lock", None)
        (run / "run.lock").unlink(missing_ok=True)
        disk.fail(fault)

    assert main([*FIT, str(root), "--resume", "auto"]) == 2
    told_once(capsys, words, str(run))
    assert is_tidy(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    AtStep.does = None
    disk.mend()
    assert main([*FIT, str(root), "--resume", "auto"]) == 0
    assert only_run(root) == run
    assert [path.name for path in sorted(run.glob("config*"))] == ["config.2.yaml", "config.yaml"]
    assert_same(run, whole)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty second config": lambda run: (run / "config.2.yaml").write_bytes(b""),
    "cut config": lambda run: cut(run / "config.yaml", 0.5),
    "no config": lambda run: (run / "config.yaml").unlink(),
    "empty record": lambda run: cut(run / "run.json", 0),
    "cut record": lambda run: cut(run / "run.json", 0.5),
    "cut checkpoint": lambda run: cut(run / "checkpoints" / "last.ckpt", 0.5),
    "damaged lock": lambda run: (run / "run.lock").write_bytes(b"\0" * 50),
}


@pytest.mark.parametrize("disk", ["pretended"], indirect=True)
def test_damaged_siblings_keep_no_run_from_going_on(
    disk: Pretended, whole: Path, capsys: Captured
) -> None:
    """All of them newer than the run whose disk failed."""
    root = disk.folder / "runs"
    failing_at(1, "full", disk)
    assert main([*FIT, str(root)]) == 2
    disk.mend()
    run = only_run(root)
    for number, damage in enumerate(DAMAGES.values()):
        sibling = run.with_name(f"99990101-00000{number}")
        shutil.copytree(run, sibling)
        record = json.loads((sibling / "run.json").read_text())
        (sibling / "run.json").write_text(json.dumps(record | {"started": f"9999-{number}"}))
        damage(sibling)
    disk.fail("full")
    capsys.readouterr()
    assert main([*FIT, str(root), "--resume", "auto"]) == 2
    told_once(capsys, str(run), "no space is left")
    AtStep.does = None
    disk.mend()
    assert main([*FIT, str(root), "--resume", "auto"]) == 0
    assert_same(run, whole)


@pytest.mark.parametrize("disk", DISKS, indirect=True)
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_run_that_cannot_begin_leaves_nothing(fault: Fault, disk: Disk, capsys: Captured) -> None:
    (disk.folder / "runs" / "OwnBatches").mkdir(parents=True)
    disk.fail(fault)
    assert main([*FIT, str(disk.folder / "runs")]) == 2
    told_once(capsys, "no space is left" if fault == "full" else "read-only")
    assert not list((disk.folder / "runs" / "OwnBatches").iterdir())


@pytest.mark.parametrize("disk", ["pretended"], indirect=True)
@pytest.mark.parametrize(
    ("only", "state"), [("last.ckpt", "failed"), ("metrics.csv", "failed"), ("run.json", "running")]
)
def test_the_record_says_what_ended_the_run(
    only: str, state: str, disk: Pretended, whole: Path, capsys: Captured
) -> None:
    """Where the record itself cannot be written the command says so."""
    root = disk.folder / "runs"
    disk.only = only
    failing_at(3, "full", disk)
    assert main([*FIT, str(root)]) == 2
    run = only_run(root)
    told_once(capsys, f"{run}", only, "no space is left")
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == state
    assert state == "running" or only in record["error"]
    assert not (run / "run.lock").exists()
    assert is_tidy(run)


@pytest.mark.parametrize("disk", ["pretended"], indirect=True)
def test_a_full_disk_at_the_end_does_not_hide_what_came_before(
    disk: Pretended, capsys: Captured
) -> None:
    def fails() -> None:
        disk.fail("full")
        raise torch.OutOfMemoryError("CUDA out of memory")

    AtStep.step, AtStep.does = 2, fails
    assert main([*FIT, str(disk.folder)]) == 2
    told_once(capsys, "CUDA out of memory", "data.init_args.batch_size")


def test_what_a_killed_launch_was_writing_is_removed_at_the_next(
    tmp_path: Path, whole: Path
) -> None:
    AtStep.step, AtStep.does = 3, killed
    with pytest.raises(Killed):
        main([*FIT, str(tmp_path)])
    AtStep.does = None
    run = only_run(tmp_path)
    for path in (run / "config.2.yaml", run / "checkpoints" / "last.ckpt", run / "samples" / "x"):
        path.parent.mkdir(exist_ok=True)
        temporary_of(path).write_bytes(b"half")
    (run / ".notes.tmp").write_text("mine")
    with (run / "metrics.csv").open("ab") as table:
        table.write(b"0.1")
    assert main([*FIT, str(tmp_path), "--resume", "auto"]) == 0
    assert is_tidy(run)
    assert (run / ".notes.tmp").read_text() == "mine"
    assert_same(run, whole)


class Killed(RuntimeError):
    """Stands for SIGKILL: nothing of ours knows it."""


def killed() -> None:
    raise Killed


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)
def test_tensorboard_on_a_full_disk_fails_without_a_traceback(
    disk: Tmpfs, capsys: Captured
) -> None:
    with quiet():
        logger = RunTensorBoardLogger(disk.folder, name="", version="")
        logger.log_metrics({"train/loss": 0.5}, 0)
        logger.experiment.flush()
        disk.fail("full")
        with pytest.raises(Exception, match="you tried to log") as caught:
            log_until_it_fails(logger)
        assert isinstance(caught.value.__cause__, OSError)
        logger.finalize("failed")
    assert "Traceback" not in capsys.readouterr().err


def log_until_it_fails(logger: RunTensorBoardLogger) -> None:
    for step in range(100000):
        logger.log_metrics({f"train/{step % 50}" * 20: 0.5}, step)
        if step % 100 == 0:
            logger.experiment.add_text("x", "y" * 5000, step)


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)
@pytest.mark.parametrize("room", [2, 6, 10])
def test_predictions_are_completed_on_a_disk_with_space(room: int, disk: Tmpfs) -> None:
    """The disk takes `room` pages of 4 KiB more; what is listed is whole and is kept."""
    run = disk.folder / "run"
    run.mkdir()
    disk.fail("full")
    os.truncate(disk.folder / "filler", (disk.folder / "filler").stat().st_size - room * 4096)
    with pytest.raises(OSError, match="No space left"):
        predict(run)
    assert is_tidy(run)
    disk.mend()
    predict(run)
    newest = max(run.glob("predictions*"))
    lines = [json.loads(line) for line in (newest / "manifest.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert all((newest / file).stat().st_size for line in lines for file in line["files"])


def predict(run: Path) -> None:
    from callbacks import PredictionWriter

    trainer_in(run, PredictionWriter()).predict(
        ToyModule(), datamodule=ToyDataModule(), return_predictions=False
    )
