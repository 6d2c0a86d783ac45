"""The memory that fine-tuning takes, with and without gradient checkpointing.

    python benchmarks/finetune_memory.py                 # paper's network, 256 pixels; minutes
    python benchmarks/finetune_memory.py --device cuda   # the batch itself, by the GPU's allocator

On a CPU the peak of the process above where it stood without the network is measured for batches of
one and two images, each in a fresh child process, in one training step with AdamW's moments in
memory, and extrapolated linearly to ``--batch``. Weights, gradients and moments are in it.

Prints a table and, last, one JSON line: ``ratio`` is plain over checkpointed memory.
"""

import argparse
import json
import resource
import subprocess
import sys

import psutil
import torch

from meddiff import HybridFinetuneModule

GIB = 2**30


def main() -> None:
    """Measures and prints."""
    options = arguments()
    if options.measure is not None:
        print(peak(options))
        return
    found = {}
    for checkpointing in (False, True):
        if options.device == "cuda":
            found[checkpointing] = of_a_child(checkpointing, options.batch)
            continue
        one, two = (of_a_child(checkpointing, batch) for batch in (1, 2))
        found[checkpointing] = one + (two - one) * (options.batch - 1)
        print(f"checkpointing {checkpointing}: {one / GIB:.2f} and {two / GIB:.2f} GiB measured")
    print(f"batch {options.batch}: {found[False] / GIB:.1f} GiB, checkpointed", end=" ")
    print(f"{found[True] / GIB:.1f} GiB")
    line = {
        "name": f"finetune_memory/batch{options.batch}_{options.pixels}",
        "ratio": round(found[False] / found[True], 3),
        "peak_mb": round(found[True] / 2**20),
        "plain_peak_mb": round(found[False] / 2**20),
        "device": "cpu" if options.device == "cpu" else torch.cuda.get_device_name(),
    }
    print(json.dumps(line))


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


def of_a_child(checkpointing: bool, batch: int) -> int:
    """``peak`` in a process of its own, in bytes."""
    command = [sys.executable, *sys.argv, "--measure", str(batch)]
    command += ["--checkpointing"] if checkpointing else []
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(child.stdout.split()[-1])


def peak(options: argparse.Namespace) -> int:
    """Bytes at the peak of a training step."""
    before = psutil.Process().memory_info().rss
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
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


if __name__ == "__main__":
    main()
