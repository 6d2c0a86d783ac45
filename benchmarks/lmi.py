"""Local mutual information maps against the direct form, which holds all joint densities at once.

    python benchmarks/lmi.py                                   # 128 pixels, a minute
    python benchmarks/lmi.py --pixels 32 --batch 4 --rounds 2  # seconds
    python benchmarks/lmi.py --device cuda --batch 16

The direct form makes the joint densities of all patch pairs of one map, (9 H W, 27, 27) floats, and
takes their entropies; of a batch it makes one map after the other. Both alternate inside one
process and must agree within 1e-5, else the exit status is 1. Ours depends on what the images
show, so three pairs are timed: an image (an ellipse with soft stripes on black, as a brain slice)
with its noisy version, with itself, and two images of uniform noise, for which no pixel is cheap.

Prints a table and, last, one JSON line a measurement: `lmi/direct_<pixels>` is the first pair;
`ours_s` and `plain_s` are of one batch, the best of all rounds; `peak_mb` is the peak of ours
for a batch of 4 above its inputs in a fresh child process. On a GPU `lmi/share_of_unet_<pixels>`
too: one forward pass of the paper's score network (plain) over one cross map (ours), each step of a
translation being one of each.
"""

import argparse
import sys
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from measuring import peak_of, peak_of_a_child, print_line, seconds
from meddiff.lmi import local_mutual_information
from meddiff.lmi.estimators import Estimator
from meddiff.networks import adm_unet

TOLERANCE = 1e-5
BATCH_FOR_MEMORY = 4
BATCH_OF_UNET = 16
STEPS = 1000


def main() -> None:
    """Measures and prints."""
    options = arguments()
    torch.manual_seed(0)
    if options.memory_only:
        print(peak_memory(options))
        return
    peak = peak_of_a_child("--memory-only")
    pairs = image_pairs(options.batch, options.pixels, options.device)
    lines, worst = [], 0.0
    for name, (x, y) in pairs.items():
        worst = max(worst, (local_mutual_information(x, y) - direct(x, y)).abs().max().item())
        rounds = [
            (seconds(partial(local_mutual_information, x, y)), seconds(partial(direct, x, y)))
            for _ in range(options.rounds)
        ]
        ours, plain = (min(times) for times in zip(*rounds, strict=True))
        print(f"{name:>6}: ours {ours:.4f} s, direct {plain:.4f} s, ratio {plain / ours:.2f}")
        lines.append({"ratio": plain / ours, "ours_s": ours, "plain_s": plain})
    print(f"largest difference {worst:.1e}")
    found = {f"lmi/direct_{options.pixels}": {**lines[0], "peak_mb": peak}}
    if options.device == "cuda":
        found[f"lmi/share_of_unet_{options.pixels}"] = share_of_unet(options.pixels)
    for name, figures in found.items():
        rounded = {key: float(f"{value:.4g}") for key, value in figures.items()}
        print_line(name, options.device, rounded)
    sys.exit(worst > TOLERANCE)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def image_pairs(batch: int, pixels: int, device: str) -> dict[str, tuple[Tensor, Tensor]]:
    """What is timed."""
    row, column = torch.meshgrid(*[torch.linspace(-1, 1, pixels)] * 2, indexing="ij")
    inside = ((row / 0.85).square() + (column / 0.7).square() < 1).float()
    stripes = 0.5 + 0.3 * torch.sin(9 * column + 4 * torch.cos(7 * row))
    texture = 0.03 * torch.randn(batch, 1, pixels, pixels)
    slices = (inside * (stripes + texture)).clamp(0, 1).to(device)
    noise = torch.rand(2, batch, 1, pixels, pixels, device=device)
    return {
        "noisy": (slices, slices + 0.7 * torch.randn_like(slices)),
        "itself": (slices, slices),
        "noise": (noise[0], noise[1]),
    }


def direct(x: Tensor, y: Tensor) -> Tensor:
    """The map by its definition, all patch pairs of an image at once."""
    measure = Estimator(bins=27, bandwidth=8.0, normalized=True, estimator="parzen")
    maps = []
    for a, b in zip(scaled(x), scaled(y), strict=True):
        height, width = a.shape[-2:]
        own = F.pad(a[0], [1] * 4).unfold(0, 3, 1).unfold(1, 3, 1)
        others = F.pad(b[0], [2] * 4).unfold(0, 3, 1).unfold(1, 3, 1)
        searched = others.unfold(0, height, 1).unfold(1, width, 1)
        candidates = searched.permute(0, 1, 4, 5, 2, 3).reshape(-1, 9)
        found = measure(own.reshape(-1, 9).repeat(9, 1), candidates)
        maps.append(found.view(9, 1, height, width).amax(0))
    return torch.stack(maps)


def scaled(image: Tensor) -> Tensor:
    """Grey levels 0..255 by each image's minimum and maximum."""
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low) * 255


def share_of_unet(pixels: int) -> dict[str, float]:
    """Seconds of one step's map and network, each the best of ten."""
    unet = adm_unet(
        image_size=pixels,
        in_channels=3,
        out_channels=1,
        model_channels=64,
        channel_mult=(1, 1, 2, 3, 4),
        num_res_blocks=2,
        attention_resolutions=(16,),
        resblock_updown=False,
        use_scale_shift_norm=False,
    ).cuda()
    x, y = image_pairs(BATCH_OF_UNET, pixels, "cuda")["noisy"]
    maps, t = torch.cat([x, y, x], dim=1), torch.zeros(BATCH_OF_UNET, device="cuda")
    with torch.no_grad():
        network = min(seconds(lambda: unet(maps, t)) for _ in range(10))
        ours = min(seconds(lambda: local_mutual_information(x, y)) for _ in range(10))
    print(f"{STEPS} steps of {BATCH_OF_UNET}: maps {STEPS * ours:.1f} s", end=", ")
    print(f"network {STEPS * network:.1f} s")
    return {"ratio": network / ours, "ours_s": ours, "plain_s": network}


def peak_memory(options: argparse.Namespace) -> int:
    """Bytes that the dearest of the maps takes above its inputs."""
    pairs = image_pairs(BATCH_FOR_MEMORY, options.pixels, options.device)
    # What libraries take at their first call is no part of it.
    local_mutual_information(*image_pairs(1, 8, options.device)["noise"])

    def all_maps() -> None:
        for x, y in pairs.values():
            local_mutual_information(x, y)

    return peak_of(all_maps, options.device)


if __name__ == "__main__":
    main()
