"""Heavy libraries are imported where they are used; import-linter checks who imports whom."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAZY = ("diffusers", "torchxrayvision", "wandb")


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
