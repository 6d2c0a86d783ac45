"""What a user leaves out of a data set."""

from pathlib import Path

from data_modules.errors import DataError


class Exclusion:
    """The names that a user leaves out.

    Args:
        file: Text file with a relative path or a stem a line; `#` starts a comment. None: nothing
            is left out.

    Raises:
        DataError: If the file cannot be read.
    """

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.names: set[str] = set()
        self._used: set[str] = set()
        if file is None:
            return
        try:
            lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"data.init_args.exclude_file: {file} cannot be read ({error}); expected a text "
                "file with one image name a line."
            ) from error
        stripped = (line.split("#", 1)[0].strip().replace("\\", "/") for line in lines)
        self.names = {name.removeprefix("./") for name in stripped if name}

    def covers(self, *candidates: str) -> bool:
        """Whether one of the names of a file (paths with or without suffix, stems) is listed."""
        hit = self.names.intersection(candidates)
        self._used |= hit
        return bool(hit)

    def require_all_used(self) -> None:
        """Raises DataError for names that no file has: a typing error would hide a bad file."""
        unused = sorted(self.names - self._used)
        if unused:
            more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
            raise DataError(
                f"data.init_args.exclude_file: {self.file} lists {', '.join(unused[:3])}{more}, "
                "which match no file. Expected paths relative to root, or names without suffix."
            )
