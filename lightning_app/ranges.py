"""Numbers of restricted types: plain ones where they are used, and errors in words."""

from typing import Any

from jsonargparse.typing import register_type, registered_types

from lightning_app.errors import UsageError
from meddiff.core.ranges import words


def register_plain_numbers() -> None:
    """Makes jsonargparse give plain numbers for its restricted types, those of users too.

    A number of a class of its own could not be loaded from a checkpoint again.
    """
    for kind in list(registered_types.values()):
        if hasattr(kind, "_restrictions"):
            register_type(kind, _base(kind), _reader(kind), type_check=lambda value, kind: False)


def check_number(key: str, value: Any, *kinds: Any) -> None:
    """Checks a value that may be of one of several restricted types.

    Args:
        key: Its dotted key.
        value: The value; None stands for "not given".
        *kinds: The types.

    Raises:
        UsageError: If it is of none of them.
    """
    if value is None or any(_fits(kind, value) for kind in kinds):
        return
    raise UsageError(f"{key}: {value} given, expected {' or '.join(map(words, kinds))}")


def _fits(kind: Any, value: Any) -> bool:
    try:
        kind(value)
    except (TypeError, ValueError):
        return False
    return True


def _reader(kind: Any) -> Any:
    base = _base(kind)

    def read(value: Any) -> Any:
        try:
            return base(kind(value))
        except (TypeError, ValueError) as error:
            # As jsonargparse has it, which then shows the value once.
            raise ValueError(f"Expected {words(kind)}. Got value: {value}") from error

    return read


def _base(kind: Any) -> Any:
    return int if issubclass(kind, int) else float
