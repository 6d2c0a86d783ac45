"""YAML that somebody wrote, as plain values: bounded in size, and nothing in it is run."""

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from lightning_app.errors import UsageError

MAX_BYTES = 2**20
MAX_NODES = 20_000
"""Keys and values together, each as often as an alias repeats it."""
MAX_DEPTH = 40

_FLOAT = re.compile(
    r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"
    r"|[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Reads scalars as the parser does: `1e-4` is a number, a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] not in (f"{_TAG}timestamp", f"{_TAG}float")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789.")
)


def read_text(path: Path, name: str) -> str:
    """The text of a file that somebody names.

    Args:
        path: The file.
        name: What the error begins with.

    Raises:
        UsageError: If it is no file of text in UTF-8, or larger than a config can be.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to read from a pipe or device may never end
            raise UsageError(f"{name}: is no regular file; give a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{name}: cannot be read ({reason})") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name}: is larger than {MAX_BYTES // 1024} KiB, no config is; give YAML")
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if utf_16 or b"\0" in data:
        reason = "is UTF-16" if utf_16 else "holds a NUL byte, so it is no text"
        raise UsageError(f"{name}: {reason}; save it as text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}:{line}: is no UTF-8; save it as text in UTF-8") from error


def load(text: str, name: str) -> Any:
    """The plain values in a text of YAML.

    Args:
        text: The text.
        name: The file or option, which errors begin with.

    Raises:
        UsageError: If it is no YAML, its values cannot be made, or it has a key twice.
    """
    try:
        check_size(text, name)
        tree = yaml.compose(text, Loader=_Loader)
        _check_keys(tree, name, "")
        return _values(text, name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{name}{line}: is not YAML: {_plainly(problem)}") from error


def check_value(text: str, name: str) -> None:
    """Stops on a value that as YAML would be too large, or could not be made; others may be text.

    Args:
        text: What was given for an option or stands in a file.
        name: The option or key, for the message.

    Raises:
        UsageError: If it is one.
    """
    if "\0" in text:
        raise UsageError(f"{name}: holds a NUL character, which no path or word has")
    try:
        check_size(text, name)
        _values(text, name)
    except yaml.YAMLError:
        return


def plain(text: str) -> Any:
    """What a value is as YAML; the text itself where it is none."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError:
        return text


def check_size(text: str, name: str) -> None:
    """Stops on YAML of too many values, aliases followed, or too deep ones; makes none of them.

    Raises:
        UsageError: If it is.
        YAMLError: If it is no YAML.
    """
    total = 0
    sizes: dict[str, int] = {}
    parents: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor in {parent for parent, _ in parents}:
                raise UsageError(f"{name}: *{anchor} stands inside of &{anchor}: it has no end")
            total += sizes.get(str(anchor), 0)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes[str(anchor)] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            parents.append((anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            begun, before = parents.pop()
            sizes[str(begun)] = total - before
        if total > MAX_NODES:
            raise UsageError(f"{name}: holds more than {MAX_NODES} values, no config does")
        if len(parents) > MAX_DEPTH:
            raise UsageError(f"{name}: is nested more than {MAX_DEPTH} deep, no config is")


def _values(text: str, name: str) -> Any:
    """The values; what PyYAML's constructors let escape (`!!int x`, 5000 digits) is told."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError:
        raise
    except Exception as error:
        line = text.strip().splitlines()[0][:60]
        raise UsageError(f"{name}: {line!r} is no value that YAML can make ({error})") from error


def _check_keys(node: Any, name: str, prefix: str) -> None:
    """Stops on a key that stands twice, which would silently be the last one, or is no word."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check_keys(child, name, prefix)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag not in (f"{_TAG}str", f"{_TAG}merge", *_kinds_below(prefix)):
            _refuse_key(key, f"{name}:{line}", prefix)
        full = f"{prefix}{key.value}"
        if full in lines:
            raise UsageError(f"{name}:{line}: {full} is given twice, first in line {lines[full]}")
        lines[full] = line
        _check_keys(value, name, f"{full}.")


def _kinds_below(prefix: str) -> tuple[str, ...]:
    """Tags of keys that need be no words: numbers in the value of an argument of a class.

    Lightning's `GradientAccumulationScheduler` takes `scheduling: {0: 8, 4: 4}`.
    """
    is_value = "init_args." in prefix and not prefix.endswith("init_args.")
    return (f"{_TAG}int", f"{_TAG}float") if is_value else ()


def _refuse_key(key: Any, where: str, prefix: str) -> None:
    kind = key.tag.removeprefix(_TAG)
    if not isinstance(key, yaml.ScalarNode):
        raise UsageError(f"{where}: a {kind} stands where a key is expected, e.g. `trainer:`")
    raise UsageError(
        f"{where}: the key {prefix}{key.value or '(nothing)'} is read as {kind}; "
        f'keys are words, e.g. `max_steps:` (one in quotes is a word: "{key.value}":)'
    )


def _plainly(problem: str) -> str:
    """A problem of PyYAML in a user's words, where its own are of its inside."""
    if match := re.search(r"determine a constructor for the tag '(.+)'", problem):
        tag = match[1].replace(_TAG, "!!")
        return f"the tag {tag} is not known, and nothing in a config is run; leave it out"
    if "but found another document" in problem:
        return "it holds several documents; leave one, without `---` between"
    if problem.endswith("'\\t' that cannot start any token"):
        return "a tab stands where spaces are expected"
    return problem
