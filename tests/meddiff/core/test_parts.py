"""A checkpoint with parts missing or of another kind says which."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import meddiff
from meddiff import HybridDiffusionModule
from meddiff.core.checkpoint import (
    CheckpointError,
    check_identity,
    check_written_by,
    identity_of,
    read_checkpoint,
)
from meddiff.core.parts import fault_in_training, fault_in_weights
from meddiff.core.torch_file import whole_sibling

COUNTS = {"ready": 3, "started": 3, "processed": 3, "completed": 2}


def whole() -> dict[str, Any]:
    progress = {"total": dict(COUNTS), "current": dict(COUNTS), "is_last_batch": False}
    return {
        "pytorch-lightning_version": "2.6.6",
        "global_step": 3,
        "epoch": 0,
        "callbacks": {},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
        "optimizer_states": [{"state": {}, "param_groups": [{"params": [0]}]}],
        "lr_schedulers": [],
        "state_dict": {"a": torch.ones(2), "b._extra_state": {"c": 1}},
        "hyper_parameters": {"width": 3},
    }


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in whole().items() if key not in keys}


def test_a_whole_one_has_no_fault() -> None:
    assert fault_in_weights(whole()) is None
    assert fault_in_training(whole()) is None


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ({}, "it lacks state_dict, the weights; it is empty"),
        ({"conv_in.weight": torch.ones(2)}, "a state dict of tensors alone, as other libraries"),
        ({"model": {}, "optimizer": {}}, "it holds model, optimizer"),
        (whole() | {"state_dict": [torch.ones(2)]}, "its state_dict is a list"),
        (whole() | {"state_dict": {"a": 3.0}}, "its state_dict holds a float as a"),
        (whole() | {"state_dict": {3: torch.ones(2)}}, "its state_dict has the key 3"),
        (whole() | {"state_dict": {"a": torch.tensor([1.0, torch.nan])}}, "a are not finite"),
        (whole() | {"hyper_parameters": 7}, "its hyper_parameters are a int"),
    ],
)
def test_weights_of_another_kind_are_named(checkpoint: dict[str, Any], words: str) -> None:
    assert words in str(fault_in_weights(checkpoint))


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (without("loops", "optimizer_states"), "it lacks loops, optimizer_states, without which"),
        (whole() | {"global_step": "3"}, "its global_step is a str, not a number of steps"),
        (whole() | {"global_step": True}, "its global_step is a bool"),
        (whole() | {"epoch": -1}, "its epoch is -1"),
        (whole() | {"pytorch-lightning_version": "x"}, "is no version"),
        (whole() | {"optimizer_states": {}}, "its optimizer_states is a dict"),
        (whole() | {"optimizer_states": []}, "its optimizer_states are empty"),
        (whole() | {"optimizer_states": [7]}, r"optimizer_states[0] is a int"),
        (whole() | {"optimizer_states": [{"state": {}}]}, "lacks param_groups"),
        (whole() | {"optimizer_states": [{"state": {}, "param_groups": [1]}]}, "without params"),
        (whole() | {"loops": {}}, "its loops lack fit_loop"),
        (whole() | {"loops": {"fit_loop": {}}}, "its loops lack the count of batches (total)"),
    ],
)
def test_what_training_lacks_is_named(checkpoint: dict[str, Any], words: str) -> None:
    assert words in str(fault_in_training(checkpoint))


@pytest.mark.parametrize("lacking", ["state_dict", "hyper_parameters"])
def test_all_who_read_a_checkpoint_of_ours_say_so(tmp_path: Path, lacking: str) -> None:
    file = tmp_path / "x.ckpt"
    module = HybridDiffusionModule(preset="tiny", image_size=16)
    checkpoint = without(lacking) | {"meddiff": identity_of(module)}
    torch.save(checkpoint, file)
    readers: list[Callable[[], Any]] = [
        lambda: meddiff.load(file),
        lambda: check_identity(checkpoint, HybridDiffusionModule, file),
        lambda: check_written_by(checkpoint, ["meddiff.HybridDiffusionModule"], file),
    ]
    for reads in readers:
        with pytest.raises(CheckpointError, match=rf"x\.ckpt: is not a whole.*lacks {lacking}"):
            reads()


@pytest.mark.parametrize("content", [b"", b"hello world", bytes(5000), b"\x89PNG\r\n\x1a\n", b"{"])
def test_other_bytes_are_damaged_and_not_hostile(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.ckpt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.ckpt: cannot be read, it is damaged") as error:
        read_checkpoint(file)
    assert len(str(error.value).splitlines()) == 1


def test_a_changed_byte_in_the_weights_is_found(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    torch.save(whole() | {"state_dict": {"a": torch.zeros(10000)}}, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(CheckpointError, match=r"the sum of .* is another one"):
            read_checkpoint(file, mapped=mapped)


def test_the_whole_one_of_two_is_named(tmp_path: Path) -> None:
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    for file in (last, best):
        torch.save(whole(), file)
    assert whole_sibling(last) == (best, 3)
    last.write_bytes(last.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"best\.ckpt, of step 3, is whole: give that one"):
        read_checkpoint(last)
    best.write_bytes(b"")
    assert whole_sibling(last) is None
