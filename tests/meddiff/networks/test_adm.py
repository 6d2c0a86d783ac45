import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from meddiff.networks import adm_unet

PAPER: dict[str, Any] = {
    "image_size": 256,
    "in_channels": 3,
    "model_channels": 128,
    "channel_mult": [1, 1, 2, 2, 4, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [32, 16, 8],
    "num_head_channels": 64,
}
TINY: dict[str, Any] = {
    "image_size": 16,
    "in_channels": 1,
    "out_channels": 2,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [8],
}


def parameter_count(**settings: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in adm_unet(**settings).parameters())


def randomised(unet: UNet2DModel) -> UNet2DModel:
    """The zeros of a new network hide what it computes."""
    torch.manual_seed(0)
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return unet.eval()


@pytest.mark.parametrize(
    ("out_channels", "count"),
    [
        (2, 138_285_314),
        (3, 138_286_467),
        (5, 138_288_773),
        (22, 138_308_374),
        (34, 138_322_210),
        (37, 138_325_669),
    ],
)
def test_hybrid_paper_parameter_counts(out_channels: int, count: int) -> None:
    assert parameter_count(**PAPER, out_channels=out_channels) == count


def test_openai_256_parameter_count() -> None:
    assert parameter_count(**PAPER | {"model_channels": 256}, out_channels=6) == 552_814_086


def test_lmi_paper_parameter_count() -> None:
    count = parameter_count(
        image_size=128,
        in_channels=3,
        out_channels=1,
        model_channels=64,
        channel_mult=[1, 1, 2, 3, 4],
        num_res_blocks=2,
        attention_resolutions=[16],
        num_head_channels=None,
        resblock_updown=False,
        use_scale_shift_norm=False,
    )
    assert count == 21_423_169


def test_hybrid_paper_forward_flop() -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        adm_unet(**PAPER, out_channels=5)(torch.zeros(1, 3, 256, 256), torch.zeros(1))
    assert round(counter.get_total_flops() / 1e9, 1) == 563.5


def test_starts_at_zero_and_learns_from_the_first_step() -> None:
    unet = adm_unet(**TINY)
    output = unet(torch.randn(3, 1, 16, 16), torch.tensor([0, 500, 999])).sample
    assert torch.equal(output, torch.zeros(3, 2, 16, 16))
    (output - 1).square().mean().backward()
    assert unet.conv_out.weight.grad.abs().max() > 0


def test_residual_branches_start_as_identity() -> None:
    unet = adm_unet(**TINY)
    h, emb = torch.randn(2, 32, 8, 8), torch.randn(2, 64)
    assert torch.equal(unet.mid_block(h, emb), h)
    down = unet.down_blocks[1]
    skip = down.resnets[0].conv_shortcut
    assert torch.equal(down(h[:, :16], emb)[0], skip(h[:, :16]))
    up = unet.up_blocks[1].resnets[0]
    x = torch.cat([h, h[:, :16]], 1)
    assert torch.equal(up(x, emb), up.conv_shortcut(x))


def test_time_features_put_cosines_first_and_divide_by_half() -> None:
    features = adm_unet(**TINY).time_proj(torch.tensor([0.0, 1.0, 250.25]))
    for row, t in zip(features, [0.0, 1.0, 250.25], strict=True):
        angles = [t * math.exp(-math.log(10000) * i / 8) for i in range(8)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        torch.testing.assert_close(row, torch.tensor(expected), atol=3e-5, rtol=0)


@torch.no_grad()
def test_time_may_be_whole_or_fractional() -> None:
    unet, x = randomised(adm_unet(**TINY)), torch.randn(2, 1, 16, 16)
    whole = unet(x, torch.tensor([7, 900])).sample
    assert torch.equal(unet(x, torch.tensor([7.0, 900.0])).sample, whole)
    assert not torch.allclose(unet(x, torch.tensor([7.5, 900.5])).sample, whole)


@torch.no_grad()
def test_items_of_a_batch_do_not_mix() -> None:
    unet, x, t = randomised(adm_unet(**TINY)), torch.randn(2, 1, 16, 16), torch.tensor([3, 700])
    both = unet(x, t).sample
    alone = torch.cat([unet(x[i : i + 1], t[i : i + 1]).sample for i in range(2)])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_channels", [20, 48, 64])
@torch.no_grad()
def test_widths_that_32_groups_do_not_divide(model_channels: int) -> None:
    unet = adm_unet(**TINY | {"model_channels": model_channels})
    groups = {module.num_groups for module in unet.modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {math.gcd(32, model_channels)}
    assert unet(torch.randn(1, 1, 16, 16), torch.zeros(1)).sample.shape == (1, 2, 16, 16)


def test_dropout_is_drawn_from_the_global_generator() -> None:
    unet, x = randomised(adm_unet(**TINY | {"dropout": 0.5})), torch.randn(1, 1, 16, 16)
    t = torch.zeros(1)

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        result: torch.Tensor = unet(x, t).sample
        return result

    assert torch.equal(run(1), run(2))
    unet.train()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_resolutions_are_pixels_whatever_the_image_size() -> None:
    def attended(**changes: Any) -> list[bool]:
        with torch.device("meta"):
            blocks = adm_unet(**PAPER | {"out_channels": 3} | changes).down_blocks
        return [hasattr(block, "attentions") for block in blocks]

    assert attended() == [False, False, False, True, True, True]
    assert attended(image_size=128) == [False, False, True, True, True, False]
    # 8 is below the coarsest map here: without effect, as in guided-diffusion.
    assert attended(channel_mult=[1, 1, 2, 2, 4]) == [False, False, False, True, True]


@torch.no_grad()
def test_normalisation_statistics_are_float32_under_autocast() -> None:
    # A large mean over a small spread: statistics in bfloat16 would be off by 3 % and more.
    norm = adm_unet(**TINY).conv_norm_out
    x = (50 + 3 * torch.randn(2, 16, 32, 32)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = norm(x)
    exact = nn.functional.group_norm(x.double(), norm.num_groups, eps=norm.eps)
    torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_resolutions": [6]}, r"attention_resolutions: 6 does not divide image_size 16"),
        ({"attention_resolutions": [32]}, r"32 does not divide .* out of \[16, 8\]"),
        (
            {"image_size": 15},
            r"image_size: 15 cannot be halved 1 times.*; give 14 or 16, or",
        ),
        ({"num_head_channels": 24}, r"num_head_channels: 24 does not divide the width 32"),
        ({"channel_mult": [2, 4]}, r"channel_mult: \[2, 4\] does not start with 1"),
        ({"channel_mult": []}, r"channel_mult: \[\] does not start with 1"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adm_unet(**TINY | changes)
