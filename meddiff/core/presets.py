"""Sizes of a method, chosen with one word."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Preset: TypeAlias = Literal["paper", "small", "tiny"]
"""`paper`: the paper's values. `small`: an hour on two cores. `tiny`: tests and demos."""

PresetTable: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What each preset has for the arguments that are not given."""


def resolve_preset(table: PresetTable, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills what was not given from a preset.

    Args:
        table: The method's presets, each a mapping from argument to value.
        preset: The name of one of them.
        given: Arguments as the user gave them; None stands for "not given".

    Raises:
        ValueError: If the table holds no such preset.
    """
    if preset not in table:
        raise ValueError(f"preset: {preset!r} is not one of {', '.join(table)}")
    return dict(table[preset]) | {key: value for key, value in given.items() if value is not None}
