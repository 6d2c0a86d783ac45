"""What runs on a real SLURM is collected by `make test-slurm` alone, that is by `-m slurm`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

# As in tests/lightning_app: appended, so that installed packages win.
sys.path.append(str(Path(__file__).parents[2]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    here = collection_path.parent == Path(__file__).parent
    return True if here and config.option.markexpr != "slurm" else None


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    from tests.slurm.cluster import Cluster, missing

    if missing():
        pytest.fail(f"not on PATH: {', '.join(missing())}; apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.fail("a SLURM of its own is started by root alone")
    with Cluster() as running:
        yield running
