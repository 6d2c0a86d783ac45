"""A run that ended, and was made longer, ends as one that was as long from the start."""

from pathlib import Path
from typing import Any

import torch

from lightning_app.cli import main
from tests.lightning_app.test_loggers import rows

CONFIGS = Path(__file__).parents[2] / "configs"


def fit(root: Path, runs: Path, steps: int) -> Path:
    given = [
        *("--config", str(CONFIGS / "hybrid_isic.yaml")),
        *("--config", str(CONFIGS / "hardware" / "cpu_demo.yaml")),
        *("--data.init_args.root", str(root), "--data.init_args.batch_size", "4"),
        *("--model.init_args.dropout", "0.1", "--ema.decay", "0.9", "--samples.num", "0"),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", "4"),
        # Lower with every step of so short a run, so that where it ends is always the best.
        *("--best.monitor", "val/loss", "--best.mode", "min"),
        *("--early_stopping.monitor", "val/loss", "--early_stopping.mode", "min"),
        *("--early_stopping.patience", "5", "--trainer.log_every_n_steps", "50"),
    ]
    assert main(["fit", *given, "--run_root", str(runs), "--resume", "auto"]) == 0
    (run,) = (runs / "hybrid_isic").iterdir()
    return run


def saved(run: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def tensors(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    found = {f"ema/{k}": v for k, v in checkpoint["state_dict"].items()}
    found |= {f"live/{k}": v for k, v in checkpoint["current_model_state"].items()}
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        found |= {f"adam/{number}/{k}": v for k, v in state.items()}
    return found


def test_an_extended_run_ends_with_the_same_bits(isic_root: Path, tmp_path: Path) -> None:
    whole = fit(isic_root, tmp_path / "whole", 10)
    part = fit(isic_root, tmp_path / "part", 6)
    ended = saved(part, "best")
    assert ended["global_step"] == 6
    assert saved(part, "best_scheduled")["global_step"] == 4
    assert [row["step"] for row in rows(part) if row["val/loss"]] == ["3", "5"]
    assert [row["step"] for row in rows(part) if row["train/loss"]] == ["5"]

    assert fit(isic_root, tmp_path / "part", 10) == part
    for name in ("best", "last"):
        ours, theirs = saved(part, name), saved(whole, name)
        assert ours["global_step"] == theirs["global_step"]
        for callback in ("BestCheckpoint", "EarlyStopping"):
            assert ours["callbacks"][callback] == theirs["callbacks"][callback]
        expected, found = tensors(theirs), tensors(ours)
        assert expected.keys() == found.keys()
        assert not [key for key in expected if not torch.equal(expected[key], found[key])]
