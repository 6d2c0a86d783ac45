"""`~` where the shell leaves it as it is: behind `=`, in quotes, in a config file."""

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

PATH_KEY = re.compile(r"(?:^|_)(?:root|dir|file|folder|path)$|^init_from$")
"""Keys that hold paths, by their last part."""

TEXT_KEY = re.compile(r"^wandb\.|(?:^|[._])(?:regex|notes|class_path)$")
"""Keys that hold words, which a `~` is one of."""

_PATH_OPTION = re.compile(r"^(?:config|resume)$")


def expand_value(key: str, value: str) -> str:
    """A value from the command line, with the home directory for a leading `~`.

    A `~` alone is the home directory where a path is asked for, and else what it is in YAML: null.

    Args:
        key: The dotted key.
        value: What was given for it.
    """
    name = key.rpartition(".")[2]
    if value == "~" and not (PATH_KEY.search(name) or _PATH_OPTION.match(name)):
        return value
    return value if TEXT_KEY.search(key) else expand(value)


def expand(path: str) -> str:
    """A path with the home directory for a leading `~` or `~user`, where there is such a user."""
    return os.path.expanduser(path) if path.startswith("~") else path


def expand_config(config: Any, key: str = "") -> Any:
    """A parsed config, changed in place, with the home directory for `~/` where a string begins so.

    Args:
        config: The config, or a part of it.
        key: The dotted key of that part.
    """
    if isinstance(config, str):
        begins = config.startswith("~") and "/" in config
        return expand(config) if begins and not TEXT_KEY.search(key) else config
    if isinstance(config, list | tuple):
        return type(config)([expand_config(item, key) for item in config])
    if isinstance(config, dict | Namespace):
        content = vars(config) if isinstance(config, Namespace) else config
        for name, value in content.items():
            content[name] = expand_config(value, f"{key}.{name}" if key else str(name))
    return config


def expand_arguments(args: Sequence[str]) -> list[str]:
    """The arguments of a tool, with the home directory for a `~` that begins a value behind `=`."""
    return [re.sub(r"(?<==)~.*", lambda found: expand(found[0]), arg, count=1) for arg in args]
