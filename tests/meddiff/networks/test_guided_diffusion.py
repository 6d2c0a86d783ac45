import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from meddiff.networks import adm_unet, load_guided_diffusion

SETTINGS: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 3,
    "out_channels": 5,
    "model_channels": 32,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (16, 8),
    "num_head_channels": 16,
}


class Reference:
    """guided-diffusion's UNet, from the definition in docs/papers/shared.md 0.3.3.

    A weight is drawn when the computation first asks for it, under OpenAI's name: so one forward
    pass writes the state dict.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = {"resblock_updown": True, "use_scale_shift_norm": True} | settings
        self.state: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(0)

    def parameter(self, name: str, *shape: int, mean: float = 0.0) -> Tensor:
        if name not in self.state:
            std = 1 / math.sqrt(math.prod(shape[1:]) or 1) if len(shape) > 1 else 0.2
            self.state[name] = mean + std * torch.randn(shape, generator=self.generator)
        return self.state[name]

    def conv(self, name: str, x: Tensor, out: int, kernel: int = 3, stride: int = 1) -> Tensor:
        weight = self.parameter(f"{name}.weight", out, x.shape[1], kernel, kernel)
        bias = self.parameter(f"{name}.bias", out)
        return F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2)

    def linear(self, name: str, x: Tensor, out: int) -> Tensor:
        weight = self.parameter(f"{name}.weight", out, x.shape[1])
        return x @ weight.T + self.parameter(f"{name}.bias", out)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.parameter(f"{name}.weight", x.shape[1], mean=1.0)
        groups: Tensor = x.unflatten(1, (32, -1)).flatten(2)
        variance, mean = torch.var_mean(groups, dim=2, correction=0, keepdim=True)
        normal = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
        wide = (1, -1) + (1,) * (x.ndim - 2)
        bias = self.parameter(f"{name}.bias", x.shape[1])
        return normal * weight.reshape(wide) + bias.reshape(wide)

    def res_block(
        self, name: str, x: Tensor, emb: Tensor, out: int, resample: str | None = None
    ) -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif resample == "up":
            h, x = (v.repeat_interleave(2, 2).repeat_interleave(2, 3) for v in (h, x))
        h = self.conv(f"{name}.in_layers.2", h, out)
        scale_shift = self.settings["use_scale_shift_norm"]
        e = self.linear(f"{name}.emb_layers.1", F.silu(emb), out * (2 if scale_shift else 1))
        e = e[:, :, None, None]
        if scale_shift:
            h = self.norm(f"{name}.out_layers.0", h) * (1 + e[:, :out]) + e[:, out:]
        else:
            h = self.norm(f"{name}.out_layers.0", h + e)
        h = self.conv(f"{name}.out_layers.3", F.silu(h), out)
        return h + (
            x if x.shape[1] == out else self.conv(f"{name}.skip_connection", x, out, kernel=1)
        )

    def attention(self, name: str, x: Tensor) -> Tensor:
        batch, channels, *space = x.shape
        width = self.settings["num_head_channels"] or channels
        tokens = self.norm(f"{name}.norm", x.flatten(2))
        qkv = F.conv1d(
            tokens,
            self.parameter(f"{name}.qkv.weight", 3 * channels, channels, 1),
            self.parameter(f"{name}.qkv.bias", 3 * channels),
        )
        q, k, v = qkv.reshape(batch * (channels // width), 3 * width, -1).split(width, dim=1)
        scores = torch.einsum("bct,bcs->bts", q * width**-0.25, k * width**-0.25)
        mixed = torch.einsum("bts,bcs->bct", scores.softmax(-1), v).reshape(batch, channels, -1)
        mixed = F.conv1d(
            mixed,
            self.parameter(f"{name}.proj_out.weight", channels, channels, 1),
            self.parameter(f"{name}.proj_out.bias", channels),
        )
        return x + mixed.reshape(batch, channels, *space)

    def resample(self, name: str, h: Tensor, emb: Tensor, way: str) -> Tensor:
        width = h.shape[1]
        if self.settings["resblock_updown"]:
            return self.res_block(name, h, emb, width, way)
        if way == "down":
            return self.conv(f"{name}.op", h, width, stride=2)
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.conv(f"{name}.conv", h, width)

    def time_embedding(self, t: Tensor) -> Tensor:
        width = self.settings["model_channels"]
        half = width // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = self.linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1), 4 * width)
        return self.linear("time_embed.2", F.silu(emb), 4 * width)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        s = self.settings
        attended = {s["image_size"] // resolution for resolution in s["attention_resolutions"]}
        widths = [s["model_channels"] * multiple for multiple in s["channel_mult"]]
        last = len(widths) - 1
        emb = self.time_embedding(t)
        h = self.conv("input_blocks.0.0", x, widths[0])
        skips, down_rate = [h], 1
        for level, width in enumerate(widths):
            for _ in range(s["num_res_blocks"]):
                name = f"input_blocks.{len(skips)}"
                h = self.res_block(f"{name}.0", h, emb, width)
                if down_rate in attended:
                    h = self.attention(f"{name}.1", h)
                skips.append(h)
            if level != last:
                h = self.resample(f"input_blocks.{len(skips)}.0", h, emb, "down")
                skips.append(h)
                down_rate *= 2
        h = self.res_block("middle_block.0", h, emb, h.shape[1])
        h = self.attention("middle_block.1", h)
        h = self.res_block("middle_block.2", h, emb, h.shape[1])
        number = 0
        for level, width in reversed(list(enumerate(widths))):
            for block in range(s["num_res_blocks"] + 1):
                name, part = f"output_blocks.{number}", 1
                h = self.res_block(f"{name}.0", torch.cat([h, skips.pop()], 1), emb, width)
                if down_rate in attended:
                    h, part = self.attention(f"{name}.1", h), 2
                if level and block == s["num_res_blocks"]:
                    h = self.resample(f"{name}.{part}", h, emb, "up")
                    down_rate //= 2
                number += 1
        return self.conv("out.2", F.silu(self.norm("out.0", h)), s["out_channels"])


def inputs() -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([3.0, 871.5])


@pytest.fixture(scope="module")
def openai_state() -> dict[str, Tensor]:
    reference = Reference(**SETTINGS)
    reference(*inputs())
    return reference.state


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"num_head_channels": None, "num_res_blocks": 1},
        {"use_scale_shift_norm": False},
        {"resblock_updown": False, "use_scale_shift_norm": False, "num_head_channels": None},
    ],
    ids=["paper", "one-head", "added-time", "lmi"],
)
@torch.no_grad()
def test_computes_what_guided_diffusion_computes(variant: dict[str, Any]) -> None:
    x, t = inputs()
    reference = Reference(**SETTINGS | variant)
    expected = reference(x, t)
    assert expected.std() > 0.1  # the comparison is not one of zeros
    unet = load_guided_diffusion(adm_unet(**SETTINGS | variant), reference.state)
    torch.testing.assert_close(unet(x, t).sample, expected, atol=1e-5, rtol=1e-5)


def test_every_tensor_arrives(openai_state: dict[str, Tensor]) -> None:
    unet = adm_unet(**SETTINGS)
    for parameter in unet.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    addresses = [parameter.data_ptr() for parameter in unet.parameters()]
    assert load_guided_diffusion(unet, openai_state) is unet
    assert [parameter.data_ptr() for parameter in unet.parameters()] == addresses
    arrived = torch.cat([parameter.detach().flatten() for parameter in unet.parameters()])
    given = torch.cat([value.flatten() for value in openai_state.values()])
    # The same numbers, none lost and none twice; their places are the other test's matter.
    assert torch.equal(arrived.sort().values, given.sort().values)


def test_reads_a_file(openai_state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(openai_state, tmp_path / "weights.pt")
    from_file = load_guided_diffusion(adm_unet(**SETTINGS), tmp_path / "weights.pt").state_dict()
    from_dict = load_guided_diffusion(adm_unet(**SETTINGS), openai_state).state_dict()
    assert all(torch.equal(from_file[key], from_dict[key]) for key in from_dict)


def test_names_all_that_does_not_fit_and_changes_nothing(openai_state: dict[str, Tensor]) -> None:
    broken = dict(openai_state)
    del broken["middle_block.1.qkv.bias"]
    broken["input_blocks.3.0.in_layer.2.weight"] = torch.zeros(1)
    broken["out.2.weight"] = torch.zeros(6, 32, 3, 3)
    unet = adm_unet(**SETTINGS)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit this network") as error:
        load_guided_diffusion(unet, broken)
    message = str(error.value)
    assert "missing: middle_block.1.qkv.bias" in message
    assert "unknown: input_blocks.3.0.in_layer.2.weight" in message
    assert "out.2.weight (6, 32, 3, 3), the network has (5, 32, 3, 3)" in message
    assert all(torch.equal(before[key], value) for key, value in unet.state_dict().items())


def test_a_long_list_of_misfits_is_cut() -> None:
    with pytest.raises(ValueError, match=r"missing: time_embed.0.weight, .* and \d+ more$"):
        load_guided_diffusion(adm_unet(**SETTINGS), {})


def test_says_that_a_checkpoint_is_class_conditional(openai_state: dict[str, Tensor]) -> None:
    conditional = openai_state | {"label_emb.weight": torch.zeros(1000, 128)}
    with pytest.raises(ValueError, match=r"class-conditional.*256x256_diffusion_uncond\.pt"):
        load_guided_diffusion(adm_unet(**SETTINGS), conditional)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code that must not run",))


def test_runs_no_code_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"out.2.weight": Payload()}, tmp_path / "hostile.pt")
    with pytest.raises(ValueError, match=r"hostile\.pt"):
        load_guided_diffusion(adm_unet(**SETTINGS), tmp_path / "hostile.pt")
    assert "must not run" not in capsys.readouterr().out


def test_says_where_no_file_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load_guided_diffusion(adm_unet(**SETTINGS), str(tmp_path / "none.pt"))
