"""Mistakes of a user, told in a few lines; everything else keeps its traceback."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from typing import ClassVar

from lightning_app.system_errors import told

MAX_LINES = 16
MAX_LETTERS = 1500
"""Of a line; the longest lists of ours are shorter."""
OURS = frozenset({"lightning_app", "callbacks", "data_modules", "meddiff"})

_IN_WORKER = re.compile(r"Caught \S+ in DataLoader worker process \d+\.")
_LAST_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): ", re.MULTILINE)


class UsageError(ValueError):
    """What was given to the command is wrong; the message says what, and how to put it right."""

    exit_status: ClassVar[int] = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known word, or nothing."""
    names = list(known)
    lowered = {name.lower(): name for name in names}
    near = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.55)
    return f"; did you mean {lowered[near[0]]!r}?" if near else ""


def describe(error: BaseException) -> str | None:
    """What to print for an error, or None where it needs its traceback."""
    text = _text(error)
    if text is None:
        return None
    if not text.isascii():
        from data_modules.names import escaped

        text = escaped(text)
    lines = [_cut(line.rstrip()) for line in text.strip().splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"... and {len(lines) - MAX_LINES} more lines"]
    return "\n".join([f"error: {lines[0] if lines else type(error).__name__}", *lines[1:]])


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LETTERS else f"{line[:MAX_LETTERS]}..."


def _text(error: BaseException) -> str | None:
    if _is_out_of_memory(error):
        return (
            f"out of memory: {str(error).splitlines()[0] if str(error) else 'of the machine'}\n"
            "Lower data.init_args.batch_size and raise trainer.accumulate_grad_batches by as much, "
            "or take a smaller data.init_args.image_size or model.init_args.preset"
        )
    if isinstance(error, UsageError) or _is_misconfiguration(error) or _is_guard_stop(error):
        return str(error)
    if isinstance(error, (ValueError, FileNotFoundError)) and _raised_by_us(error):
        return _without_worker_traceback(str(error))
    if (text := told(error)) is not None:
        return text
    # jsonargparse wraps what a class raises when it is made from the config.
    return None if error.__cause__ is None else _text(error.__cause__)


def _without_worker_traceback(text: str) -> str:
    """A data loader's worker sends its error as text, with the traceback in it."""
    if not _IN_WORKER.match(text):
        return text
    ends = [match.end() for match in _LAST_ERROR.finditer(text)]
    return text[ends[-1] :] if ends else text


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _is_misconfiguration(error: BaseException) -> bool:
    # By name: Lightning need not have been imported where the error is another one.
    return type(error).__name__ == "MisconfigurationException"


def _is_guard_stop(error: BaseException) -> bool:
    guard = sys.modules.get("callbacks.guard")
    return guard is not None and isinstance(error, guard.NonFiniteLossError)


def _raised_by_us(error: BaseException) -> bool:
    """Whether our code raised it, which it does for mistakes; a library's ValueError is a bug."""
    if type(error).__module__.split(".")[0] in OURS:
        return True
    traceback = error.__traceback__
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return module.split(".")[0] in OURS
