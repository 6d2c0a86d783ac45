import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lightning_app.toys import ARGS, HERE

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_the_processes_that_lightning_launched_leave_too(tmp_path: Path, number: str) -> None:
    callback = {"class_path": f"{HERE}.FirstIsStopped", "init_args": {"number": number}}
    more = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    more += ["--trainer.callbacks", json.dumps([callback])]
    # It waits for the end of the output, which all processes share; they would sleep longer.
    done = subprocess.run(
        [sys.executable, "-m", "lightning_app", "test", *ARGS, *more],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 128 + signal.Signals[number], done.stderr
    assert done.stderr.count("stopped;") == 1
    assert "Traceback" not in done.stderr
