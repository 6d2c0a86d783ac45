"""How deep the imports of data_modules go: whoever reads a file has to follow them."""

import ast
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "data_modules"
DEEPEST = 9
# What the registry imports by name, as if it were written there.
BY_NAME = {"data_modules.registry": ("data_modules.sets.", "data_modules.phantoms.")}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST) -> set[str]:
    """All names that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def import_graph() -> dict[str, set[str]]:
    """The modules that each module imports, without packages that hold a docstring alone."""
    trees = {name_of(file): ast.parse(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")}
    modules = {name: imported(tree) for name, tree in trees.items() if len(tree.body) > 1}
    return {
        name: {
            other
            for other in modules
            if (other in names or other.startswith(BY_NAME.get(name, ())))
            # Every module has the package imported; what stands above it is what counts.
            and other not in (name, PACKAGE.name)
        }
        for name, names in modules.items()
    }


def longest_chain(graph: Mapping[str, set[str]]) -> list[str]:
    @cache
    def chain(name: str) -> list[str]:
        return [name, *max((chain(other) for other in graph[name]), key=len, default=[])]

    return max((chain(name) for name in sorted(graph)), key=len)


def test_no_circle() -> None:
    tuple(TopologicalSorter(import_graph()).static_order())  # CycleError names the modules


def test_the_longest_chain_of_imports() -> None:
    graph = import_graph()
    assert "data_modules.registry" in graph["data_modules"]
    by_name = {"data_modules.sets.isic", "data_modules.phantoms.isic"}
    assert by_name <= graph["data_modules.registry"]
    chain = longest_chain(graph)
    assert len(chain) <= DEEPEST, " -> ".join(chain)
