"""Ranges that arguments may lie in, as their annotations: the command and Python check the same.

A module is checked by `MedDiffModule`; what has no such base calls `check_ranges` itself. To a type
checker they are plain numbers, and values of them are.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_type_hints

if TYPE_CHECKING:
    PositiveInt: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    TwoOrMore: TypeAlias = int
    ClassCount: TypeAlias = int
    TimeIndex: TypeAlias = int
    PaperBlock: TypeAlias = int
    Seed: TypeAlias = int
    PositiveNumber: TypeAlias = float
    NonNegativeNumber: TypeAlias = float
    ClosedUnitInterval: TypeAlias = float
    OpenUnitInterval: TypeAlias = float
    ShareBelowOne: TypeAlias = float
else:
    from jsonargparse.typing import ClosedUnitInterval as ClosedUnitInterval
    from jsonargparse.typing import NonNegativeInt as NonNegativeInt
    from jsonargparse.typing import OpenUnitInterval as OpenUnitInterval
    from jsonargparse.typing import PositiveInt as PositiveInt
    from jsonargparse.typing import restricted_number_type

    _INFINITE = float("inf")
    TwoOrMore = restricted_number_type("TwoOrMore", int, (">=", 2))
    # Ids 0 to K - 1 in a mask; 255 is ignored.
    ClassCount = restricted_number_type("ClassCount", int, [(">=", 2), ("<=", 255)])
    TimeIndex = restricted_number_type("TimeIndex", int, [(">=", 0), ("<=", 999)])
    PaperBlock = restricted_number_type("PaperBlock", int, [(">=", 0), ("<=", 17)])
    # What NumPy and Lightning take.
    Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])
    PositiveNumber = restricted_number_type("PositiveNumber", float, [(">", 0), ("<", _INFINITE)])
    NonNegativeNumber = restricted_number_type(
        "NonNegativeNumber", float, [(">=", 0), ("<", _INFINITE)]
    )
    ShareBelowOne = restricted_number_type("ShareBelowOne", float, [(">=", 0), ("<", 1)])


def check_ranges(kind: type, given: Mapping[str, Any]) -> None:
    """Checks arguments by the annotations of a class.

    Args:
        kind: The class; what its bases annotate counts too.
        given: Values by name; None stands for "not given", and other names may be among them.

    Raises:
        ValueError: If one is out of its range.
    """
    for name, allowed in ranges_of(kind).items():
        for value in _numbers(given.get(name)):
            try:
                allowed(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {value!r} given, expected {words(allowed)}") from error


@cache
def ranges_of(kind: type) -> dict[str, Any]:
    """The restricted type in the annotation of each argument that has one."""
    found: dict[str, Any] = {}
    for owner in reversed(kind.__mro__):
        found |= {name: range_in(hint) for name, hint in _hints(owner).items()}
    return {name: allowed for name, allowed in found.items() if allowed is not None}


def _hints(kind: type) -> dict[str, Any]:
    """The annotations of its own constructor."""
    try:
        return get_type_hints(vars(kind)["__init__"]) if "__init__" in vars(kind) else {}
    except NameError:  # of a user's class: names that are imported for type checkers alone
        return {}


def range_in(hint: Any) -> Any:
    """The restricted type in an annotation: itself, or what a list, tuple or union is of."""
    if hasattr(hint, "_restrictions"):
        return hint
    return next((found for part in get_args(hint) if (found := range_in(part))), None)


def words(allowed: Any) -> str:
    """A restricted type in words, e.g. `a whole number >=0`."""
    number = "a whole number" if issubclass(allowed, int) else "a number"
    return f"{number} {allowed._expression.replace('v', '')}".replace(" and <inf", ", finite")


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value
