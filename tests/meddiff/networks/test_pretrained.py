"""Pretrained weights: where they are looked for, and what is said where they are not."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from meddiff.core.checkpoint import CheckpointError
from meddiff.networks.pretrained import hub_names, load_pretrained, pretrained_available

ARGUMENT = "model.init_args.encoder_weights"


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"conv.weight": torch.randn(2, 3, 1, 1, generator=generator), "bias": torch.zeros(2)}


def check_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)


def write_folder(folder: Path, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    save_file(weights(), folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a network; returns its empty cache of the hub."""

    def refuse(*arguments: object, **keywords: object) -> None:
        raise ConnectionError("Name or service not known")

    def wait(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a download was tried, which repeats itself for half a minute")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", wait)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_folder_gives_its_weights_and_its_config(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "r18", {"mean": [0.1, 0.2, 0.3]})
    found = load_pretrained(str(folder), argument=ARGUMENT)
    check_same(found.state, weights())
    assert found.config == {"mean": [0.1, 0.2, 0.3]}
    # A single file's neighbour may be anyone's.
    assert load_pretrained(str(folder / "model.safetensors"), argument=ARGUMENT).config == {}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_torch_file_may_wrap_its_weights(tmp_path: Path, wrapper: str | None) -> None:
    file = tmp_path / "weights.pth"
    torch.save(weights() if wrapper is None else {wrapper: weights(), "epoch": 3}, file)
    check_same(load_pretrained(str(file), argument=ARGUMENT).state, weights())
    assert pretrained_available(str(file))


def test_it_says_what_it_loads_from_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(tmp_path / "r18")
    with caplog.at_level("INFO"):
        load_pretrained(str(folder), argument=ARGUMENT)
    assert ARGUMENT in caplog.text
    assert str(folder / "model.safetensors") in caplog.text


def test_the_hub_cache_is_read_without_a_network(no_hub: Path) -> None:
    name, _, revision = hub_names("resnet18")["imagenet"].partition("@")
    repository = no_hub / f"models--{name.replace('/', '--')}"
    assert not pretrained_available("imagenet", "resnet18")
    write_folder(repository / "snapshots" / revision, {"std": [1, 1, 1]})
    assert pretrained_available("imagenet", "resnet18")
    assert pretrained_available(f"{name}@{revision}")
    assert not pretrained_available("ssl", "resnet18")
    found = load_pretrained("imagenet", argument=ARGUMENT, encoder="resnet18")
    check_same(found.state, weights())
    assert found.config == {"std": [1, 1, 1]}
    assert name in found.source


@pytest.mark.parametrize(
    ("encoder", "repository"),
    [("resnet18", "smp-hub/resnet18.imagenet"), ("tu-resnet18.a1_in1k", "timm/resnet18.a1_in1k")],
)
def test_without_a_network_it_says_at_once_what_to_fetch_and_where_to_put_it(
    no_hub: Path, encoder: str, repository: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        load_pretrained("imagenet", argument=ARGUMENT, encoder=encoder)
    text = str(error.value)
    assert f"hf download {repository}" in text
    assert "Name or service not known" in text
    assert f"{ARGUMENT} <path>/{repository.rpartition('/')[2]}" in text
    assert f"{ARGUMENT} null" in text
    assert len(text.splitlines()) < 10


def test_the_offline_switch_of_the_hub_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"cannot be downloaded .*offline"):
        load_pretrained("imagenet", argument=ARGUMENT, encoder="resnet18")


def test_what_is_not_there_is_downloaded_at_the_library_s_revision(
    monkeypatch: pytest.MonkeyPatch, no_hub: Path, tmp_path: Path
) -> None:
    folder, asked = write_folder(tmp_path / "snapshot"), []

    def download(repository: str, file: str, revision: str) -> str:
        asked.append(f"{repository}@{revision}")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    check_same(load_pretrained("ssl", argument=ARGUMENT, encoder="resnet18").state, weights())
    assert set(asked) == {hub_names("resnet18")["ssl"]}


def test_an_unknown_name_lists_the_known_ones(no_hub: Path) -> None:
    with pytest.raises(CheckpointError, match=r"imagnet.*imagenet, ssl, swsl for resnet18"):
        load_pretrained("imagnet", argument=ARGUMENT, encoder="resnet18")
    assert not pretrained_available("imagnet", "resnet18")
    # Without an encoder a file that is missing is not asked of the hub.
    with pytest.raises(CheckpointError, match=r"models/r18\.pth is neither a file"):
        load_pretrained("models/r18.pth", argument=ARGUMENT)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=r"empty holds no model.safetensors or pytorch_model"):
        load_pretrained(str(empty), argument=ARGUMENT)
    assert not pretrained_available(str(empty))
    cut = write_folder(tmp_path / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read, it is damaged"):
        load_pretrained(str(cut), argument=ARGUMENT)
    torch.save({"epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match=r"run.pth: holds no weights"):
        load_pretrained(str(tmp_path / "run.pth"), argument=ARGUMENT)
    torch.save({"model": Path("x")}, tmp_path / "hostile.pth")
    with pytest.raises(CheckpointError, match=r"hostile.pth: refused"):
        load_pretrained(str(tmp_path / "hostile.pth"), argument=ARGUMENT)
