"""What the declared types of arguments enumerate, and which classes they take."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.strategies import Strategy, StrategyRegistry

from lightning_app.kept_names import OF_TRAINER, kept_types
from lightning_app.parser import subclasses

_REGISTERED: dict[type, Callable[[], Iterable[str]]] = {
    Accelerator: lambda: ["auto", "gpu", *AcceleratorRegistry.available_accelerators()],
    Strategy: lambda: ["auto", *StrategyRegistry.available_strategies()],
}
"""Where Lightning takes a registered name for an object of a class."""


@cache
def argument_types(kind: type) -> Mapping[str, Any]:
    """The types of a class's arguments by name, those that it passes on to its bases too."""
    parser = ArgumentParser(exit_on_error=False)
    try:
        parser.add_class_arguments(kind, "of", fail_untyped=False)
    except Exception:
        # Of a class that cannot be understood, no string leaves.
        return {}
    types = {key.removeprefix("of."): hint for key, hint in types_of(parser).items()}
    return types | kept_types(kind)


def types_of(parser: ArgumentParser) -> dict[str, Any]:
    """The types of a parser's keys, by dotted key."""
    types = {
        action.dest: action._typehint for action in parser._actions if hasattr(action, "_typehint")
    }
    kept = {f"trainer.{key}": hint for key, hint in OF_TRAINER.items()}
    return types | {key: hint for key, hint in kept.items() if key in types}


def members(hint: Any) -> Iterator[Any]:
    """The types that a union is of; any other type itself."""
    if get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from members(member)
    elif get_origin(hint) is Annotated:
        yield from members(get_args(hint)[0])
    else:
        yield hint


def is_a(hint: Any, kind: type) -> bool:
    """Whether a type, with its items or without, is of a kind of collections; no string is."""
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, kind) and not issubclass(origin, str)


def is_plain(member: Any) -> bool:
    """Whether a type has no class that a string could name."""
    plain = (Any, object, str, bytes, bool, int, float, type(None), PurePath)
    return member in plain or is_a(member, Iterable) or get_origin(member) is Literal


def is_kind_of(found: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether something is a class, and one of these or a subclass."""
    try:
        return isinstance(found, type) and issubclass(found, kind)
    except TypeError:  # of a protocol that cannot be asked
        return False


def registered(kind: type) -> Iterable[str]:
    """The names that Lightning takes for an object of a class."""
    return _REGISTERED.get(kind, list)()


def names_below(kind: type) -> Iterator[str]:
    """The names of the classes that stand on one."""
    # `type` itself tells its subclasses only when asked about one.
    below: type
    for below in type.__subclasses__(kind):
        yield below.__name__
        yield from names_below(below)


def fields_of(kind: type) -> Mapping[str, Any]:
    """The types of the fields of a dataclass or a typed dict; empty for others."""
    if not (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
        return {}
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):  # of a name that is only there for type checkers
        return {}


def loaded(name: Any) -> Any:
    """The class or function that a name stands for; nothing is imported for it."""
    if not isinstance(name, str):
        return None
    place, _, last = name.rpartition(".")
    if not place:
        known = subclasses(LightningModule) | subclasses(LightningDataModule)
        return known.get(name)
    found = getattr(sys.modules.get(place), last, None)
    return found if callable(found) and hasattr(found, "__name__") else None
