"""What a user leaves out of a data set."""

import re
from collections.abc import Sequence
from pathlib import Path

from data_modules.errors import DataError
from data_modules.names import comparable, one_line

_BREAK = re.compile(r"\r\n|\r|\n")
_COMMENT = re.compile(r"\s+#")
_MARK = "\ufeff"  # of byte order; also inside, where files were joined
_FIELD = "data.init_args.exclude_file"


class Exclusion:
    """The names that a user leaves out.

    A line is a name whole, with `#` in it too. Where no file has that name, what comes before a
    space and `#` counts. Names are compared in any Unicode form.

    Args:
        file: Text file in UTF-8 with a relative path or a stem a line; a line that begins with
            `#` is a comment, `./#x` is the name of a file. None: nothing is left out.

    Raises:
        DataError: If the file cannot be read as text.
    """

    def __init__(self, file: str | None) -> None:
        self.file = file
        self._lines: list[str] = []
        # Which lines each name may be, and whether as the whole line.
        self._readings: dict[str, list[tuple[int, bool]]] = {}
        self._used: dict[int, set[bool]] = {}
        self._comments: dict[str, str] = {}
        self._taken_for_comments: set[str] = set()
        if file is not None:
            for line in _BREAK.split(_text(file)):
                self._add(line.removeprefix(_MARK))

    def __bool__(self) -> bool:
        """Whether there is a line to compare names with."""
        return bool(self._readings or self._comments)

    def _add(self, line: str) -> None:
        bare = line.strip()
        if not bare:
            return
        if bare.startswith("#"):
            self._comments[comparable(bare)] = bare
            return
        number = len(self._lines)
        self._lines.append(bare)
        wholes = {line, bare, bare.replace("\\", "/")}
        # `./x #1` is a path, and never a name with a comment.
        before = None if bare.startswith("./") else _COMMENT.split(bare, maxsplit=1)[0]
        parts = set() if before in (None, bare) else {before, before.replace("\\", "/")}
        for names, whole in ((wholes, True), (parts, False)):
            for name in {comparable(name.removeprefix("./")) for name in names if name}:
                self._readings.setdefault(name, []).append((number, whole))

    def covers(self, *candidates: str) -> bool:
        """Whether one of the names of a file (paths with or without suffix, stems) is listed."""
        hit = False
        for name in set().union(*map(_forms, candidates)):
            for number, whole in self._readings.get(name, ()):
                self._used.setdefault(number, set()).add(whole)
                hit = True
            if name in self._comments:
                self._taken_for_comments.add(name)
        return hit

    def require_all_used(self) -> None:
        """Checks that each line is the name of a file, in one way.

        Raises:
            DataError: If a name is of no file, since a typing error would hide a bad file; or if
                a line can be read in two ways.
        """
        for name in sorted(self._taken_for_comments):
            line = self._comments[name]
            raise DataError(
                f"{_FIELD}: {self.file}: the line {line!r} is a comment, and a file has that name "
                f"too. Write './{line}' to leave the file out, or change the comment."
            )
        for number, line in enumerate(self._lines):
            if len(self._used.get(number, ())) > 1:
                before = _COMMENT.split(line, maxsplit=1)[0]
                raise DataError(
                    f"{_FIELD}: {self.file}: the line {line!r} is the name of a file, and "
                    f"{before!r} with a comment is that of another. Write './{line}' for the "
                    f"first, or {before!r} for the other, with the comment in a line of its own."
                )
        unused = [one_line(line) for n, line in enumerate(self._lines) if n not in self._used]
        if unused:
            raise self._unused(sorted(unused))

    def _unused(self, names: Sequence[str]) -> DataError:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return DataError(
            f"{_FIELD}: {self.file} lists {', '.join(names[:3])}{more}, "
            "which match no file. Expected paths relative to root, or names without suffix."
        )


def _forms(name: str) -> set[str]:
    r"""What a user may have copied from a message, where a line break is `\x0a`."""
    return {comparable(name), one_line(comparable(name))}


def _text(file: str) -> str:
    """Raises DataError where a file is no text in UTF-8."""
    try:
        path = Path(file).expanduser()
        special = path.exists() and not (path.is_file() or path.is_dir())
        data = b"" if special else path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # no such user; NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{_FIELD}: {file} cannot be read ({reason}); expected a text file with one "
            "image name a line."
        ) from error
    if special:  # to read from a pipe or device may never end
        raise DataError(
            f"{_FIELD}: {file} is a pipe or a device; expected a text file with one image name a "
            "line."
        )
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data
    try:
        if not utf_16:
            return data.decode("utf-8")
        reason = "is saved as UTF-16, as PowerShell's `>` does, or is no text"
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        line = data.split(b"\n")[number - 1].strip().decode("utf-8", "backslashreplace")
        reason = f"is no UTF-8 in line {number}: {line}"
    raise DataError(f"{_FIELD}: {file} {reason}. Save it as UTF-8, one image name a line.")
