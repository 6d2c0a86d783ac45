"""Errors before a command has begun its work: a few lines, since they follow from what was given.

What our code and Lightning refuse says so itself. All else that a library raises while a command
is parsed and its classes are made (absurd sizes, wrong types) is told here, with its likeliest key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType

from lightning_app.errors import UsageError, describe

VARIABLE = "MEDDIFF_TRACEBACK"
"""Set to anything but 0, errors keep their traceback, for who looks for a bug."""

Named = Callable[[], Iterable[tuple[str, object]]]
"""The dotted keys that were given, each with its value."""


def wants_traceback() -> bool:
    """Whether whoever started the command asks for tracebacks."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


class Preparation:
    """The time before the work, as a context in which every error becomes a short one.

    Args:
        command: What is prepared, for where nothing better is known.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._over = False
        self.sections: Mapping[str, str] = {}  # short names of classes, each with its section
        self.given: Named = tuple

    def over(self) -> None:
        """From here on errors are those of the work, and keep their traceback."""
        self._over = True

    def __enter__(self) -> Preparation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts the short error in place of a long one.

        Raises:
            UsageError: If there was one.
        """
        if self._over or not isinstance(error, Exception) or wants_traceback():
            return
        if describe(error) is None:
            raise UsageError(self._told(error)) from error

    def _told(self, error: Exception) -> str:
        cause = _first(error)
        makers = (type(frame.f_locals.get("self")).__name__ for frame, _ in _frames(cause))
        section = next((self.sections[name] for name in makers if name in self.sections), None)
        lines = [f"{section or self._command}: {_in_a_line(cause)}"]
        named = [f"{key}: {value}" for key, value in self.given() if key.startswith(f"{section}.")]
        if named:
            lines.append(f"given for it: {', '.join(text[:80] for text in named[-6:])}")
        lines.append(f"Change what was given; if it is right, {VARIABLE}=1 shows where this arose")
        return "\n".join(lines)


def _first(error: BaseException) -> BaseException:
    """What jsonargparse wrapped."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _in_a_line(error: BaseException) -> str:
    """Kind, text and place: `TypeError: unsupported operand (in core/module.py:12)`."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")
    for frame, line in reversed(list(_frames(error))):
        path = Path(frame.f_code.co_filename)
        return f"{text} (in {path.parent.name}/{path.name}:{line})"
    return text
