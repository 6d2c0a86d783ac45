"""Our packages before a user's of the same name, and a user's own modules behind ours."""

import importlib.util
import sys
from pathlib import Path

from lightning_app.errors import UsageError

PACKAGES = ("callbacks", "data_modules", "meddiff")


def require_own_packages() -> None:
    """Checks that the names of our packages stand for ours; imports none of them.

    Raises:
        UsageError: If another package or module hides one: says which, and what to do.
    """
    ours = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        places = _places(name)
        if places and (ours / name).resolve() not in {place.resolve() for place in places}:
            raise UsageError(
                f"{name}: {places[0]} hides the package of meddiff with that name, which is in "
                f"{ours}\nStart the command as `python -P -m lightning_app ...`, which does not "
                "look into the working directory first, or rename your own"
            )


def _places(name: str) -> list[Path]:
    """Where a package of this name would be imported from: folders, or the file of a module."""
    found = importlib.util.find_spec(name)
    if found is None:
        return []
    return [Path(place) for place in found.submodule_search_locations or [str(found.origin)]]


def append_working_directory() -> None:
    """Lets a config name a class of a module in the working directory, `class_path: mymod.MyNet`.

    To be called once our own packages are imported, so that none there can take their place.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
