"""Every shipped config runs, and every overlay goes over every config."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_app.cli import main

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
OVERLAYS = sorted(path.name for path in (CONFIGS / "hardware").glob("*.yaml"))


@pytest.mark.parametrize("name", METHODS)
def test_a_config_fits_tests_and_predicts(name: str, isic_root: Path, tmp_path: Path) -> None:
    given = [
        *("--config", str(CONFIGS / name)),
        *("--config", str(CONFIGS / "hardware" / "cpu_demo.yaml")),
        *("--data.init_args.root", str(isic_root), "--run_root", str(tmp_path)),
    ]
    short = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "2"]
    short += ["--trainer.log_every_n_steps", "2"]
    assert main(["fit", *given, *short]) == 0
    (fitted,) = (tmp_path / Path(name).stem).iterdir()
    header = (fitted / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"step", "train/loss", "val/loss"} <= set(header)
    assert ("val/jaccard" in header) == (not name.startswith("diffusion"))
    for checkpoint in ("best", "last"):
        assert (fitted / "checkpoints" / f"{checkpoint}.ckpt").is_file()
    assert json.loads((fitted / "splits.json").read_text())["train"]
    assert list((fitted / "samples").glob("*.png"))
    assert main(["test", *given, "--ckpt_path", str(fitted)]) == 0
    if name.startswith("diffusion"):
        given += ["--data", "NoiseDataModule", "--data.init_args.num_samples", "3"]
    assert main(["predict", *given, "--ckpt_path", str(fitted)]) == 0
    manifests = list(tmp_path.rglob("predictions/manifest.jsonl"))
    assert len(manifests) == 1
    for line in manifests[0].read_text().splitlines():
        for file in json.loads(line)["files"]:
            assert (manifests[0].parent / file).is_file()


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


@pytest.mark.parametrize("name", METHODS)
def test_a_config_shows_the_values_that_its_preset_stands_for(name: str) -> None:
    from meddiff.hybrid.presets import PRESETS

    text = (CONFIGS / name).read_text()
    assert yaml.safe_load(text)["model"]["init_args"]["preset"] == "paper"
    shown = {
        key.strip(): yaml.safe_load(value.split("   #")[0])
        for line in text.splitlines()
        if line.startswith("    # ") and ":" in line
        for key, _, value in [line.removeprefix("    # ").partition(":")]
        if key.strip() in PRESETS["paper"]
    }
    assert len(shown) >= 8
    for key, value in shown.items():
        assert PRESETS["paper"][key] == value
