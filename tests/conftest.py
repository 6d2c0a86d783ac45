"""What several test packages share."""

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_as_by_hand() -> None:
    """Runs get SIGINT as in a terminal; what a shell starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MEDDIFF_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; MEDDIFF_SHARED_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def isic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom ISIC 2018 of 24 training images in the official layout."""
    from data_modules.registry import write_phantom

    root = tmp_path_factory.mktemp("isic")
    write_phantom("isic", root, num=24, seed=0)
    return root


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of the data sets that the configs name, side by side in one root."""
    from data_modules.registry import write_phantom

    root = tmp_path_factory.mktemp("phantoms")
    for name, num in (("isic", 24), ("ph2", 26), ("shenzhen", 12), ("celebamask_hq", 12)):
        write_phantom(name, root, num=num, seed=0, size=(64, 64))
    write_phantom("ixi", root, num=5, seed=0, size=(40, 40, 24))
    return root
