"""Encoders take others' weights whole, or say what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from meddiff.baselines.architectures import build
from meddiff.baselines.encoders import Normalisation, load_encoder
from meddiff.core.checkpoint import CheckpointError


def make_network(encoder: str = "resnet18", in_channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    architecture = "segformer" if encoder.startswith("mit") else "deeplabv3"
    return build(architecture, encoder, in_channels=in_channels, num_classes=2)


def load(network: nn.Module, encoder: str, weights: Path, in_channels: int = 3) -> Normalisation:
    architecture = "segformer" if encoder.startswith("mit") else "deeplabv3"
    return load_encoder(network, architecture, encoder, str(weights), in_channels)


def trained(encoder: str) -> dict[str, Tensor]:
    """Stands for weights that others trained: other ones than a new network's, statistics too."""
    network = make_network(encoder, seed=1).get_submodule("encoder")
    generator = torch.Generator().manual_seed(2)
    state = network.state_dict()
    return {
        key: value + torch.rand(value.shape, generator=generator) * 0.1
        if value.is_floating_point()
        else value
        for key, value in state.items()
    }


def check_loaded(network: nn.Module, state: dict[str, Tensor]) -> None:
    loaded = network.get_submodule("encoder").state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("encoder", "head"), [("resnet18", "fc"), ("mit_b0", "head")], ids=["resnet18", "mit_b0"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_classifier_file_gives_its_trunk_alone(
    tmp_path: Path, encoder: str, head: str, suffix: str
) -> None:
    state, file = trained(encoder), tmp_path / f"{encoder}{suffix}"
    classifier = {f"{head}.weight": torch.ones(1000, 8), f"{head}.bias": torch.ones(1000)}
    save = save_file if suffix == ".safetensors" else torch.save
    save({**state, **classifier}, file)
    network = make_network(encoder)
    before = {k: v.clone() for k, v in network.state_dict().items() if "encoder" not in k}
    assert load(network, encoder, file) == Normalisation()
    check_loaded(network, state)
    after = network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_torchvision_s_file_fits_the_same_encoder(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(3)
    official = resnet18(weights=None).eval()
    torch.save(official.state_dict(), tmp_path / "resnet18.pth")
    torch.manual_seed(0)
    network = build("unet", "resnet18", in_channels=3, num_classes=2).eval()
    load_encoder(network, "unet", "resnet18", str(tmp_path / "resnet18.pth"), 3)
    image = torch.randn(1, 3, 32, 32)
    deepest = network.get_submodule("encoder")(image)[-1]
    pooled = official.fc(deepest.mean((2, 3)))
    torch.testing.assert_close(pooled, official(image))


def test_one_channel_sees_what_three_equal_ones_see(tmp_path: Path) -> None:
    save_file(trained("resnet18"), tmp_path / "model.safetensors")
    grey, colour = make_network(in_channels=1).eval(), make_network().eval()
    load(grey, "resnet18", tmp_path, in_channels=1)
    load(colour, "resnet18", tmp_path)
    image = torch.randn(2, 1, 32, 32)
    one = grey.get_submodule("encoder")(image)[-1]
    three = colour.get_submodule("encoder")(image.expand(-1, 3, -1, -1))[-1]
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


def test_more_channels_repeat_the_colours_at_the_same_scale(tmp_path: Path) -> None:
    state = trained("resnet18")
    save_file(state, tmp_path / "model.safetensors")
    network = make_network(in_channels=6)
    load(network, "resnet18", tmp_path, in_channels=6)
    expected = torch.cat([state["conv1.weight"]] * 2, dim=1) / 2
    torch.testing.assert_close(network.get_parameter("encoder.conv1.weight"), expected)


@pytest.mark.parametrize("nested", [False, True])
def test_the_config_beside_the_weights_says_how_images_were_normalised(
    tmp_path: Path, nested: bool
) -> None:
    save_file(trained("resnet18"), tmp_path / "model.safetensors")
    config: dict[str, Any] = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.1, 0.3]}
    config |= {"input_space": "RGB", "input_range": [0, 1]}
    (tmp_path / "config.json").write_text(
        json.dumps({"pretrained_cfg": config} if nested else config)
    )
    figures = load(make_network(), "resnet18", tmp_path)
    assert figures == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
    grey = load(make_network(in_channels=1), "resnet18", tmp_path, in_channels=1)
    assert (*grey.mean, *grey.std) == pytest.approx((0.4, 0.2))


def test_weights_of_another_input_space_are_declined(tmp_path: Path) -> None:
    save_file(trained("resnet18"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"input_space": "BGR", "input_range": [0, 255]}')
    with pytest.raises(CheckpointError, match=r"BGR up to \[0, 255\]"):
        load(make_network(), "resnet18", tmp_path)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_weights_of_another_encoder_are_told_in_a_few_lines(tmp_path: Path, encoder: str) -> None:
    save_file(trained("mit_b0"), tmp_path / "model.safetensors")
    network = make_network(encoder)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load(network, encoder, tmp_path)
    text = str(error.value)
    assert f"{tmp_path} are not those of {encoder}" in text
    assert "bn1.weight" in text
    assert "block1.0.attn" in text
    assert len(text) < 1500
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_weight_of_another_shape_is_named(tmp_path: Path, encoder: str) -> None:
    state = trained("resnet18")  # timm's network has the same names
    state["layer1.0.conv1.weight"] = torch.zeros(64, 32, 3, 3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight"):
        load(make_network(encoder), encoder, tmp_path)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_timm_s_encoders_take_timm_s_files(tmp_path: Path, in_channels: int) -> None:
    import timm

    torch.manual_seed(3)
    official = timm.create_model("convnext_atto").eval()
    save_file(official.state_dict(), tmp_path / "model.safetensors")
    network = make_network("tu-convnext_atto", in_channels).eval()
    figures = load(network, "tu-convnext_atto", tmp_path, in_channels)
    assert figures == Normalisation().for_channels(in_channels)
    image = torch.randn(1, in_channels, 64, 64)
    # The deeper stages of DeepLabV3's encoder are dilated, those of the official network are not.
    ours = network.get_submodule("encoder")(image)[2]
    official_features: Any = official.forward_intermediates
    (theirs,) = official_features(image.expand(-1, 3, -1, -1), indices=[0], intermediates_only=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
