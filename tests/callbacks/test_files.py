import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.files import (
    AtomicCheckpointIO,
    append_lines,
    atomic_write,
    naming,
    remove_temporaries,
    temporary_of,
)
from tests.callbacks.test_final_validation import FALLING, fit

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
WRITERS: dict[str, Callable[[BinaryIO], Any]] = {
    "bytes": lambda file: file.write(bytes(9000)),
    "npy": lambda file: np.save(file, NOISE),
    "npz": lambda file: np.savez(file, noise=NOISE),
    "png": lambda file: Image.fromarray(NOISE).save(file, "PNG"),
}


def fill(monkeypatch: pytest.MonkeyPatch, room: int, number: int = errno.ENOSPC) -> None:
    """Lets every file take `room` bytes more, as a disk does that fills."""
    left = {"bytes": room}

    class Filling(io.FileIO):
        def write(self, data: Any) -> int:
            wanted = memoryview(data).nbytes
            if not left["bytes"] and wanted:
                raise OSError(number, os.strerror(number))
            done = super().write(memoryview(data).cast("B")[: left["bytes"]])
            left["bytes"] -= done
            return done

    monkeypatch.setattr(io, "FileIO", Filling)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("room", [0, 5000])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there(
    writer: str, room: int, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "a.bin"
    if there:
        with atomic_write(path) as file:
            file.write(b"earlier")
    fill(monkeypatch, room)
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path) as file:
        WRITERS[writer](file)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert [p.name for p in path.parent.iterdir()] == (["a.bin"] if there else [])
    assert not there or path.read_bytes() == b"earlier"


@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_checkpoint_on_a_full_disk_says_so(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    fill(monkeypatch, room)
    with pytest.raises(OSError, match="No space left") as caught:
        AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(20000)}, path)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True) == {"step": 1}


@pytest.mark.parametrize("leaving", [SystemExit(143), KeyboardInterrupt()])
def test_who_leaves_while_a_checkpoint_is_written_does_leave(
    leaving: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaving(io.FileIO):
        def write(self, data: Any) -> int:
            raise leaving

    monkeypatch.setattr(io, "FileIO", Leaving)
    with pytest.raises(type(leaving)):
        AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(20000)}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_torch_is_no_error_of_what_it_is_saved_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("of torch")

    monkeypatch.setattr(torch, "save", fails)
    try:
        raise OSError(errno.EIO, "before")
    except OSError:
        with pytest.raises(RuntimeError, match="of torch"):
            AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")


def test_what_torch_itself_finds_wrong_stays_its_error(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"f": lambda: None}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leaving", [SystemExit(143), KeyboardInterrupt(), ValueError("odd")])
@pytest.mark.parametrize("full", [False, True])
def test_who_leaves_in_a_write_leaves_nothing(
    leaving: BaseException, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if full:  # what waits in the buffer then cannot be written either
        fill(monkeypatch, 0)

    def leave() -> None:
        with atomic_write(tmp_path / "a.png") as file:
            file.write(b"half")
            raise leaving

    with pytest.raises(type(leaving)):
        leave()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_after_the_last_byte_leaves_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def fails(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fails)
    with pytest.raises(OSError, match="Input/output error") as caught, atomic_write(path) as file:
        file.write(b"new")
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "a.png"):
        (tmp_path / "source.png").read_bytes()
    assert caught.value.filename == str(tmp_path / "source.png")
    with pytest.raises(OSError, match="Input/output error") as unnamed, naming(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
    assert unnamed.value.filename == str(tmp_path)


def test_a_name_that_is_too_long_is_told_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    with pytest.raises(OSError, match="too long") as caught, atomic_write(path):
        pass
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, str(path))


def test_the_rights_of_a_file_are_those_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_line_cut_short_is_replaced(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lines"
    append_lines(path, "one\r\ntwo\r\n")
    append_lines(path, "three\r\n")
    whole = path.read_bytes()
    path.write_bytes(whole[: len("one\r\ntwo\r\n") + 7 - cut] if cut < 8 else b"on")
    append_lines(path, "four\r\n")
    assert path.read_bytes() == (b"one\r\ntwo\r\nfour\r\n" if cut < 8 else b"four\r\n")


@pytest.mark.parametrize("room", [0, 3])
def test_lines_that_do_not_fit_leave_no_part(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    append_lines(path, "one\n")
    fill(monkeypatch, room)
    with pytest.raises(OSError, match="No space left") as caught:
        append_lines(path, "two\n")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"one\n"


def test_only_our_own_temporaries_are_removed(tmp_path: Path) -> None:
    kept = [
        *("run.json", ".notes.tmp", "a.meddiff-tmp", ".last.ckpt.tmp", ".a.meddiff-tmp.txt"),
        *("checkpoints/last.ckpt", "predictions/.planes/000001_mask.npy"),
    ]
    ours = [tmp_path / "checkpoints" / "last.ckpt", tmp_path / "predictions/.planes/2.npy"]
    for path in [*(tmp_path / name for name in kept), *map(temporary_of, ours)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / ".folder.meddiff-tmp").mkdir()
    remove_temporaries(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert (tmp_path / ".folder.meddiff-tmp").is_dir()


def test_a_best_checkpoint_that_cannot_be_replaced_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run ends with its best, the one before gives way only once the new one is there."""
    write = AtomicCheckpointIO.save_checkpoint

    def full(self: AtomicCheckpointIO, checkpoint: Any, path: Any, **more: Any) -> None:
        if Path(path).name == "best.ckpt" and checkpoint["global_step"] == 7:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(self, checkpoint, path, **more)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path, FALLING, max_steps=7)
    left = {
        path.name: torch.load(path, weights_only=True)["global_step"]
        for path in (tmp_path / "checkpoints").iterdir()
    }
    assert left == {"best.ckpt": 4, "last.ckpt": 7}
