"""LEDM's classifier on cached features against a loop that recomputes them each epoch.

    python benchmarks/ledm.py                                      # paper's network, 256 pixels
    python benchmarks/ledm.py --preset small --pixels 64           # seconds

Ours is `LabelledPixels`: features computed once into a memory-mapped fp16 cache, then epochs of
pixel batches over all images. The plain loop computes the features of each image anew in every
epoch, upsamples them and trains on that image's pixels. Both train the same classifier by the same
optimiser on as many pixels and alternate, epoch by epoch, inside one process. Both are linear in
the number of images, so the ratio is measured on a few of them (`--images`).

Prints a table and, last, one JSON line a measurement: `ledm/epoch` is one epoch each (the cache
is there), `ledm/fit` five epochs (the least by the stop rule), the making of the cache in
ours. `peak_mb` is the peak of ours with 20 images (`--images-in-memory`) above the network's
weights in a fresh child process: one making of the cache and 200 iterations.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from measuring import now, peak_of, peak_of_a_child, print_line, seconds
from meddiff import LEDMModule
from meddiff.baselines.ledm.features import upsampled
from meddiff.baselines.ledm.pixels import LabelledPixels

EPOCHS = 5
"""The fewest that the stop rule allows."""
ITERATIONS_FOR_MEMORY = 200


def main() -> None:
    """Measures and prints."""
    options = arguments()
    peak = 0.0 if options.memory_only else peak_of_a_child("--memory-only")
    torch.manual_seed(0)
    module = LEDMModule(preset=options.preset, image_size=options.pixels).to(options.device)
    if options.memory_only:
        items = random_items(options.images_in_memory, options.pixels)
        # On a GPU too it is the process that holds the cache.
        print(peak_of(partial(train_shortly, module, items), "cpu"))
        return
    items = random_items(options.images, options.pixels)
    with tempfile.TemporaryDirectory() as folder:
        started = now()
        pixels = labelled(module, items, folder)
        making = now() - started
        rounds = []
        for number in range(options.rounds):
            ours = seconds(partial(train, module, ours_epoch(module, pixels, number)))
            plain = seconds(partial(train, module, plain_epoch(module, items)))
            rounds.append((ours, plain))
            print(
                f"epoch {number}: ours {ours:.2f} s, recomputing {plain:.2f} s, {plain / ours:.2f}"
            )
    print(f"making the cache of {options.images} images: {making:.2f} s")
    ours, plain = median(r[0] for r in rounds), median(r[1] for r in rounds)
    for name, ours_s, plain_s in (
        ("epoch", ours, plain),
        ("fit", making + EPOCHS * ours, EPOCHS * plain),
    ):
        figures = {
            "ratio": round(plain_s / ours_s, 3),
            "ours_s": round(ours_s, 3),
            "plain_s": round(plain_s, 3),
            "peak_mb": round(peak),
        }
        print_line(f"ledm/{name}_{options.pixels}", options.device, figures)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=["paper", "small", "tiny"], default="paper")
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--images", type=int, default=2, help="of the timed epochs")
    parser.add_argument("--images-in-memory", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def random_items(num: int, pixels: int) -> list[dict[str, Tensor]]:
    """Noise with masks: the time does not depend on what the images show."""
    return [
        {
            "image": torch.rand(3, pixels, pixels) * 2 - 1,
            "mask": torch.randint(0, 2, (pixels, pixels)),
        }
        for _ in range(num)
    ]


def labelled(module: LEDMModule, items: list[dict[str, Tensor]], folder: str) -> LabelledPixels:
    """The cache, as `LEDMModule` makes it."""
    return LabelledPixels(
        items,
        lambda image: module.features(image.to(module.device)),
        Path(folder),
        batch_size=module.hparams["pixel_batch_size"],
        min_class_pixels=1,
    )


Batches = Iterable[tuple[Tensor, Tensor]]


def ours_epoch(module: LEDMModule, pixels: LabelledPixels, epoch: int) -> Batches:
    """Pixel batches from the cache."""
    return pixels.batches(pixels.share(0, 1, key=epoch), module.device)


def plain_epoch(
    module: LEDMModule, items: list[dict[str, Tensor]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixel batches of one image after the other, its features computed now."""
    size = module.hparams["pixel_batch_size"]
    for item in items:
        maps = module.features(item["image"][None].to(module.device))
        vectors = upsampled(maps, item["image"].shape[-1])[0].flatten(1).T
        labels = item["mask"].flatten().to(module.device)
        order = torch.randperm(len(labels), device=module.device)
        for batch in order[: len(order) // size * size].view(-1, size):
            yield vectors[batch], labels[batch]


def train(module: LEDMModule, batches: Batches) -> None:
    """One iteration of the classifier a batch."""
    module.classifier.train()
    optimizer = module.configure_optimizers()
    for x, y in batches:
        loss = F.cross_entropy(module.classifier(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def train_shortly(module: LEDMModule, items: list[dict[str, Tensor]]) -> None:
    """The making of the cache and some iterations."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = labelled(module, items, folder)
        train(module, islice(ours_epoch(module, pixels, 0), ITERATIONS_FOR_MEMORY))


if __name__ == "__main__":
    main()
