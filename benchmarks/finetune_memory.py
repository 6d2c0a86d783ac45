"""The memory that fine-tuning takes, with and without gradient checkpointing.

    python benchmarks/finetune_memory.py                 # paper's network, 256 pixels; minutes
    python benchmarks/finetune_memory.py --device cuda   # the batch itself, by the GPU's allocator

On a CPU the peak of the process above where it stood without the network is measured for batches of
one and two images, each in a fresh child process, in one training step with AdamW's moments in
memory, and extrapolated linearly to `--batch`. Weights, gradients and moments are in it.

Prints a table and, last, one JSON line: `ratio` is plain over checkpointed memory.
"""

import argparse
from functools import partial

import torch

from measuring import peak_of, peak_of_a_child, print_line
from meddiff import HybridFinetuneModule

MIB_IN_GIB = 1024


def main() -> None:
    """Measures and prints."""
    options = arguments()
    if options.measure is not None:
        print(peak_of(partial(train_a_step, options), options.device))
        return
    plain = peak_in_mib(options)
    checkpointed = peak_in_mib(options, "--checkpointing")
    print(f"batch {options.batch}: {plain / MIB_IN_GIB:.1f} GiB, checkpointed", end=" ")
    print(f"{checkpointed / MIB_IN_GIB:.1f} GiB")
    figures = {
        "ratio": round(plain / checkpointed, 3),
        "peak_mb": round(checkpointed),
        "plain_peak_mb": round(plain),
    }
    name = f"finetune_memory/batch{options.batch}_{options.pixels}"
    print_line(name, options.device, figures)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=["paper", "small", "tiny"], default="paper")
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_in_mib(options: argparse.Namespace, *arguments: str) -> float:
    """The peak of `train_a_step` at the whole batch; on a CPU extrapolated."""
    if options.device == "cuda":
        return peak_of_a_child("--measure", str(options.batch), *arguments)
    one, two = (peak_of_a_child("--measure", batch, *arguments) for batch in ("1", "2"))
    named = " ".join(arguments) or "plain"
    print(f"{named}: {one / MIB_IN_GIB:.2f} and {two / MIB_IN_GIB:.2f} GiB measured")
    return one + (two - one) * (int(options.batch) - 1)


def train_a_step(options: argparse.Namespace) -> None:
    """One step of fine-tuning, everything that it holds made on the way."""
    module = HybridFinetuneModule(
        preset=options.preset,
        image_size=options.pixels,
        gradient_checkpointing=options.checkpointing,
    ).to(options.device)
    optimizer = torch.optim.AdamW(module.parameters(), 2e-4)
    shape = (options.measure, 3, options.pixels, options.pixels)
    batch = {
        "image": torch.zeros(shape, device=options.device),
        "mask": torch.zeros((shape[0], *shape[2:]), dtype=torch.long, device=options.device),
    }
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes the moments
    module.loss(batch).backward()
    optimizer.step()


if __name__ == "__main__":
    main()
