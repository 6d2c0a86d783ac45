"""A run that is killed at any step and resumed ends with the same weights, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[2]
STEPS = 12


def command(root: Path, runs: Path, processes: int, *more: str) -> list[str]:
    devices = ["--trainer.devices", str(processes)]
    if processes > 1:
        devices += ["--trainer.strategy", "ddp"]
    return [
        *(sys.executable, "-m", "lightning_app", "fit"),
        *("--config", str(REPOSITORY / "configs" / "hybrid_isic.yaml")),
        *("--config", str(REPOSITORY / "configs" / "hardware" / "cpu_demo.yaml")),
        *("--data.init_args.root", str(root), "--data.init_args.batch_size", "4"),
        *("--model.init_args.dropout", "0.1", "--ema.decay", "0.99"),
        *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", "5"),
        *("--last.every_n_steps", "1", "--samples.num", "0", "--trainer.log_every_n_steps", "1"),
        *("--run_root", str(runs), *devices, *more),
    ]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def only_run(runs: Path) -> Path:
    (run,) = (runs / "hybrid_isic").iterdir()
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    tensors = {f"ema/{k}": v for k, v in checkpoint["state_dict"].items()}
    tensors |= {f"live/{k}": v for k, v in checkpoint["current_model_state"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        tensors |= {f"adam/{number}/{k}": v for k, v in state.items()}
    return tensors


def steps_logged(run: Path) -> int:
    table = run / "metrics.csv"
    return len(table.read_text().splitlines()) if table.is_file() else 0


def kill_after(arguments: list[str], runs: Path, step: int) -> None:
    """Starts a run in its own process group and kills all of it once it is past a step."""
    process = subprocess.Popen(
        arguments,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 240
    try:
        while process.poll() is None and time.monotonic() < deadline:
            found = list(runs.glob("hybrid_isic/*/checkpoints/last.ckpt"))
            if found and steps_logged(found[0].parents[1]) > step:
                break
            time.sleep(0.02)
        else:
            output = process.communicate()[0].decode()
            pytest.fail(f"the run ended before it could be killed: {output[-3000:]}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_resumes_to_the_same_bits(
    processes: int, isic_root: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(isic_root, whole, processes), env=environment(), check=True)
    kill_after(
        command(isic_root, broken, processes), broken, random.SystemRandom().randint(2, STEPS - 4)
    )
    run = only_run(broken)
    killed_at = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert killed_at < STEPS
    rows = (run / "metrics.csv").read_text().splitlines()
    resumed = command(isic_root, broken, processes, "--resume", "auto")
    subprocess.run(resumed, env=environment(), check=True)

    assert only_run(broken) == run
    expected, found = weights(only_run(whole)), weights(run)
    assert expected.keys() == found.keys()
    different = [name for name in expected if not torch.equal(expected[name], found[name])]
    assert not different, f"killed at step {killed_at}"
    assert (run / "config.2.yaml").is_file()
    assert rows[1] in (run / "metrics.csv").read_text()
    assert json.loads((run / "run.json").read_text())["seed"] == 0
