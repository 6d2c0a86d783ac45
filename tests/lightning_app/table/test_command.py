"""The command of a table, with the real runs under it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_modules.registry import write_phantom
from lightning_app.cli import main
from lightning_app.table.definition import read_table
from lightning_app.table.launch import environment
from lightning_app.table.records import Records
from lightning_app.table.worker import Worker
from tests.lightning_app.table.toys import FIGURES, HERE, plan_of

Captured = pytest.CaptureFixture[str]
REPOSITORY = Path(__file__).parents[3]
TABLE = ["table", "configs/table/hybrid.yaml"]


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chests")
    for name in ("shenzhen", "montgomery"):
        write_phantom(name, root, num=34, seed=0)
    return root


def test_a_part_of_the_hybrid_table_from_end_to_end(
    chests: Path, tmp_path: Path, capfd: Captured
) -> None:
    out = tmp_path / "out"
    given = [*TABLE, "--scale", "cpu_demo", "--data", str(chests), "--seeds", "1", "--jobs", "1"]
    given += ["--out", str(out), "--rows", "1,8,9", "--set", "column.trainer.max_epochs=1"]
    # A row that cannot be done: the figure of one row is not that of another network.
    given += ["--set", "ledm.model.init_args.channel_mult=[1, 1, 2]"]
    assert main(given) == 1
    said = capfd.readouterr().out
    assert "4 jobs, 0 of them done, on 1 workers; columns montgomery;" in said
    assert "without the source: ph2 (source isic), dermis" in said
    assert "[4/4]" in said
    with (out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for number, row in enumerate(rows):
        done = number in (0, 8)
        assert (row["status"] == "ok") == done
        assert bool(row["montgomery_mean"]) == done
        assert not done or 0 <= float(row["montgomery_mean"]) <= 100
    assert rows[7]["status"].startswith("montgomery: failed: ")
    assert "channel" in rows[7]["status"]
    assert rows[8]["montgomery_paper"] == "95.45±0.11"
    assert (out / "pictures" / "montgomery.png").is_file()
    assert "](pictures/montgomery.png)" in (out / "table.md").read_text()
    record = json.loads((out / "jobs/montgomery-hybrid-vanilla-seed0.json").read_text())
    config = (out / record["fit_run"] / "config.yaml").read_text()
    assert "num_train_samples: 20" in config
    assert "batch_size: 12" in config
    splits = json.loads((out / record["fit_run"] / "splits.json").read_text())
    assert [len(splits[part]) for part in ("train", "val", "test")] == [20, 6, 6]
    # The table again from what is there; then with a setting that its jobs were not done with.
    written = (out / "table.csv").read_bytes()
    assert main([*given, "--jobs", "0"]) == 0
    assert (out / "table.csv").read_bytes() == written
    capfd.readouterr()
    assert main([*given, "--set", "hybrid.trainer.max_steps=5"]) == 2
    assert "trainer.max_steps was 4 and is 5 now" in capfd.readouterr().err


REAL = """
title: A toy table of real runs
columns:
  far: {title: Far, source: large, metric: test/loss}
stages:
  pretrained: {config: configs/pretrain.yaml, data: source}
  tuned: {config: configs/pretrain.yaml, data: column}
rows:
  - {pretraining: own, model: Net, stages: [pretrained, tuned]}
scales:
  small: {}
