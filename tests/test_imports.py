"""Imports go one way (DESIGN section 1); heavy libraries are imported where they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("callbacks", "data_modules", "lightning_app", "meddiff")
ALLOWED: dict[str, tuple[str, ...]] = {
    "callbacks": (
        "callbacks",
        "meddiff.checkpoint",
        "meddiff.losses",
        "meddiff.networks",
        "meddiff.protocols",
        "meddiff.randomness",
    ),
    "data_modules": ("data_modules",),
    "lightning_app": PACKAGES,
    "meddiff": ("meddiff",),
}
LAZY = ("diffusers", "torchxrayvision", "wandb")


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Full dotted names of everything that a file imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def at_import(tree: ast.Module) -> Iterator[str]:
    """Those of them that run when the file is imported."""
    for node in tree.body:
        skipped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        if isinstance(node, ast.ClassDef):
            yield from at_import(ast.Module(node.body, []))
        elif not skipped:
            yield from imported(node, "")


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def violations(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    crossing = [
        name
        for name in imported(tree, package)
        if within(name, PACKAGES) and not within(name, ALLOWED[package])
    ]
    return crossing + [name for name in at_import(tree) if within(name, LAZY)]


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("callbacks", "from meddiff.hybrid import module", ["meddiff.hybrid.module"]),
        ("callbacks", "from meddiff import hybrid", ["meddiff.hybrid"]),
        ("callbacks", "from meddiff import protocols\nimport meddiff.randomness", []),
        ("data_modules", "def f():\n    import meddiff", ["meddiff"]),
        ("meddiff", "import lightning_app.cli", ["lightning_app.cli"]),
        ("meddiff", "from .networks import adm_unet", []),
        ("meddiff", "class A:\n    import wandb", ["wandb"]),
        ("meddiff", "try:\n    from diffusers import X\nexcept ImportError: ...", ["diffusers.X"]),
        ("meddiff", "def f():\n    import diffusers", []),
        ("meddiff", "if TYPE_CHECKING:\n    from diffusers import UNet2DModel", []),
    ],
)
def test_the_rule_itself(package: str, source: str, found: list[str]) -> None:
    assert violations(source, package) == found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no files"
    found = {
        str(file.relative_to(ROOT)): broken
        for file in files
        if (broken := violations(file.read_text(encoding="utf-8"), package))
    }
    assert not found


def test_packages_load_no_heavy_library() -> None:
    heavy = (*LAZY, "albumentations", "segmentation_models_pytorch", "sklearn", "timm")
    code = (
        "import sys, callbacks, data_modules, meddiff\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_lightning_app_is_ours() -> None:
    # The name is also that of a dead distribution on PyPI.
    import lightning_app

    assert Path(str(lightning_app.__file__)).parent == ROOT / "lightning_app"
