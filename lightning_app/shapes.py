"""The shape of what was given: sections hold keys, and what holds one value is no section."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_app.errors import UsageError

CLASSES = {"model": "HybridDiffusionModule", "data": "ISICDataModule"}
"""Sections that name a class, each with one for an example."""

_CLASS_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_NO_NAMES = ("true", "false", "null", "yes", "no", "on", "off")


def in_words(value: Any) -> str:
    """What a value is, for messages: `the number 7`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    if isinstance(value, str):
        return f"the word {value[:60]!r}"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"


def check_file(content: Mapping[str, Any], file: Path, keys: Iterable[str]) -> None:
    """Stops on a section of a config file that holds no keys.

    Args:
        content: What the file holds.
        file: Its path.
        keys: All keys of the parser.

    Raises:
        UsageError: If there is one; says what it holds and what it should.
    """
    for section, example in sections(keys).items():
        if section not in content:
            continue
        value = content[section]
        if value is None and section not in CLASSES:
            raise UsageError(f"{section} (in {file}): holds no keys; give one, or leave it out")
        if not _can_be(section, value, file.parent):
            raise _wrong(f"{section} (in {file})", value, _expected(section, example, ": "))
        if section in CLASSES and isinstance(value, dict):
            _check_class(section, value, f" (in {file})")


def check_option(section: str, value: Any, keys: Iterable[str]) -> None:
    """Stops on an option of a whole section that holds no keys.

    Args:
        section: The option, without its dashes.
        value: What was given for it, read as YAML.
        keys: All keys of the parser.

    Raises:
        UsageError: If it is one.
    """
    parent, _, last = section.rpartition(".")
    if parent in CLASSES and last == "init_args":
        if not isinstance(value, dict):
            raise _wrong(f"--{section}", value, f"keys, e.g. --{section}.image_size 64")
        return
    example = sections(keys).get(section)
    if example is None:
        return
    if value is None or not _can_be(section, value, Path()):
        raise _wrong(f"--{section}", value, _expected(section, example, " "))
    odd = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
    if odd:
        raise UsageError(f"--{section}: holds the key {odd[0]}; keys are words, e.g. {example}")
    if section in CLASSES and isinstance(value, dict):
        _check_class(f"--{section}", value, "")


def sections(keys: Iterable[str]) -> dict[str, str]:
    """The sections of the parser, each with one of its keys."""
    found: dict[str, str] = {}
    for key in sorted(keys):
        section, dot, rest = key.partition(".")
        if dot and rest != "help":
            found.setdefault(section, rest)
    return found | CLASSES


def _can_be(section: str, value: Any, folder: Path) -> bool:
    """Whether a section can hold it: keys, a file with them, or, for a class, its name."""
    if value is None:
        return section in CLASSES  # that it is not given is told by the parser
    if isinstance(value, dict):
        return True
    if not isinstance(value, str):
        return False
    if section in CLASSES and _CLASS_NAME.fullmatch(value) and value.lower() not in _NO_NAMES:
        return True
    return value != "" and (Path(value).is_file() or (folder / value).is_file())


def _check_class(section: str, value: Mapping[str, Any], where: str) -> None:
    name = value.get("class_path", "")
    if not isinstance(name, str):
        expected = f"the name of a class, e.g. {CLASSES[section.strip('-')]}"
        raise _wrong(f"{section}.class_path{where}", name, expected)
    arguments = value.get("init_args", {})
    if not isinstance(arguments, dict):
        expected = "keys with their values, e.g. init_args: {image_size: 64}"
        raise _wrong(f"{section}.init_args{where}", arguments, expected)


def _expected(section: str, example: str, between: str) -> str:
    dashes = "--" if between == " " else ""
    if section in CLASSES:
        return f"a class, e.g. {dashes}{section}{between}{example}"
    if dashes:
        return f"keys, e.g. --{section}.{example} VALUE"
    return f"keys with their values, e.g. {section}: {{{example}: VALUE}}"


def _wrong(where: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"{where}: holds {in_words(value)}; expected {expected}")