"""


def test_a_launcher_that_is_told_to_stop_leaves_a_run_that_goes_on(folder: Path) -> None:
    (folder / "toy.yaml").write_text(REAL)
    for name in ("far", "large"):
        text = f"data: {{class_path: {HERE}.Rows}}\n"
        (folder / "configs" / "data" / f"{name}.yaml").write_text(text)
    trainer = {"accelerator": "cpu", "max_steps": 400, "log_every_n_steps": 1}
    model = {"class_path": "tests.lightning_app.toys.ToyModule", "init_args": {"seconds": 0.1}}
    config = {"model": model, "trainer": trainer, "last": {"every_n_steps": 1}}
    (folder / "configs" / "pretrain.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "lightning_app", "table", "toy.yaml", "--scale", "small"]
    command += ["--data", "data", "--out", "out", "--seeds", "1", "--jobs", "1"]
    path = os.pathsep.join([str(REPOSITORY), *sys.path])
    launcher = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": path})
    runs = folder / "out/runs/large-pretrained"
    while not list(runs.glob("*/*/checkpoints/last.ckpt")) and launcher.poll() is None:
        time.sleep(0.1)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(120) == 128 + signal.SIGTERM
    records = Records(folder / "out/jobs")
    assert records.read("large-pretrained")["state"] == "interrupted"
    assert (folder / "out/table.md").is_file()
    (run,) = runs.glob("*/*")
    step = json.loads((run / "run.json").read_text())["last_step"]
    assert 0 < step < 400
    sets = {stage: {"trainer.max_steps": step + 2} for stage in ("source", "column")}
    plan = plan_of(folder, args=sets, seeds=1)
    assert Worker(plan, main, time.time()).run() == 0
    assert list(runs.glob("*/*")) == [run]
    assert json.loads((run / "run.json").read_text())["last_step"] == step + 2
    assert records.read("far-pretrained-tuned-seed0")["state"] == "done"
    with (folder / "out/table.csv").open(newline="") as file:
        (status,) = [row["status"] for row in csv.DictReader(file)]
    # The toy's data do not say which items they are.
    assert status == "ok: whether the weights had seen the test images is not known"


def test_workers_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_app.table.launch._cores", lambda: 9)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [environment(n, 4)["CUDA_VISIBLE_DEVICES"] for n in range(4)] == ["4", "7", "4", "7"]
    assert environment(0, 4)["OMP_NUM_THREADS"] == "2"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert "CUDA_VISIBLE_DEVICES" not in environment(1, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(0, 9)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--scale", "cpu_demoo"], "--scale: no 'cpu_demoo'; did you mean 'cpu_demo'?"),
        (["--scale", "cpu", "--columns", "ph3"], "--columns: no 'ph3'; did you mean 'ph2'?"),
        (["--scale", "cpu", "--rows", "13"], "--rows: no '13'"),
        (["--scale", "cpu", "--seeds", "0"], "--seeds: '0' given, expected a number of at least 1"),
        (["--scale", "cpu", "--set", "hybrid"], "--set hybrid: expected STAGE.KEY=VALUE"),
        (["--scale", "cpu", "--set", "hybird.a=1"], "no 'hybird'; did you mean 'hybrid'?"),
        (["--scale", "cpu", "--data", "nowhere"], "--data nowhere: is no folder"),
        (["--scale", "cpu", "--data", "."], "holds none of ph2, dermis, ham10000"),
        (["--scale", "cpu", "--from", "nowhere"], "--from nowhere: holds no record of a job"),
        (["--scale", "cpu", "--from", "."], "--from .: holds no record of a job"),
        (["--scale", "cpu", "--wroker"], "lightning table: unrecognized arguments: --wroker"),
        ([], "required: --scale"),
    ],
)
def test_mistakes_are_told_in_a_few_lines(
    given: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*TABLE, *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 25
    assert not list(tmp_path.iterdir())


def test_phantoms_are_written_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from lightning_app.table.data_root import data_root

    written: list[str] = []
    monkeypatch.setattr(
        "lightning_app.table.data_root.write_phantom",
        lambda name, *args, **options: written.append(name),
    )
    table, out = read_table("toy.yaml"), folder / "out"
    assert data_root(table, None, out, 5) == out / "phantoms"
    assert data_root(table, None, out, 5) == out / "phantoms"
    assert written == ["far", "large", "near"]
    data_root(table, None, out, 6)
    assert len(written) == 6
    assert plan_of(folder, out=out).asked.out == out
    # Columns of one data set have one phantom.
    (folder / "toy.yaml").write_text(FIGURES)
    data_root(read_table("toy.yaml"), None, out, 6)
    assert written[6:] == ["near"]


def test_mistakes_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from lightning_app.cli import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    given = {
        ("--help",): 0,
        ("table/lmi",): 2,
        ("table/lmi", "--scale", "cpu", "--from", "nowhere"): 2,
        ("table/lmi", "--scale", "cpu", "--columns", "dise"): 2,
    }
    for args, status in given.items():
        command = [sys.executable, "-c", code, "table", *args]
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == status, done.stderr
        assert ("usage: lightning table" in done.stdout) == (status == 0)


def test_ranks_of_a_cluster_do_not_make_one_run_of_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SLURM_PROCID", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert main(["table", "table/lmi", "--scale", "large"]) == 2
    assert "SLURM_JOB_ID" in os.environ
    assert not {"SLURM_PROCID", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)
