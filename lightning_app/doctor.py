"""`lightning doctor`: what is installed, what it runs on, and what optional parts are found."""

import importlib.util
import os
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path

from lightning_app.tools import ToolParser

# What a run asks for only where its config does, and what it is for.
OPTIONAL = {
    "wandb": "logging to Weights & Biases",
    "tensorboard": "logging to TensorBoard",
    "albumentations": "augmentation",
    "pylibjpeg": "compressed DICOM",
    "openjpeg": "JPEG 2000 in DICOM",
    "libjpeg": "JPEG-lossless and JPEG-LS in DICOM (pip install 'meddiff[dicom]')",
    "torchxrayvision": "features of chest X-rays",
    "triton": "compiled networks on GPUs",
}


def run(args: list[str]) -> int:
    """Prints the state of the installation.

    Args:
        args: What follows `lightning doctor`.

    Returns:
        The exit status.
    """
    ToolParser("doctor", "Prints versions, accelerators and optional parts.").parse_args(args)

    from lightning_app.record import git_state, hardware, versions
    from meddiff.networks.pretrained import pretrained_available

    print("versions")
    for package, version in versions().items():
        print(f"  {package:16}{version}")
    git = git_state()
    if git is not None:
        print(f"  {'commit':16}{git['commit'][:12]}{' (changed since)' if git['dirty'] else ''}")
    print("machine")
    for key, value in hardware().items():
        print(f"  {key:16}{', '.join(value) or 'none' if isinstance(value, list) else value}")
    print(f"  {'compiler':16}{_compiler() or 'none: performance.compile falls back'}")
    print("command")
    print(f"  {'lightning':16}{script_owner()}")
    print("optional parts")
    for module, purpose in OPTIONAL.items():
        found = "found" if importlib.util.find_spec(module) is not None else "not found"
        print(f"  {module:16}{found:12}{purpose}")
    print("weights")
    weights = sorted(path for path in _weights_folder().glob("*") if path.is_file())
    for path in weights:
        print(f"  {path.name}  {path.stat().st_size / 2**20:.0f} MB")
    print(f"  {len(weights)} in {_weights_folder()}")
    for encoder, purpose in _encoders().items():
        found = "found" if pretrained_available("imagenet", encoder) else "not found"
        print(f"  {encoder:16}{found:12}ImageNet, for {purpose}")
    return 0


def script_owner() -> str:
    """Which distribution the `lightning` on PATH belongs to, and the cure where it is not ours.

    lightning-sdk has a script of the same name: the one installed last wins.
    """
    script = shutil.which("lightning")
    if script is None:
        beside = Path(sys.executable).with_name("lightning")
        return "not on PATH; use python -m lightning_app" if not beside.is_file() else str(beside)
    try:
        ours = "lightning_app" in Path(script).read_text(errors="ignore")
    except OSError:
        ours = False
    if ours:
        return f"{script} (meddiff)"
    owners = [
        str(distribution.metadata["Name"])
        for distribution in distributions()
        for entry in distribution.entry_points
        if entry.group == "console_scripts"
        and entry.name == "lightning"
        and distribution.metadata["Name"] != "meddiff"
    ]
    return (
        f"{script} ({', '.join(owners) or 'another package'}); use python -m lightning_app, or "
        "pip install --force-reinstall --no-deps meddiff"
    )


def _encoders() -> dict[str, str]:
    """The encoders whose weights a baseline may ask for, each with which."""
    from meddiff.baselines.presets import default_encoder

    return {
        default_encoder(architecture, preset): f"{architecture}, preset {preset}"
        for preset in ("paper", "small")
        for architecture in ("deeplabv3", "segformer")
    }


def _compiler() -> str | None:
    named = os.environ.get("CXX", "")
    return shutil.which(named) if named else shutil.which("g++") or shutil.which("clang++")


def _weights_folder() -> Path:
    """Where torch keeps the weights that it has downloaded."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"
