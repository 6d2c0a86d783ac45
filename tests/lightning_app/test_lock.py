"""Who holds a run: processes here and elsewhere, clocks that jump, file systems without locks."""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightning_app import holder, lock
from lightning_app.errors import UsageError
from lightning_app.holder import NAME, STALE_SECONDS, holder_of
from lightning_app.lock import HeldError, RunLock
from lightning_app.process import Launch

ALONE = Launch()


def write_lock(directory: Path, **changes: object) -> None:
    held = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "slurm_job": None,
        "slurm_restart": "0",
        "launch": None,
    }
    (directory / NAME).write_text(json.dumps(held | changes))


def test_a_live_process_holds_its_run(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, ALONE)
    lock.acquire()
    with pytest.raises(UsageError, match=f"held by process {os.getpid()}"):
        RunLock(tmp_path, ALONE).acquire()
    lock.release()
    assert not (tmp_path / NAME).exists()
    RunLock(tmp_path, ALONE).acquire()


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),
        ({"process_started": 1.0}, False),  # another process has its number now
        ({"host": "elsewhere", "pid": 1}, True),
        ({"launch": "slurm-7.0-r0"}, True),
    ],
)
def test_who_holds_a_run(tmp_path: Path, changes: dict[str, object], held: bool) -> None:
    write_lock(tmp_path, **changes)
    assert (holder_of(tmp_path, ALONE) is not None) == held


def test_a_silent_holder_elsewhere_is_taken_for_dead(tmp_path: Path) -> None:
    write_lock(tmp_path, host="elsewhere")
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(tmp_path / NAME, (long_ago, long_ago))
    assert holder_of(tmp_path, ALONE) is None
    RunLock(tmp_path, ALONE).acquire()


def test_processes_of_one_job_do_not_lock_each_other_out(tmp_path: Path) -> None:
    write_lock(tmp_path, launch="slurm-7.0-r0")
    assert holder_of(tmp_path, Launch(1, "slurm-7.0-r0")) is None
    assert holder_of(tmp_path, Launch(1, "slurm-8.0-r0")) is not None


def test_a_requeued_job_does_not_wait_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(tmp_path, host="elsewhere", slurm_job="7", slurm_restart="0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert holder_of(tmp_path, ALONE) is not None, "another step of the same job"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert holder_of(tmp_path, ALONE) is None


def test_a_job_that_named_none_is_not_another_without_a_name(tmp_path: Path) -> None:
    write_lock(tmp_path)
    assert holder_of(tmp_path, Launch(0, None)) is not None


@pytest.fixture
def short_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "WATCH_SECONDS", 0.5)


def set_beat(directory: Path, seconds: float) -> None:
    """Sets the time of a heartbeat, in seconds from now."""
    then = time.time() + seconds
    os.utime(directory / NAME, (then, then))


@pytest.mark.usefixtures("short_watch")
def test_a_lock_from_the_future_that_does_not_beat_is_of_a_dead_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_lock(tmp_path, host="elsewhere")
    set_beat(tmp_path, 86400)
    assert holder_of(tmp_path, ALONE) is None
    RunLock(tmp_path, ALONE).acquire()
    told = [text for text in caplog.messages if "is in the future" in text]
    assert len(told) == 1, "it is watched once"


@pytest.mark.usefixtures("short_watch")
@pytest.mark.parametrize("beat", [86430, 0])
def test_a_lock_from_the_future_that_beats_is_held(tmp_path: Path, beat: float) -> None:
    write_lock(tmp_path, host="elsewhere", pid=5)
    set_beat(tmp_path, 86400)
    threading.Timer(0.2, set_beat, (tmp_path, beat)).start()
    assert holder_of(tmp_path, ALONE) == "process 5 on elsewhere"


@pytest.mark.usefixtures("short_watch")
@pytest.mark.parametrize("launch", [None, "slurm-7.0-r0"])
def test_a_watched_lock_that_is_given_free_or_taken_by_the_own_job(
    tmp_path: Path, launch: str | None
) -> None:
    write_lock(tmp_path, host="elsewhere")
    set_beat(tmp_path, 86400)

    def end() -> None:
        if launch is None:
            (tmp_path / NAME).unlink()
        else:
            write_lock(tmp_path, host="elsewhere", launch=launch)

    threading.Timer(0.2, end).start()
    assert holder_of(tmp_path, Launch(1, "slurm-7.0-r0")) is None


