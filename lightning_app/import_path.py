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
        found = importlib.util.find_spec(name)
        folders = found.submodule_search_locations if found is not None else None
        places = [str(place) for place in folders or ([found.origin] if found is not None else [])]
        if places and (ours / name).resolve() not in {Path(place).resolve() for place in places}:
            raise UsageError(
                f"{name}: {places[0]} hides the package of meddiff with that name, which is in "
                f"{ours}\nStart the command as `python -P -m lightning_app ...`, which does not "
                "look into the working directory first, or rename your own"
            )


def append_working_directory() -> None:
    """Lets a config name a class of a module in the working directory, `class_path: mymod.MyNet`.

    To be called once our own packages are imported, so that none there can take their place.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
