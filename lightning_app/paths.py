"""Paths that somebody gives: what no file or folder can be is told before it is looked for."""

import errno
import os
import re
from pathlib import Path

from lightning_app.errors import UsageError
from lightning_app.home import PATH_KEY, TEXT_KEY, expand

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes that Linux takes."""

_OTHER_KEYS = re.compile(r"^(?:resume|cache)$|_from$")
_FOLDER_KEYS = re.compile(r"(?:^|[._])root$")


def is_path(key: str) -> bool:
    """Whether a dotted key holds a path."""
    last = key.rpartition(".")[2]
    return not TEXT_KEY.search(key) and bool(PATH_KEY.search(last) or _OTHER_KEYS.search(last))


def check_path(name: str, path: str, *, folder: bool = False) -> None:
    """Stops on a path that cannot be; one where nothing is yet is fine.

    Args:
        name: The option or key, which the error begins with.
        path: What was given.
        folder: Whether it has to be a folder, where it is there.

    Raises:
        UsageError: If it cannot be: says why.
    """
    problem = _problem(path)
    there = Path(expand(path)) if problem is None else None
    if folder and there is not None and there.exists() and not there.is_dir():
        problem = "is a file; give a folder"
    if problem is not None:
        shown = path if len(path) <= 60 else f"{path[:50]}... ({len(path)} letters)"
        raise UsageError(f"{name} {shown}: {problem}".replace("\0", "\\0"))


def check_path_of(key: str, name: str, value: object) -> None:
    """`check_path` for the value of a dotted key, if it is one that holds paths.

    Raises:
        UsageError: If it is one that cannot be.
    """
    if isinstance(value, str) and is_path(key):
        check_path(name, value, folder=bool(_FOLDER_KEYS.search(key)))


def _problem(path: str) -> str | None:
    if not path.strip():
        return "is empty; give a path, or leave it out"
    if "\0" in path:
        return "holds a NUL character, which no path has"
    user = path.partition("/")[0]
    if path.startswith("~") and expand(user) == user and not os.path.lexists(user):
        return f"there is no user {user[1:]!r} here; write ./{user} for a folder of that name"
    longest = max(len(os.fsencode(part)) for part in path.split("/"))
    if longest > LONGEST_NAME:
        return f"a name of {longest} bytes; give one of at most {LONGEST_NAME}"
    if len(os.fsencode(path)) > LONGEST_PATH:
        return f"a path of {len(os.fsencode(path))} bytes; give one of at most {LONGEST_PATH}"
    return _in_the_way(Path(expand(path)))


def _in_the_way(path: Path) -> str | None:
    """What on the disk keeps a path from being."""
    try:
        path.stat()
    except FileNotFoundError:
        broken = next((part for part in (path, *path.parents) if part.is_symlink()), None)
        if broken is not None and not os.path.exists(broken):
            return f"{broken} is a broken link: {os.readlink(broken)} is not there"
    except NotADirectoryError:
        file = next(part for part in path.parents if os.path.exists(part))
        return f"{file} is a file, and nothing can lie in it"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        return f"cannot be looked at ({error.strerror})"
    return None
