import errno
import io
import os
import sys
from pathlib import Path

import pytest

from lightning_app.cli import main
from lightning_app.errors import describe
from lightning_app.system_errors import name_place
from tests.lightning_app.conftest import Command

Captured = pytest.CaptureFixture[str]

CAUSES = [
    ("ENOSPC", "no space is left", "df -h"),
    ("EDQUOT", "quota", "quota -s"),
    ("EFBIG", "larger than is allowed", "ulimit -f"),
    ("EROFS", "read-only", "mounted for writing"),
    ("EACCES", "permission is denied", "ls -ld"),
    ("EPERM", "permission is denied", "ls -ld"),
    ("ENAMETOOLONG", "too long", "shorter"),
    ("EIO", "does not answer", "dmesg"),
    ("ESTALE", "does not answer", "dmesg"),
    ("ENODEV", "does not answer", "dmesg"),
    ("ENXIO", "does not answer", "dmesg"),
    ("ENOTCONN", "does not answer", "dmesg"),
    ("ENOTDIR", "a file is where a folder", "Move"),
    ("EEXIST", "a file is where a folder", "Move"),
    ("EISDIR", "a file is where a folder", "Move"),
    ("ELOOP", "in a circle", "Remove"),
    ("EBUSY", "in use", "fuser"),
    ("EMFILE", "too many files", "ulimit -n"),
    ("ENFILE", "too many files", "ulimit -n"),
    ("ENOMEM", "no memory", "batch_size"),
]


def error_of(name: str, file: str | None) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(("name", "cause", "remedy"), CAUSES)
def test_a_system_error_names_file_cause_and_remedy(name: str, cause: str, remedy: str) -> None:
    text = describe(error_of(name, "/nowhere/runs/x/last.ckpt"))
    assert text is not None
    first, second = text.splitlines()
    assert first.startswith("error: /nowhere/runs/x/last.ckpt: ")
    assert cause in first
    assert os.strerror(getattr(errno, name)) in first
    assert remedy in second
    assert "{" not in text


def test_the_folder_that_is_looked_at_is_there(tmp_path: Path) -> None:
    text = describe(error_of("ENOSPC", str(tmp_path / "not" / "yet" / "last.ckpt")))
    assert text is not None
    assert f"`df -h {tmp_path}`" in text


def test_what_is_no_fault_of_a_disk_keeps_its_traceback() -> None:
    assert describe(error_of("ECONNREFUSED", None)) is None
    assert describe(error_of("EPERM", None)) is None
    assert describe(OSError("a library's own")) is None
    assert describe(RuntimeError("unexpected pos 64 vs 0")) is None


def test_an_error_behind_another_one_is_found() -> None:
    try:
        try:
            raise error_of("ENOSPC", None)
        except OSError as cause:
            raise ValueError("you tried to log 0.1") from cause
    except ValueError as error:
        name_place(error, Path("runs/x"))
        text = describe(error)
    assert text is not None
    assert text.startswith("error: runs/x: no space is left")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "DataLoader worker (pid(s) 7) is killed by signal: Bus error. It is possible that",
            "--shm-size",
        ),
        ("unable to write to file </torch_7_1_0>: No space left on device (28)", "--shm-size"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "num_workers"),
        ("received 0 items of ancdata", "ulimit -n"),
        ("unable to open shared memory object </torch_1>: Too many open files (24)", "ulimit -n"),
        ("[pair.cc:561] Connection closed by peer [127.0.0.1]:33182.", "another process"),
        ("NCCL error ...\nremote process exited or there was a network error", "another process"),
    ],
)
def test_what_ended_a_process_beside_this_one(text: str, expected: str) -> None:
    told = describe(RuntimeError(text))
    assert told is not None
    assert expected in told


def test_a_full_folder_for_temporary_files_is_told() -> None:
    found = "No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp', '/work']"
    assert "TMPDIR" in (describe(FileNotFoundError(errno.ENOENT, found)) or "")


def test_a_workers_error_is_told_as_its_own() -> None:
    text = (
        "Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "x.py", line 3, in f\n    open(x)\n'
        "OSError: [Errno 5] Input/output error: '/data/a.png'\n"
    )
    told = describe(OSError(text))
    assert told is not None
    assert told.startswith("error: /data/a.png: the disk or its server does not answer")


ROOTS = [
    ("file", "--run_root file: is a file"),
    ("x" * 300, "a name of 300 bytes"),
    ("/proc/runs", "no folder can be made there"),
]


@pytest.mark.parametrize(("root", "expected"), ROOTS)
def test_a_run_root_that_cannot_be_is_told(
    root: str, expected: str, toy: Command, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("")
    assert toy("fit", "--trainer.max_steps", "1", "--run_root", root) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.meddiff-tmp"))


def test_a_command_whose_output_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(
            sys, "stdout", io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True)
        )
        assert main(["runs", str(tmp_path)]) == 2
    assert "no space is left" in capsys.readouterr().err


def test_phantoms_below_a_file_are_refused(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    assert main(["phantom", "isic", "--root", str(tmp_path / "file" / "x"), "--num", "1"]) == 2
    assert "is a file, and nothing can lie in it" in capsys.readouterr().err
