"""The parser of the command: jsonargparse's errors in few words, with the nearest right name."""

import inspect
import pydoc
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lightning_app.config_files import LINKED, Given
from lightning_app.errors import UsageError, did_you_mean
from lightning_app.resolved import annotated, used_for_nulls
from lightning_app.yaml_text import check_size
from meddiff.core.checkpoint import init_arguments

BASES: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}


_load_yaml = get_loader("yaml")


def _load_bounded(text: str) -> Any:
    """Reads YAML as the parser does, where it is of a size that a config can have.

    Also what the parser itself opens comes here, as the file of `--trainer FILE.yaml`.
    """
    check_size(text, "YAML")
    loaded = _load_yaml(text)
    # A file with one key and no value would be taken for a word, as on the command line.
    return yaml.safe_load(text) if loaded == text and "\n" in text else loaded


set_loader("yaml", _load_bounded, (yaml.YAMLError,))

# Lightning's Timer has a member of an enumeration as the default of an argument that is a `str`.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, item: dumper.represent_data(item.value))


class MedDiffParser(LightningArgumentParser):
    """A parser that raises its errors instead of printing its usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # argparse would take --trainer.max_step for --trainer.max_steps, or for another key.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the error of the parser.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message) from ex

    def dump(self, namespace: Any, *args: Any, **kwargs: Any) -> str:
        """A config as text; behind its nulls stands, as a comment, what is used for them.

        How it was launched is no part of it: `resume` and `allow_seen`, which not every subcommand
        has.
        """
        if "model" not in namespace or "trainer" not in namespace:  # not one of a subcommand
            return str(super().dump(namespace, *args, **kwargs))
        namespace = namespace.clone()
        for option in ("resume", "allow_seen"):
            namespace.pop(option, None)
        text: str = super().dump(namespace, *args, **kwargs)
        whole = yaml.safe_load(
            super().dump(namespace, format="yaml", skip_unset=False, skip_validation=True)
        )
        return annotated(text, used_for_nulls(whole, kinds_of(whole)))

    def add_subclass_arguments(  # type: ignore[override]
        self, baseclass: type, nested_key: str, **kwargs: Any
    ) -> Any:
        """Adds a class of which a subclass is to be given; help names those that can be."""
        added = super().add_subclass_arguments(baseclass, nested_key, **kwargs)
        action: Any = next(action for action in self._actions if action.dest == nested_key)
        # jsonargparse would list the base itself, and each class with its module.
        action.extra_help = lambda: f", known: {', '.join(sorted(subclasses(baseclass)))}"
        return added


def subclasses(base: type) -> dict[str, type]:
    """The concrete subclasses that can be named, by their short names."""
    found: dict[str, type] = {}
    kind: type
    for kind in base.__subclasses__():
        if not kind.__module__.startswith(("lightning.", "pytorch_lightning.")):
            if not (kind.__name__.startswith("_") or inspect.isabstract(kind)):
                found[kind.__name__] = kind
            found |= subclasses(kind)
    return found


def known_keys(parser: LightningArgumentParser) -> set[str]:
    """All keys of a parser."""
    return {action.dest for action in parser._actions}


def class_named(name: str, base: type) -> type | None:
    """The class that a config names in full or by its short name; None where there is none."""
    # Classes of different modules may share a short name.
    kind = pydoc.locate(name) if "." in name else subclasses(base).get(name)
    return kind if isinstance(kind, type) else None


def kinds_of(config: Mapping[str, Any]) -> dict[str, type | None]:
    """The classes that a config names for `model` and `data`."""
    parts = {section: config.get(section) for section in BASES}
    return {
        section: class_named(str(part.get("class_path", "")), BASES[section])
        for section, part in parts.items()
        if isinstance(part, dict)
    }


def arguments_of(name: str | None, base: type) -> frozenset[str]:
    """Arguments of a class named in a config; empty where there is no such class."""
    kind = class_named(name or "", base)
    return frozenset() if kind is None else init_arguments(kind)


def chosen_class(given: Given, section: str) -> str | None:
    """The class that was given for `model` or `data`, as it was written."""
    for name in (f"{section}.class_path", section):
        if (value := given.option(name)) is not None and not value.endswith(".yaml"):
            return value
    for content in reversed(given.contents):
        value = content.get(section)
        if isinstance(value, str):
            return value
        if isinstance(value, dict) and "class_path" in value:
            return str(value["class_path"])
    return None


def in_few_words(message: str, given: Given, keys: Iterable[str]) -> str:
    """An error of jsonargparse as a user needs it.

    Args:
        message: What the parser said.
        given: What was given.
        keys: All keys of the parser.
    """
    message = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", message).strip()
    if match := re.search(r"Expected a dot import path string: (\S+)", message):
        return _unknown_class(match.group(1), given)
    if match := re.search(r"[Oo]ption '(\S+)' is not accepted|accept option '(\S+)'", message):
        return _unknown_key(match.group(1) or match.group(2), given, keys)
    if match := re.match(r"unrecognized arguments: --([^\s=]+)", message):
        return _unknown_key(match.group(1), given, keys)
    if match := re.match(r"the following arguments are required: (.+)", message):
        names = re.sub(r"\b(?:fit|validate|test|predict)\.", "", match.group(1))
        example = "--config configs/hybrid_isic.yaml"
        advice = f"Give a config, e.g. {example}, or a run: --ckpt_path RUN_DIR"
        if checkpoint := given.value("ckpt_path"):
            advice = f"{checkpoint} lies in no run, which would bring its own\n{advice}"
        return f"{names}: not given\n{advice}"
    if keys_named := re.findall(r'Parser key "([\w.]+)":', message):
        reason = message.rpartition(f'Parser key "{keys_named[-1]}":')[2]
        return f"{_full_key(keys_named[-1], reason, given)}: {_reasons(reason)}"
    return message


def _unknown_class(name: str, given: Given) -> str:
    unknown = (part for part, base in BASES.items() if name not in subclasses(base))
    section = next((part for part in unknown if chosen_class(given, part) == name), "class_path")
    other = next((where for _, where, value in given.values() if value == name), None)
    if (
        section == "class_path"
        and other is not None
        and other.lstrip("-").split(".")[0] not in BASES
    ):
        return f"{other}: no class {name!r}; give its full path, e.g. my_package.MyClass"
    names = [
        kind
        for part, base in BASES.items()
        if section in (part, "class_path")
        for kind in subclasses(base)
    ]
    return (
        f"{section}: no class {name!r}{did_you_mean(name, names)}\n"
        f"Known: {', '.join(sorted(names))}; others by their full path, e.g. my_package.MyModule"
    )


def _unknown_key(key: str, given: Given, keys: Iterable[str]) -> str:
    """Names an unknown key in full, where it was given, and the nearest known one."""
    candidates = set(keys)
    refused = {"model": LINKED.keys(), "data": {"seed"}}
    for section, base in BASES.items():
        # Those that come from another key would only be refused.
        own = arguments_of(chosen_class(given, section), base) - refused[section]
        candidates |= {f"{section}.init_args.{arg}" for arg in own}
    full, where = next(
        ((k, w) for k, w in given.given_keys() if k == key or k.endswith(f".{key}")),
        (key, "the command line"),
    )
    section, _, rest = full.partition(".")
    if section in BASES and not rest.startswith("init_args."):
        full = f"{section}.init_args.{rest}"
    return f"{full} (in {where}): no such key{did_you_mean(full, candidates)}"


def _full_key(key: str, reason: str, given: Given) -> str:
    """The key in full of which the parser names the end: where the value stands that it refused."""
    refused = re.search(r"(?:Got|Given) value: (.*)", reason)
    found = [
        (full, value)
        for own, _, whole in given.values()
        for full, value in _with_items(own, whole)
        if full.endswith(f".{key}")
    ]
    same = [full for full, value in found if refused and str(value) == refused[1].strip()]
    return next(iter([*same, *(full for full, _ in found)]), key)


def _with_items(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, and what the lists and mappings in it hold, each with its key."""
    yield key, value
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _with_items(f"{key}[{number}]", item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _with_items(f"{key}.{name}", item)


def _reasons(text: str) -> str:
    """What was expected and what was given, a line each."""
    text = re.sub(r"Expected an? typing\.Literal\[([^\]]*)\]", r"expected one of \1", text)
    # A restricted number says its range itself, and the value where there is no other type.
    or_null = ", or null" if "NoneType" in text else ""
    text = re.sub(r"Not of type \w+: (Expected .*Got value.*)", r"\1", text)
    text = re.sub(r"Not of type \w+: (Expected .*)", rf"\1{or_null}", text)
    text = re.sub(r"Expected an? ", "expected ", text)
    lines = [line.strip(" -") for line in text.splitlines()]
    noise = (
        *("Does not validate", "Subtypes:", "Errors:", "expected NoneType", "Given value type"),
        "Given value: NestedArg(",  # the value again, as jsonargparse holds it
    )
    return "\n  ".join([line for line in lines if line and not line.startswith(noise)][:6])
