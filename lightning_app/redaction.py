"""What may leave the machine of a run's settings: an allow-list that follows from their types.

Numbers, booleans, None, names of classes and what a type enumerates leave. Every other string is
`<redacted>`: a path, a date, an identifier of a subject cannot be told from a harmless word, so
none is let through for how it looks or for the key that it stands under.
"""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Literal, NewType, Union, get_args, get_origin

import numpy as np
from jsonargparse import ArgumentParser
from torch import Tensor

from lightning_app.declared import (
    argument_types,
    fields_of,
    is_a,
    is_kind_of,
    is_plain,
    loaded,
    members,
    names_below,
    registered,
    types_of,
)

REDACTED = "<redacted>"

CodeName = NewType("CodeName", str)
"""A name that code gives, such as that of an optimiser's setting."""

_FIGURES = float | list[float]
_OPTIMIZERS = Mapping[CodeName, Mapping[CodeName, _FIGURES | list[Mapping[CodeName, _FIGURES]]]]
_CLASS_KEYS = {"class_path", "init_args", "dict_kwargs"}
_NUMBERS = (int, float)  # bool is an int


class Redaction:
    """Redacts what is sent to a logger; the one way there.

    Args:
        parser: Knows the types of the keys of a config.
        kinds: The classes of the module and the data module, whose arguments are their
            hyper-parameters.
    """

    def __init__(self, parser: ArgumentParser, kinds: Iterable[type]) -> None:
        self._config = types_of(parser)
        self._arguments = [argument_types(kind) for kind in kinds]

    def __call__(self, params: Any) -> dict[str, Any]:
        """A copy of what may leave.

        Args:
            params: `config` or `optimizers` of a run, or hyper-parameters by name.
        """
        sent: dict[str, Any] = {}
        for key, value in _by_name(params).items():
            own = [types[key] for types in self._arguments if key in types]
            if key == "config" and isinstance(value, Mapping):
                sent[key] = _section(value, self._config)
            elif key == "optimizers" and not own:
                sent[key] = redact(value, _OPTIMIZERS)
            else:
                # Where both classes have it, it is what both let through.
                ways = [redact(value, hint) for hint in own or [Any]]
                name = key if own else _unused(REDACTED, sent)
                sent[name] = ways[0] if all(way == ways[0] for way in ways) else REDACTED
        return sent


def _by_name(params: Any) -> Mapping[Any, Any]:
    """What may be given to a logger, as a mapping."""
    if dataclasses.is_dataclass(params):
        return {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    if isinstance(params, Namespace):
        return vars(params)
    return params if isinstance(params, Mapping) else {}


def redact(value: Any, hint: Any = Any, *, listed: bool = False) -> Any:
    """What may leave of a value.

    Args:
        value: Any value.
        hint: The type that its argument was declared with.
        listed: Whether it is an item of a collection. There a number is redacted where the type
            lets in any string: YAML makes a number of an identifier such as `101`.
    """
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
        value = value.item()
    if value is None:
        return None
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return value if value == "" else _word(value, hint)
    if isinstance(value, _NUMBERS):
        return value if _takes_number(value, hint, listed) else REDACTED
    if dataclasses.is_dataclass(value):
        return _section(_by_name(value), fields_of(type(value)))
    if isinstance(value, Mapping | Namespace):
        return _mapping(_by_name(value), hint)
    if isinstance(value, list | tuple | set | frozenset):
        return _items(value, hint)
    return REDACTED


def _section(
    values: Mapping[Any, Any], types: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Values whose keys are arguments; a key that is none is somebody's own and is redacted."""
    sent: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in types:
            sent[name] = redact(value, types[key])
        elif any(other.startswith(f"{key}.") for other in types) and isinstance(value, Mapping):
            sent[name] = _section(value, types, f"{key}.")
        else:
            sent[_unused(REDACTED, sent)] = redact(value)
    return sent


def _mapping(value: Mapping[Any, Any], hint: Any) -> dict[Any, Any]:
    if "class_path" in value and set(value) <= _CLASS_KEYS:
        return _instance(value)
    kinds = list(members(hint))
    for member in kinds:
        if isinstance(member, type) and fields_of(member):
            return _section(value, fields_of(member))
    arguments = [get_args(member) for member in kinds if is_a(member, Mapping)]
    keys, values = next((pair for pair in arguments if len(pair) == 2), (str, Any))
    sent: dict[Any, Any] = {}
    for key, item in value.items():
        shown = redact(key, keys, listed=True)
        sent[_unused(shown, sent) if shown == REDACTED else shown] = redact(
            item, values, listed=True
        )
    return sent


def _instance(value: Mapping[str, Any]) -> dict[str, Any]:
    """A class with its arguments, as a config names them."""
    kind = loaded(value["class_path"])
    types = argument_types(kind) if isinstance(kind, type) else {}
    sent: dict[str, Any] = {"class_path": kind.__name__ if kind else REDACTED}
    for key in ("init_args", "dict_kwargs"):
        own = value.get(key)
        if isinstance(own, Mapping | Namespace):
            sent[key] = _section(_by_name(own), types)
        elif own is not None:
            sent[key] = REDACTED
    return sent


def _items(value: Iterable[Any], hint: Any) -> list[Any]:
    """The items of a collection, by the types that the collections of a hint hold."""
    items: list[Any] = []
    for member in members(hint):
        if member is Any:
            items.append(Any)
        elif is_a(member, Iterable) and not is_a(member, Mapping):
            items += [item for item in get_args(member) or [Any] if item is not Ellipsis]
    any_of = Union[tuple(items)] if items else Any  # noqa: UP007 (of a number known only now)
    return [redact(item, any_of, listed=True) for item in value]


def _word(value: str, hint: Any) -> str:
    """A string that a type enumerates, or the name of a class; else it is redacted."""
    for member in members(hint):
        if member is CodeName or (get_origin(member) is Literal and value in get_args(member)):
            return value
        if is_kind_of(member, Enum) and value in member.__members__:
            return value
        if is_plain(member):
            continue
        found = loaded(value)
        if found is not None and (not isinstance(member, type) or is_kind_of(found, member)):
            return str(found.__name__)
        if isinstance(member, type) and value in {*registered(member), *names_below(member)}:
            return value
    return REDACTED


def _takes_number(value: float, hint: Any, listed: bool) -> bool:
    kinds = list(members(hint))
    if listed and any(member in (Any, object) or is_kind_of(member, str) for member in kinds):
        return False
    return any(
        member in (Any, object)
        or is_kind_of(member, _NUMBERS)
        or (get_origin(member) is Literal and value in get_args(member))
        for member in kinds
    )


def _unused(name: str, taken: Mapping[Any, Any]) -> str:
    number, unused = 1, name
    while unused in taken:
        number += 1
        unused = f"{name[:-1]} {number}>"
    return unused
