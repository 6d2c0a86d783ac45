"""A small table, data sets that are folders, and a command that only writes what one leaves."""

import json
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from lightning.pytorch import LightningDataModule

from lightning_app.table.definition import read_table
from lightning_app.table.plan import Asked, Plan, make_plan
from tests.lightning_app.toys import ToyDataModule

HERE = "tests.lightning_app.table.toys"

TABLE = """
title: A toy table
columns:
  near: {title: Near, source: large}
  far: {title: Far, source: large, metric: test/miou, args: {data.init_args.batch_size: 3}}
args:
  column: {data.init_args.batch_size: 2}
stages:
  pretrained: {config: configs/pretrain.yaml, data: source}
  tuned: {config: configs/tune.yaml, data: column}
  probed: {config: configs/tune.yaml, data: column, args: {model.init_args.probe: true}}
rows:
  - {pretraining: none, model: Net, stages: [tuned], paper: {near: 50.12±0.34}}
  - {pretraining: own, model: Net, stages: [pretrained, tuned], paper: {near: "61.50"}}
ours:
  - {pretraining: own, model: Probe, stages: [pretrained, probed]}
scales:
  small: {overlays: [configs/small.yaml], args: {source: {trainer.max_steps: 5}}}
  large: {}
"""


FIGURES = """
title: A toy table of several figures
columns:
  share: {title: Share, data: near, spread: test/miou, digits: 1}
  level: {title: Level, data: near, metric: test/psnr, spread: test/psnr_sd, percent: false}
  other: {title: Other, data: near, args: {data.init_args.batch_size: 3}}
args:
  test: {metrics.num: 2}
stages:
  tuned: {config: configs/tune.yaml, data: column}
  probed: {config: configs/tune.yaml, data: column}
rows:
  - {model: Theirs, stages: [], paper: {share: 55.0±1.0, level: 18.88±1.26}}
  - {model: Net, stages: [tuned], paper: {share: 60.0±2.0}}
ours:
  - {model: Probe, stages: [probed]}
  - {model: Net from the source, stages: [tuned], test: {model.init_args.start: source}}
  - model: Net at 0.5
    stages: [tuned]
    test: {model.init_args.start: source, model.init_args.strength: 0.5}
scales:
  small:
    overlays: [configs/small.yaml]
    args: {column: {trainer.max_steps: 5}, test: {data.init_args.batch_size: 9}}
"""


class Near(LightningDataModule):
    folder: ClassVar[str] = "near"

    @classmethod
    def present(cls, root: Path) -> bool:
        return (root / cls.folder).is_dir()


class Far(Near):
    folder = "far"


class Large(Near):
    folder = "large"


class Rows(ToyDataModule):
    """Data that the toy module can be trained on."""

    @classmethod
    def present(cls, root: Path) -> bool:
        return True


def write_table(folder: Path, text: str = TABLE) -> Path:
    """Writes the table, its configs and a data root into a folder."""
    configs = folder / "configs"
    (configs / "data").mkdir(parents=True)
    for name in ("near", "far", "large"):
        (folder / "data" / name).mkdir(parents=True)
        text_of_data = f"data: {{class_path: {HERE}.{name.title()}, init_args: {{num: 7}}}}\n"
        (configs / "data" / f"{name}.yaml").write_text(text_of_data)
    (configs / "pretrain.yaml").write_text("trainer: {max_steps: 100}\n")
    (configs / "tune.yaml").write_text("trainer: {max_epochs: 9}\ndata: {init_args: {num: 1}}\n")
    (configs / "small.yaml").write_text("trainer: {max_steps: 8, accelerator: cpu}\n")
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def plan_of(folder: Path, **changes: object) -> Plan:
    """The plan of the table in the working directory; `changes` are of what is asked for."""
    asked = {
        "table": "toy.yaml",
        "scale": "small",
        "seeds": 2,
        "data": folder / "data",
        "out": folder / "out",
        **changes,
    }
    return make_plan(read_table("toy.yaml"), Asked(**asked))  # type: ignore[arg-type]


def option(args: Sequence[str], name: str) -> str:
    """The value that is given last for an option."""
    return [value for key, value in pairwise(args) if key == f"--{name}"][-1]


class Command:
    """Stands for the command: keeps its calls, and leaves run directories with a figure.

    Args:
        folder: Where a line is written for each call, by whatever process.
        before: Called with the arguments first; what it returns is the exit code.
    """

    def __init__(
        self, folder: Path, before: Callable[[Sequence[str]], int] = lambda args: 0
    ) -> None:
        self.file = folder / "calls.jsonl"
        self.before = before

    @property
    def calls(self) -> list[list[str]]:
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        return [json.loads(line) for line in lines]

    def of(self, subcommand: str) -> list[str]:
        """The names of the jobs in which a subcommand was called."""
        roots = [Path(option(args, "run_root")) for args in self.calls if args[0] == subcommand]
        return [(root.parent if root.name == "test" else root).name for root in roots]

    def __call__(self, args: Sequence[str]) -> int:
        with self.file.open("a") as file:
            file.write(json.dumps(list(args)) + "\n")
        code = self.before(args)
        if code:
            return code
        root = Path(option(args, "run_root"))
        number = len(list(root.glob("*/*")))
        run = root / "config" / f"2026-{number}"
        run.mkdir(parents=True)
        record = {"subcommand": args[0], "state": "finished", "started": f"{number}"}
        (run / "run.json").write_text(json.dumps(record))
        if args[0] == "test":
            seed = int(root.parent.name.partition("-seed")[2][0])
            figure = 0.5 + seed / 100
            psnr = 20 + seed + ("--model.init_args.strength" in args)
            text = "step,test/jaccard,test/miou,test/psnr,test/psnr_sd\n3,,,,\n"
            text += f"3,{figure},{figure / 2},{psnr},{1 + 2 * seed}\n"
            (run / "metrics.csv").write_text(text)
        elif "-seed" in root.name:  # a fit on a column validates, one on a source does not
            (run / "checkpoints").mkdir()
            score = torch.tensor(0.25 + int(root.name.partition("-seed")[2][0]))
            best = {"monitor": "val/jaccard", "best_model_score": score}
            torch.save({"callbacks": {"BestCheckpoint": best}}, run / "checkpoints/best.ckpt")
        print(f"pid {os.getpid()} did {args[0]}")
        return 0
