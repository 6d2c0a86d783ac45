"""Ranges that arguments may lie in, as their annotations: the command and Python check the same.

To a type checker they are plain numbers, and values of them are.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_type_hints

from data_modules.errors import DataError

if TYPE_CHECKING:
    PositiveInt: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    MaskClasses: TypeAlias = int
    Seed: TypeAlias = int
    ClosedUnitInterval: TypeAlias = float
    ShareBelowOne: TypeAlias = float
    Percentile: TypeAlias = float
else:
    from jsonargparse.typing import ClosedUnitInterval as ClosedUnitInterval
    from jsonargparse.typing import NonNegativeInt as NonNegativeInt
    from jsonargparse.typing import PositiveInt as PositiveInt
    from jsonargparse.typing import restricted_number_type

    MaskClasses = restricted_number_type("MaskClasses", int, [(">=", 2), ("<=", 64)])
    # What NumPy and Lightning take.
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])
    ShareBelowOne = restricted_number_type("ShareBelowOne", float, [(">=", 0), ("<", 1)])
    Percentile = restricted_number_type("Percentile", float, [(">=", 0), ("<=", 100)])


def check_ranges(kind: type, given: Mapping[str, Any]) -> None:
    """Checks what the constructor of a class was given, by its annotations.

    Args:
        kind: The class.
        given: Values by name, e.g. `locals()` of the constructor; None stands for "not given".

    Raises:
        DataError: If one is out of its range.
    """
    for name, allowed in _ranges_of(kind).items():
        for value in _numbers(given[name]):
            check_number(f"data.init_args.{name}", value, allowed)


def check_number(key: str, value: Any, allowed: Any) -> None:
    """Checks one number.

    Args:
        key: Its name, for the error.
        value: The number.
        allowed: A restricted type.

    Raises:
        DataError: If it is out of its range.
    """
    try:
        allowed(value)
    except (TypeError, ValueError) as error:
        number = "a whole number" if issubclass(allowed, int) else "a number"
        within = allowed._expression.replace("v", "")
        raise DataError(f"{key}: {value!r} given, expected {number} {within}.") from error


@cache
def _ranges_of(kind: type) -> dict[str, Any]:
    """The restricted type in the annotation of each argument of its own that has one."""
    hints = get_type_hints(vars(kind)["__init__"])
    found = {name: _range_in(hint) for name, hint in hints.items()}
    return {name: allowed for name, allowed in found.items() if allowed is not None}


def _range_in(hint: Any) -> Any:
    """The restricted type in an annotation: itself, or what a list, tuple or union is of."""
    if hasattr(hint, "_restrictions"):
        return hint
    return next((found for part in get_args(hint) if (found := _range_in(part))), None)


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value
