"""A run that is put back into the queue on fewer processes goes on with the same images a step."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from tests.integration.test_kill_and_resume import STEPS, command, environment, only_run


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_on_one(isic_root: Path, tmp_path: Path) -> None:
    runs, auto = tmp_path / "runs", ("--resume", "auto")
    half = command(isic_root, runs, 2, "--trainer.max_steps", "5")
    subprocess.run(half, env=environment(), check=True)
    run = only_run(runs)
    # As many processes as devices are seen where the config says `auto`: one of the CPU.
    alone = command(isic_root, runs, 1, "--trainer.devices", "auto", "--resume", str(run))
    refused = subprocess.run(alone, env=environment(), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--trainer.accumulate_grad_batches 2, or --data.init_args.batch_size 8" in refused.stderr
    assert json.loads((run / "run.json").read_text())["last_step"] == 5

    doubled = ("--trainer.accumulate_grad_batches", "2", *auto)
    done = subprocess.run(
        command(isic_root, runs, 1, *doubled),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == os.EX_OK, done.stderr
    assert "8 images a step (1 process x batch 4 x 2 accumulated) now" in done.stderr
    assert only_run(runs) == run
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    progress = last["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert progress["total"]["ready"] == 2 * STEPS
