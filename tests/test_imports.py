"""Heavy libraries are imported where they are used; import-linter checks who imports whom."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAZY = ("diffusers", "torchxrayvision", "wandb")


def test_every_paper_is_in_the_contracts_of_the_linter() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {one["name"]: one for one in project["tool"]["importlinter"]["contracts"]}
    layers = contracts["Methods stand on what they share, and on no other method"]["layers"]
    assert layers[0] == "baselines"
    papers = {f"meddiff.{name.strip()}" for name in layers[1].split("|")}
    folders = {f"meddiff.{path.parent.name}" for path in ROOT.glob("meddiff/*/__init__.py")}
    assert papers == folders - {f"meddiff.{name}" for name in ("baselines", *layers[2:])}
    baselines = contracts["Baselines stand on no paper; LEDM reads hybrid's network"]
    assert set(baselines["forbidden_modules"]) == papers
    allowed = {"meddiff.core", "meddiff.networks"}
    callbacks = contracts["Callbacks know no method"]
    assert set(callbacks["forbidden_modules"]) == folders - allowed


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
