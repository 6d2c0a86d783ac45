"""Config files before they are parsed: where they are found, and what the parser lets pass."""

import difflib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lightning_app import shapes
from lightning_app.errors import UsageError, did_you_mean
from lightning_app.home import expand, expand_value
from lightning_app.paths import check_path, check_path_of
from lightning_app.yaml_text import check_value, load, plain, read_text

LINKED = {
    "image_size": "data.init_args.image_size",
    "num_classes": "data.init_args.num_classes",
    "in_channels": "data.init_args.in_channels",
    "seed": "seed_everything",
}
"""Arguments of the model that come from another key."""


@dataclass
class Given:
    """What was given on the command line.

    Args:
        args: The arguments, with the path of each config file as it was found.
        files: Those config files, in their order.
        contents: What they hold.
    """

    args: list[str]
    files: list[Path] = field(default_factory=list)
    contents: list[dict[str, Any]] = field(default_factory=list)

    def option(self, name: str) -> str | None:
        """The value that was given last for `--name`."""
        values = [value for option, value in _options(self.args) if option == f"--{name}"]
        return values[-1] if values else None

    def value(self, name: str) -> Any:
        """The value that was given last for a dotted key, by an option or in a file, or None."""
        option = self.option(name)
        if option is not None:
            return option
        for content in reversed(self.contents):
            value: Any = content
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    def place(self, name: str) -> str:
        """Where a dotted key was given, for messages: `--name`, or `name (in FILE)`."""
        if self.option(name) is not None:
            return f"--{name}"
        for path, content in reversed(list(zip(self.files, self.contents, strict=True))):
            if name in content:
                return f"{name} (in {path})"
        return f"--{name}"

    def values(self) -> Iterator[tuple[str, str, Any]]:
        """All values that were given, each with its dotted key and where."""
        for path, content in zip(self.files, self.contents, strict=True):
            yield from ((key, f"{key} (in {path})", value) for key, value in _leaves(content))
        for option, value in _options(self.args):
            yield option.removeprefix("--"), option, value

    def given_keys(self) -> Iterator[tuple[str, str]]:
        """All keys that were given, each with where."""
        for path, content in zip(self.files, self.contents, strict=True):
            yield from ((key, str(path)) for key, _ in _leaves(content))
        for option, _ in _options(self.args):
            yield option.removeprefix("--"), "the command line"


def read_given(args: list[str]) -> Given:
    """Finds and reads the config files among the arguments.

    Raises:
        UsageError: If a file is nowhere, is no YAML, or has a key twice.
    """
    given = Given([])
    awaited = False
    for arg in args:
        option, equals, value = arg.partition("=")
        if equals and option.startswith("--"):
            value = expand_value(option.removeprefix("--"), value)
            arg = f"{option}={value}"
        if awaited or (equals and option in ("--config", "-c")):
            path = find_config(arg if awaited else value)
            given.files.append(path)
            given.contents.append(read_yaml(path))
            if awaited:
                given.args.pop()
            if given.contents[-1]:  # the parser refuses one that holds nothing
                given.args.append(f"--config={path}")
            awaited = False
        else:
            awaited = arg in ("--config", "-c")
            given.args.append(arg)
    if awaited:
        raise UsageError("--config: give a file, e.g. --config configs/hybrid_isic.yaml")
    return given


def carried_configs() -> Path:
    """The configs that come with the package, or those of the source tree."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def find_config(name: str) -> Path:
    """A config file, or the carried one where there is none of that path.

    Raises:
        UsageError: If neither exists; names the nearest carried config.
    """
    check_path("--config", name)
    path = Path(expand(name))
    if path.is_file():
        return path
    if path.exists() and not path.is_dir():
        raise UsageError(f"--config {name}: is no regular file; give a YAML file")
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.yaml"))[:5]
        holds = f"; it holds {', '.join(inside)}" if inside else ""
        raise UsageError(f"--config {name}: is a folder; give a file{holds}")
    folder = carried_configs()
    wanted = name.removeprefix("./").removeprefix("configs/")
    for candidate in (wanted, f"{wanted}.yaml"):
        if (folder / candidate).is_file():
            return folder / candidate
    carried = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.yaml"))
    near = difflib.get_close_matches(f"{wanted.removesuffix('.yaml')}.yaml", carried, n=1)
    hint = f"; did you mean configs/{near[0]}?" if near else ""
    listed = ", ".join(carried) or "none"
    raise UsageError(f"--config {name}: no such file{hint}\nConfigs that come along: {listed}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a config file; a key that stands there twice is an error, not silently the last one.

    Raises:
        UsageError: If it cannot be read; names file and line.
    """
    name = str(path)
    content = load(read_text(path, name), name)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{name}: holds {shapes.in_words(content)}, not keys with values")
    return content


def check_values(given: Given, keys: Set[str]) -> None:
    """Stops on what no section, path or value can be, before it is parsed.

    Args:
        given: What was given.
        keys: All keys of the parser.

    Raises:
        UsageError: If there is any.
    """
    for path, content in zip(given.files, given.contents, strict=True):
        shapes.check_file(content, path, keys)
    for key, name, value in given.values():
        if isinstance(value, str) and key not in ("config", "c"):
            check_value(value, name)
            check_path_of(key, name, value)
    for option, value in _options(given.args):
        if not value.startswith("--"):
            shapes.check_option(option.removeprefix("--"), plain(value), keys)


def check_links(given: Given, config: Namespace) -> None:
    """Stops on an argument of the model that another key would silently replace.

    Raises:
        UsageError: If there is one; names both keys.
    """
    for key, where in given.given_keys():
        section, _, rest = key.partition(".")
        source = LINKED.get(rest.removeprefix("init_args."))
        if section == "model" and source is not None and source in config:
            raise UsageError(f"{key} (in {where}): comes from {source}; give --{source} instead")
        if key in ("data.init_args.seed", "data.seed"):
            raise UsageError(f"{key} (in {where}): comes from seed_everything; give that instead")


def check_sections(
    given: Given, known: set[str], arguments: Callable[[str, str | None], Set[str]]
) -> None:
    """Stops on an unknown key without a value, which the parser lets pass.

    Args:
        given: What was given.
        known: All keys of the parser.
        arguments: The init arguments of the `model` or `data` class of a name; empty where
            it takes any. A file's section may be for another class than the one in the end.

    Raises:
        UsageError: If there is one; names it and the nearest right one.
    """
    sections = {key.split(".")[0] for key in known if "." in key}
    for path, content in zip(given.files, given.contents, strict=True):
        for key in _empty(content):
            section, *rest = key.split(".")
            if section in ("model", "data"):
                if len(rest) != 2 or rest[0] != "init_args":
                    continue
                names, name = arguments(section, content[section].get("class_path")), rest[1]
            else:
                names, name = known | sections, key
            if names and name not in names:
                raise UsageError(f"{key} (in {path}): no such key{did_you_mean(name, names)}")
            if name == key and key in sections:
                raise UsageError(f"{key} (in {path}): holds no keys; give one, or leave it out")


def _options(args: list[str]) -> Iterator[tuple[str, str]]:
    for position, arg in enumerate(args):
        if arg.startswith("--"):
            option, equals, value = arg.partition("=")
            following = args[position + 1] if position + 1 < len(args) else ""
            yield option, value if equals else following


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, content


def _empty(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            yield from _empty(value, name)
        elif value is None or value == {}:
            yield name
