import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from callbacks import LastCheckpoint, Performance
from tests.callbacks.toys import ToyModule, assert_same, loader, read, trainer_in, weights_of


@pytest.fixture(autouse=True)
def _restore_precision() -> Any:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Networks that were asked to compile; they run uncompiled."""
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: asked.append(self))
    return asked


def fit(root: Path, performance: Performance, module: LightningModule | None = None) -> Any:
    module = module or ToyModule()
    trainer = trainer_in(root, performance, LastCheckpoint(), max_steps=3)
    trainer.fit(module, loader(), loader())
    return module, trainer


def test_compiles_the_networks_once_in_place(tmp_path: Path, compiled: list[nn.Module]) -> None:
    module, trainer = fit(tmp_path, Performance(compile="on"))
    trainer.validate(module, loader(), verbose=False)
    assert compiled == [module.net]
    assert read(tmp_path / "checkpoints/last.ckpt")["state_dict"].keys() == (
        ToyModule().state_dict().keys()
    )


def test_off_leaves_everything(tmp_path: Path, compiled: list[nn.Module]) -> None:
    module, _ = fit(tmp_path, Performance())
    assert compiled == []
    assert module.net[0].weight.is_contiguous()


def test_auto_without_a_compiler_says_so_once(
    tmp_path: Path, compiled: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(function: Any) -> Any:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    performance = Performance(compile="auto")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        module, trainer = fit(tmp_path, performance)
        trainer.validate(module, loader(), verbose=False)
    ours = [str(warning.message) for warning in said if "performance" in str(warning.message)]
    assert len(ours) == 1
    assert "No working C++ compiler found)" in ours[0]
    assert compiled == []


def test_auto_with_a_compiler_compiles(
    tmp_path: Path, compiled: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    module, _ = fit(tmp_path, Performance(compile="auto"))
    assert compiled == [module.net]


def test_channels_last_is_applied_and_changes_no_result(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain", Performance())
    fast, _ = fit(tmp_path / "fast", Performance(channels_last=True))
    weight = fast.net[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    for name, tensor in weights_of(plain).items():
        torch.testing.assert_close(tensor, fast.state_dict()[name], rtol=1e-4, atol=1e-5)
    saved = read(tmp_path / "fast/checkpoints/last.ckpt")["state_dict"]
    assert_same(saved, weights_of(fast))


@pytest.mark.slow
def test_compiled_network_gives_the_same_result() -> None:
    plain, fast = ToyModule(), ToyModule()
    fast.net.compile()
    image = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fast.net(image), plain.net(image), rtol=0, atol=1e-5)
    assert fast.state_dict().keys() == plain.state_dict().keys()


def test_precision_of_products(tmp_path: Path) -> None:
    fit(tmp_path, Performance(matmul_precision="high"))
    assert torch.get_float32_matmul_precision() == "high"


def test_module_that_names_no_networks_is_left_alone(
    tmp_path: Path, compiled: list[nn.Module]
) -> None:
    class Nameless(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Conv2d(3, 1, 3)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.net(batch["image"]).square().mean()  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module, _ = fit(tmp_path, Performance(compile="on", channels_last=True), Nameless())
    assert compiled == []
    assert module.net.weight.is_contiguous()


@pytest.mark.parametrize("kwargs", [{"compile": "yes"}, {"matmul_precision": "low"}])
def test_unknown_values(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        Performance(**kwargs)
