"""Every shipped config runs, and every overlay goes over every config."""

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

import meddiff
from lightning_app.cli import main
from meddiff.core.protocols import can_sample, can_segment, can_translate
from meddiff.hybrid.presets import SUPERVISED_PRESETS

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
DATA = sorted(path.name for path in (CONFIGS / "data").glob("*.yaml"))
OVERLAYS = sorted(path.name for path in (CONFIGS / "hardware").glob("*.yaml"))


@pytest.fixture(scope="session")
def pretrained(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of the stage before fine-tuning."""
    runs = tmp_path_factory.mktemp("pretrained")
    assert main(["fit", *arguments("hybrid_isic.yaml", phantom_root, runs), *SHORT]) == 0
    (run,) = (runs / "hybrid_isic").iterdir()
    return run


SHORT = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2"]
SHORT += ["--trainer.log_every_n_steps", "2"]


def arguments(name: str, root: Path, runs: Path) -> list[str]:
    return [
        *("--config", str(CONFIGS / name)),
        *("--config", str(CONFIGS / "hardware" / "cpu_demo.yaml")),
        *("--data.init_args.root", str(root), "--run_root", str(runs)),
    ]


def starts(name: str, pretrained: Path) -> list[str]:
    """What a config needs besides data: an earlier stage, or to do without a download."""
    if name in ("hybrid_ph2_finetune.yaml", "ledm_ph2.yaml"):
        return ["--model.init_args.init_from", str(pretrained)]
    if name.startswith("segmentation"):
        return ["--model.init_args.encoder_weights", "null"]
    return []


@pytest.mark.parametrize("name", METHODS)
def test_a_config_fits_tests_and_predicts(
    name: str,
    phantom_root: Path,
    pretrained: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = [*arguments(name, phantom_root, tmp_path), *starts(name, pretrained)]
    has_test_set = any(data in name for data in ("isic", "ph2", "ixi"))
    # Held out by the fit: on images that it saw a test would be refused.
    given += [] if has_test_set else ["--data.init_args.test_fraction", "0.2"]
    with caplog.at_level("INFO"):
        assert main(["fit", *given, *SHORT]) == 0
    (fitted,) = (tmp_path / Path(name).stem).iterdir()
    header = (fitted / "metrics.csv").read_text().splitlines()[0].split(",")
    # LEDM keeps the classifier as it ends: it validates nothing and has no best.
    validates = not name.startswith("ledm")
    assert {"step", "train/loss", "lr"} <= set(header)
    assert ("val/loss" in header) == validates
    module = meddiff.load(fitted)
    segments, translates = can_segment(module), can_translate(module)
    assert ("val/jaccard" in header) == (segments and validates)
    for checkpoint in ("best", "last") if validates else ("last",):
        assert (fitted / "checkpoints" / f"{checkpoint}.ckpt").is_file()
    assert json.loads((fitted / "splits.json").read_text())["train"]
    draws = validates and (segments or translates or can_sample(module))
    assert bool(list((fitted / "samples").glob("*.png"))) == draws
    measures = segments or translates
    (told,) = re.findall(r"next: lightning (.*)", caplog.text)
    following = shlex.split(told)
    assert following[:3] == ["test" if measures else "predict", "--ckpt_path", str(fitted)]
    assert ("NoiseDataModule" in following) == (can_sample(module) and not segments)
    # Where nothing can be tested, what is told is what there is, and it works as it is told.
    runs = [] if measures else ["--run_root", str(tmp_path / "following")]
    assert main([*following, *(["--print_config"] if measures else runs)]) == 0
    shutil.rmtree(tmp_path / "following", ignore_errors=True)
    assert main(["test", *given, "--ckpt_path", str(fitted)]) == (0 if measures else 2)
    if measures:
        assert seen_by(tmp_path, "test") == "none"
    tested = [path.name for path in tmp_path.rglob("test_*.csv")]
    assert tested == ["test_metrics.csv"] * segments + ["test_translation.csv"] * translates
    if can_sample(module) and not segments:
        given += ["--data", "NoiseDataModule", "--data.init_args.num_samples", "3"]
    assert main(["predict", *given, "--ckpt_path", str(fitted)]) == 0
    assert seen_by(tmp_path, "predict") == "none"
    manifests = list(tmp_path.rglob("predictions/manifest.jsonl"))
    assert len(manifests) == 1
    root, folder = Path(given[given.index("--data.init_args.root") + 1]), manifests[0].parent
    for text in manifests[0].read_text().splitlines():
        line = json.loads(text)
        for file in line["files"]:
            assert (folder / file).is_file()
        if line["source"] is None:
            continue
        assert (root / line["source"]).is_file()
        (size,) = {Image.open(folder / file).size for file in line["files"]}
        if segments:
            assert size == Image.open(root / line["source"]).size
        else:
            volume: Any
            source: Any = nibabel.load(root / line["source"])
            (volume,) = (nibabel.load(folder / file) for file in line["volumes"])
            assert volume.shape == source.shape
            assert np.array_equal(volume.affine, source.affine)


def seen_by(runs: Path, subcommand: str) -> object:
    """What the one run of a subcommand says of the images that its weights had seen."""
    records = [json.loads(file.read_text()) for file in runs.glob("*/*/run.json")]
    (record,) = [record for record in records if record["subcommand"] == subcommand]
    return record["seen"]


# Each data set over two methods, and two data sets of other keys over each method.
DATA_OVER = [
    (name, overlay)
    for name in METHODS
    for overlay in DATA
    if name in ("hybrid_isic.yaml", "lmi_ixi_t1.yaml")
    or overlay in ("celebamask_hq.yaml", "ixi.yaml")
]


@pytest.mark.parametrize(("name", "overlay"), DATA_OVER)
def test_a_data_set_goes_over_any_config(
    name: str, overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [CONFIGS / name, CONFIGS / "data" / overlay]
    given = [word for file in files for word in ("--config", str(file))]
    assert main(["fit", *given, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    overlaid = yaml.safe_load(files[1].read_text())
    assert printed["data"]["class_path"].endswith(f".{overlaid['data']['class_path']}")
    for key, value in overlaid["data"]["init_args"].items():
        assert printed["data"]["init_args"][key] == value
    # What is not of the data set stays as the method has it.
    base = yaml.safe_load(files[0].read_text())
    assert printed["data"]["init_args"]["batch_size"] == base["data"]["init_args"]["batch_size"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", METHODS)
def test_an_overlay_goes_over_any_config(
    name: str, overlay: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [CONFIGS / name, CONFIGS / "hardware" / overlay]
    given = [word for file in files for word in ("--config", str(file))]
    assert main(["fit", *given, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    overlaid = yaml.safe_load(files[1].read_text())
    assert overlaid["trainer"].items() <= printed["trainer"].items()
    for key, value in overlaid["data"]["init_args"].items():
        assert printed["data"]["init_args"][key] == value


def presets_of(class_path: str, recipe: str) -> Mapping[str, object]:
    if class_path == "HybridFinetuneModule":
        return SUPERVISED_PRESETS[recipe]["paper"]
    table: Mapping[str, Mapping[str, object]] = getattr(meddiff, class_path).presets
    return table["paper"]


@pytest.mark.parametrize("name", METHODS)
def test_a_config_shows_the_values_that_its_preset_stands_for(name: str) -> None:
    text = (CONFIGS / name).read_text()
    model = yaml.safe_load(text)["model"]
    paper = presets_of(model["class_path"], model["init_args"].get("recipe", "finetune"))
    assert model["init_args"]["preset"] == "paper"
    shown = {
        key.strip(): yaml.safe_load(value.split("   #")[0])
        for line in text.splitlines()
        if line.startswith("    # ") and ":" in line
        for key, _, value in [line.removeprefix("    # ").partition(":")]
        if key.strip() in paper
    }
    # `diffusion` leaves out what its objective does not use.
    assert shown.keys() | model["init_args"].keys() >= paper.keys() - UNUSED.get(name, set())
    for key, value in shown.items():
        assert paper[key] == value


UNUSED = {"diffusion_isic.yaml": {"mask_weight", "log_gradient_norms"}}


@pytest.mark.parametrize(
    ("data", "steps"), [("isic", 40_000), ("shenzhen", 40_000), ("celebamask_hq", 90_000)]
)
def test_a_source_brings_the_papers_iterations(data: str, steps: int) -> None:
    # docs/papers/hybrid.md 2b; an overlay of the hardware goes over it where it has its own.
    from lightning_app.table.plan import merged

    base, source = "configs/hybrid_isic.yaml", f"configs/data/{data}.yaml"
    whole = merged([base, source, "configs/hardware/h100.yaml"], {})
    assert whole["trainer"]["max_steps"] == steps
    small = merged([base, source, "configs/hardware/cpu.yaml"], {})
    assert small["trainer"]["max_steps"] == 1500
