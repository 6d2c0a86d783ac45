"""A run directory is held by one live process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_app.errors import UsageError
from lightning_app.holder import HEARTBEAT_SECONDS, NAME, holder_of, identity

if TYPE_CHECKING:
    from lightning_app.process import Launch

SETTLE_SECONDS = 2.0
"""Where a file system has no locks, whoever wrote last has the run; after this long nobody writes
any more who had found it free."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})


class HeldError(UsageError):
    """A live process holds a run; trying again later may do, which the exit status says."""

    exit_status = os.EX_TEMPFAIL


class RunLock:
    """The lock file of a run directory: host, pid, job; its time of change is the heartbeat.

    Args:
        directory: The run directory.
        launch: The launch that this process belongs to.
    """

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.path = directory / NAME
        self._launch = launch
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Takes the lock and keeps its heart beating.

        Raises:
            HeldError: If a live process holds it; names the process.
            UsageError: If there can be no lock of that name.
        """
        while not self._try():
            pass
        threading.Thread(target=self._beat, daemon=True, name="run-lock").start()

    def _try(self) -> bool:
        """Takes the lock; False where its file was removed in the meantime."""
        made = self._make()
        with self._open() as number:
            locked = _locked(number)
            # Whoever released the lock in between removed the file that is open here.
            if not self._is_there(number):
                return False
            # Empty, it would be taken for a damaged one.
            holder = None if made else holder_of(self.path.parent, self._launch)
            if holder is not None:
                raise self._held_by(holder)
            self._write(number, made)
        if not locked:
            time.sleep(SETTLE_SECONDS)
            if not self._is_mine():
                raise self._held_by(holder_of(self.path.parent, self._launch) or "another process")
        return True

    def _write(self, number: int, made: bool) -> None:
        content = json.dumps(identity(self._launch) | {"token": self._token}).encode()
        try:
            os.pwrite(number, content, 0)
            os.ftruncate(number, len(content))
        except OSError:  # the disk is full
            if made:
                self.path.unlink(missing_ok=True)
            raise

    def _make(self) -> bool:
        """Makes the file; False where there is one, which then is another's."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        try:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ELOOP):
                raise
            raise UsageError(
                f"{self.path}: is no file, so that the run cannot be locked; remove it"
            ) from error
        try:
            yield number
        finally:
            os.close(number)

    def _is_there(self, number: int) -> bool:
        try:
            return os.path.samestat(os.fstat(number), self.path.stat())
        except FileNotFoundError:
            return False

    def _held_by(self, holder: str) -> HeldError:
        return HeldError(f"{self.path.parent}: held by {holder}; wait for it or end it")

    def _is_mine(self) -> bool:
        """Whether the file is still that of this process.

        Raises:
            OSError: If it cannot be read.
        """
        try:
            content: Any = json.loads(self.path.read_bytes())
        except ValueError:
            return False
        return isinstance(content, dict) and content.get("token") == self._token

    def _beat(self) -> None:
        told = False
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if not self._is_mine():
                    _tell(f"{self.path}: another process has taken this run over; end one of them")
                    return
                os.utime(self.path)
                told = False
            except FileNotFoundError:  # the directory is gone, and with it what this guards
                return
            except OSError as error:  # it may pass, as when a file server comes back
                if not told:
                    _tell(
                        f"{self.path}: cannot be touched ({error.strerror}); on other machines "
                        "this run will be taken for dead"
                    )
                told = True

    def release(self) -> None:
        """Gives the run directory free, unless another process has taken it over."""
        self._stop.set()
        with contextlib.suppress(OSError):
            if self._is_mine():
                self.path.unlink()


def _locked(number: int) -> bool:
    """Waits for the lock of an open file; False where the file system has none."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _tell(text: str) -> None:
    from lightning.pytorch.utilities import rank_zero_warn

    rank_zero_warn(text)