def test_who_only_looks_does_not_wait(tmp_path: Path) -> None:
    write_lock(tmp_path, host="elsewhere")
    set_beat(tmp_path, 86400)
    began = time.monotonic()
    assert holder_of(tmp_path, None) is not None
    assert time.monotonic() - began < 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_a_clock_here_that_is_wrong_says_nothing_of_a_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    write_lock(tmp_path, host="elsewhere")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    assert holder_of(tmp_path, ALONE) is not None
    long_ago = right() - STALE_SECONDS - 1
    os.utime(tmp_path / NAME, (long_ago, long_ago))
    assert holder_of(tmp_path, ALONE) is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells ticks")
def test_a_jump_of_the_clock_does_not_end_a_process_here(tmp_path: Path) -> None:
    RunLock(tmp_path, ALONE).acquire()
    held = json.loads((tmp_path / NAME).read_text())
    # The system reckons the time of a start from the clock of now.
    write_lock(tmp_path, **held | {"process_started": held["process_started"] + 3600})
    assert holder_of(tmp_path, ALONE) is not None
    write_lock(tmp_path, **held | {"process_ticks": held["process_ticks"] - 1})
    assert holder_of(tmp_path, ALONE) is None


@pytest.mark.parametrize("place", ["boot", "pid_namespace"])
def test_a_container_or_machine_of_the_same_name_is_elsewhere(tmp_path: Path, place: str) -> None:
    write_lock(tmp_path, pid=2**22 + 1, **{place: "another"})
    assert holder_of(tmp_path, ALONE) is not None
    set_beat(tmp_path, -STALE_SECONDS - 1)
    assert holder_of(tmp_path, ALONE) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"7", bytes(range(256)), b'{"host": 3}', b'{"host": "x"}']
)
def test_a_damaged_lock_is_held_as_long_as_one_may_beat(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(HeldError, match=r"a process that is not known, since run\.lock is damaged"):
        RunLock(tmp_path, ALONE).acquire()
    set_beat(tmp_path, -STALE_SECONDS - 1)
    RunLock(tmp_path, ALONE).acquire()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("gone")])
def test_what_is_no_file_cannot_be_a_lock(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / NAME)
    with pytest.raises(UsageError, match=r"run\.lock: is no file.*remove it") as error:
        RunLock(tmp_path, ALONE).acquire()
    assert error.value.exit_status == 2


@pytest.mark.parametrize("has_locks", [True, False])
def test_of_several_at_one_moment_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool
) -> None:
    if not has_locks:
        without_locks(monkeypatch)
    barrier = threading.Barrier(6)

    def race(number: int) -> bool:
        barrier.wait()
        try:
            RunLock(tmp_path, ALONE).acquire()
        except HeldError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(race, range(6))) == 1
    assert holder_of(tmp_path, ALONE) is not None


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, as a network's may be."""

    def refuse(number: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.3)


def test_a_full_disk_leaves_no_empty_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        RunLock(tmp_path, ALONE).acquire()
    assert not (tmp_path / NAME).exists()


def test_a_heart_goes_on_beating_after_a_time_without_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    touch, failures = os.utime, [1, 2]

    def fails_twice(*args: Any, **kwargs: Any) -> None:
        if failures:
            failures.pop()
            raise OSError(errno.EIO, "Input/output error")
        touch(*args, **kwargs)

    monkeypatch.setattr(os, "utime", fails_twice)
    own = RunLock(tmp_path, ALONE)

    def beats() -> bool:
        own.acquire()
        before = (tmp_path / NAME).stat().st_mtime_ns
        until = time.monotonic() + 5
        while (tmp_path / NAME).stat().st_mtime_ns == before and time.monotonic() < until:
            time.sleep(0.02)
        return time.monotonic() < until

    with pytest.warns(UserWarning, match="cannot be touched"):
        assert beats()
    own.release()
    assert not failures


def test_a_lock_that_another_took_over_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)
    own = RunLock(tmp_path, ALONE)

    def lose() -> int:
        own.acquire()
        write_lock(tmp_path, host="elsewhere")
        set_beat(tmp_path, -100)
        before = (tmp_path / NAME).stat().st_mtime_ns
        time.sleep(0.3)
        return before

    with pytest.warns(UserWarning, match="another process has taken this run over"):
        before = lose()
    own.release()
    assert (tmp_path / NAME).stat().st_mtime_ns == before
