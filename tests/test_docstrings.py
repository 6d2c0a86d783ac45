"""Docstrings are written in one dialect (CONTRIBUTING.md, Style)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "callbacks", "data_modules", "lightning_app", "meddiff")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def off_dialect(docstring: str) -> list[str]:
    """What is written in another way."""
    found = re.findall(r"(?<!`)``(?!`)|:(?:class|func|meth|data|attr|mod|exc):`", docstring)
    for section in re.findall(r"^Raises:\n((?: .*\n|\n)*)", docstring + "\n", re.MULTILINE):
        entries = re.findall(r"^    (\w+: .*)", section, re.MULTILINE)
        found += [entry for entry in entries if not re.match(r"\w+: (If|Always)\b", entry)]
    return found


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ("One.\n\nRaises:\n    ValueError: If `x` is 0.", []),
        ("One.\n\nRaises:\n    ValueError: Where x is 0.\n", ["ValueError: Where x is 0."]),
        ("Takes ``x``.", ["``", "``"]),
        ("See :class:`X`.", [":class:`"]),
    ],
)
def test_the_rule_itself(docstring: str, found: list[str]) -> None:
    assert off_dialect(docstring) == found


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_in_one_dialect(package: str) -> None:
    wrong = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text and (found := off_dialect(text)):
                wrong[f"{file.relative_to(ROOT)}: {getattr(node, 'name', '')}"] = found
    assert not wrong
