"""`lightning check`: reads every file of a data set and lists all that is wrong with it."""

import re
from typing import Any

from lightning_app.errors import UsageError, did_you_mean
from lightning_app.paths import check_path_of
from lightning_app.tools import ToolParser, folder
from lightning_app.yaml_text import load


def run(args: list[str]) -> int:
    """Checks a data set.

    Args:
        args: What follows `lightning check`.

    Returns:
        The exit status: 1 where there is any problem.
    """
    parser = ToolParser("check", "Reads every file of a data set and lists all problems.")
    parser.add_argument("dataset", metavar="DATASET", help="short name, e.g. isic")
    parser.add_argument(
        "--root", type=folder, required=True, help="folder that holds the data set's folders"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an init argument of the data module, e.g. year=2016 or exclude_file=bad.txt",
    )
    given = parser.parse_args(args)
    arguments = _arguments(given.set)

    from data_modules.names import escaped
    from data_modules.registry import check, find_dataset

    if arguments:
        arguments = _of_their_types(arguments, find_dataset(given.dataset))
    problems = check(given.dataset, given.root, note=print, **arguments)
    for problem in problems:
        print(f"{problem.kind}: {problem}")
    print(f"{given.dataset} in {escaped(given.root)}: {len(problems) or 'no'} problem(s)")
    if citation := find_dataset(given.dataset).citation:
        print(f"cite: {citation}")
    return 1 if problems else 0


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """The arguments that `--set` gives, each value read as YAML."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        name = f"--set {key}"
        if not (equals and key.isidentifier()):
            raise UsageError(f"--set {pair[:80]}: expected KEY=VALUE, e.g. --set year=2016")
        if key in arguments:
            raise UsageError(f"{name}: is given twice")
        if key == "root":
            raise UsageError(f"{name}: is given by --root")
        if not text.strip():
            raise UsageError(f"{name}: is empty; give a value, e.g. --set year=2016")
        check_path_of(key, name, text)
        arguments[key] = load(text, name)
    return arguments


def _of_their_types(arguments: dict[str, Any], kind: type) -> dict[str, Any]:
    """The arguments as a config of `fit` would hold them; wrong ones are told as there."""
    from lightning_app.config_files import Given
    from lightning_app.parser import MedDiffParser, in_few_words, known_keys

    parser = MedDiffParser()
    parser.add_class_arguments(kind, "set")
    keys = known_keys(parser)
    names = {key.removeprefix("set.") for key in keys if key.startswith("set.")}
    if unknown := next((key for key in arguments if key not in names), None):
        raise UsageError(f"--set {unknown}: no such key{did_you_mean(unknown, names)}")
    try:
        parsed = parser.parse_object({"set": arguments})["set"]
    except UsageError as error:
        text = in_few_words(str(error), Given([]), keys)
        raise UsageError(re.sub(r"\bset\.", "--set ", text)) from error
    return {key: parsed[key] for key in arguments}
