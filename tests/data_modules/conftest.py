from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WritePairs = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def write_pairs(tmp_path: Path) -> WritePairs:
    """Writes images/NAME.png and masks/NAME.png of 20x16 pixels below a root."""

    def write(*names: str, root: Path = tmp_path, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            image = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            mask = np.zeros((16, 20), np.uint8)
            mask[4:12, 5:15] = 255
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        return root

    return write
