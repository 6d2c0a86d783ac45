"""Our Lightning training step against a plain loop over the same network.

    python benchmarks/train_step.py --method hybrid                    # two cores, small preset
    python benchmarks/train_step.py --method hybrid --hardware h100    # one GPU, paper's network

Ours is `Trainer.fit` with the settings of `configs/hardware/<hardware>.yaml` (gradient
accumulation aside) and the standing callbacks that work at every step. The plain loop is diffusers'
recipe for unconditional training: float32, AdamW, clipping at 1.0, its EMAModel, `.item()` of the
loss at each step; it adds the method's mask term, so that both do the same work. Both see the same
batches and alternate inside one process: after each round of ours a callback runs a round of the
plain loop while the clock of ours stands still.

Prints a table and, last, one JSON line. `ratio` is plain_s / ours_s (seconds a step, each the
median of the rounds). `peak_mb` is the peak of ours above its weights and batches in a fresh
child process: of the GPU's allocator, on a CPU of the process.
"""

import argparse
import tempfile
from collections.abc import Callable
from copy import deepcopy
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from callbacks import EMACallback, NonFiniteGuard, Performance, Throughput
from measuring import now, peak_of, peak_of_a_child, print_line
from meddiff import HybridDiffusionModule

Batch = dict[str, Tensor]
CONFIGS = Path(__file__).parents[1] / "configs" / "hardware"
BF16_PEAK = 989e12
"""Dense bf16 FLOP/s of an H100 or H200."""
EMA_DECAY = 0.9999
WARMUP = 3
"""Steps before the clock starts: compilation, allocators, states of the optimisers."""


def main() -> None:
    """Measures and prints."""
    options = arguments()
    peak = 0.0 if options.memory_only else peak_of_a_child("--memory-only")
    overlay = yaml.safe_load((CONFIGS / f"{options.hardware}.yaml").read_text(encoding="utf-8"))
    data = overlay["data"]["init_args"]
    pixels = options.pixels or data.get("image_size", 256)
    preset = overlay.get("model", {}).get("init_args", {}).get("preset", "paper")
    torch.manual_seed(0)
    module = HybridDiffusionModule(preset=preset, image_size=pixels)
    batches = [random_batch(options.batch or data["batch_size"], pixels) for _ in range(4)]
    if options.memory_only:
        print(peak_memory(module, batches, overlay, options.device))
        return
    rounds = Rounds(plain_step(deepcopy(module), batches, options.device), options.steps)
    fit(module, batches, overlay, options.device, WARMUP + options.rounds * options.steps, rounds)
    print_table(rounds)
    ours, plain = median(rounds.ours), median(rounds.plain)
    if options.device == "cuda":
        share = training_flop(module, pixels) * len(batches[0]["image"]) / ours / BF16_PEAK
        print(f"{share:.1%} of the bf16 peak of {BF16_PEAK / 1e12:.0f} TFLOP/s")
    figures = {
        "ratio": round(plain / ours, 3),
        "ours_s": round(ours, 5),
        "plain_s": round(plain, 5),
        "peak_mb": round(peak),
    }
    print_line(f"train_step/{options.method}_{pixels}", options.device, figures)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--method", choices=["hybrid"], default="hybrid")
    parser.add_argument("--hardware", choices=["cpu", "h100"], default="cpu")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: fits --hardware")
    parser.add_argument("--pixels", type=int, help="default: the overlay's image_size, else 256")
    parser.add_argument("--batch", type=int, help="default: the overlay's batch_size")
    parser.add_argument("--steps", type=int, default=10, help="steps of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.hardware == "cpu" else "cuda")
    return options


def random_batch(size: int, pixels: int) -> Batch:
    """Noise with masks: the time of a step does not depend on what the images show."""
    return {
        "image": torch.rand(size, 3, pixels, pixels) * 2 - 1,
        "mask": torch.randint(0, 2, (size, pixels, pixels)),
        "index": torch.arange(size),
    }


def loader(batches: list[Batch], device: str) -> DataLoader[Batch]:
    """The batches as they are, in memory that the device reads fast."""
    return DataLoader(batches, batch_size=None, pin_memory=device == "cuda")  # type: ignore[arg-type]


class Rounds(Callback):
    """Times rounds of the fit it belongs to, and a plain round after each.

    It has to be the last callback: what the others do after a step is then inside the time.
    """

    def __init__(self, plain: Callable[[], None], steps: int) -> None:
        self.plain_step = plain
        self.steps = steps
        self.ours: list[float] = []
        self.plain: list[float] = []
        self._seen = 0
        self._started = 0.0

    @property
    def ratios(self) -> list[float]:
        """Plain over ours, round by round."""
        return [plain / ours for plain, ours in zip(self.plain, self.ours, strict=True)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends a round of ours, runs one of the plain loop, begins the next."""
        self._seen += 1
        timed = self._seen - WARMUP
        if timed < 0 or timed % self.steps:
            return
        if timed:
            self.ours.append((now() - self._started) / self.steps)
        started = now()
        for _ in range(self.steps if timed else WARMUP):
            self.plain_step()
        if timed:
            self.plain.append((now() - started) / self.steps)
        self._started = now()


def fit(
    module: LightningModule,
    batches: list[Batch],
    overlay: dict[str, Any],
    device: str,
    steps: int,
    *last: Callback,
) -> None:
    """Trains for `steps` in one epoch, as the command would."""
    settings = overlay["trainer"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=device,
            devices=1,
            precision=settings["precision"],
            max_steps=steps,
            gradient_clip_val=1.0,
            log_every_n_steps=settings.get("log_every_n_steps", 50),
            logger=CSVLogger(folder),
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[
                Performance(**overlay["performance"]),
                EMACallback(decay=EMA_DECAY),
                Throughput(),
                NonFiniteGuard(),
                *last,
            ],
        )
        trainer.fit(module, loader((batches * steps)[:steps], device))


def plain_step(
    module: HybridDiffusionModule, batches: list[Batch], device: str
) -> Callable[[], None]:
    """A step of diffusers' unconditional recipe (`prediction_type: sample`) as a function."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_constant_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    unet: nn.Module = module.unet.to(device).train()
    parameters = list(unet.parameters())
    h = module.hparams
    optimizer = torch.optim.AdamW(
        parameters, h["learning_rate"], h["adam_betas"], h["adam_eps"], h["weight_decay"]
    )
    rate = get_constant_schedule_with_warmup(optimizer, h["warmup_steps"])
    ema = EMAModel(parameters, decay=EMA_DECAY, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    ema.to(device)
    noise_scheduler = DDPMScheduler(1000, beta_end=0.02, prediction_type="sample")
    abar = noise_scheduler.alphas_cumprod.to(device)
    endless = cycle(loader(batches, device))

    def step() -> None:
        batch = {key: value.to(device, non_blocking=True) for key, value in next(endless).items()}
        image, mask = batch["image"], F.one_hot(batch["mask"], 2).movedim(-1, 1).float()
        noise = torch.randn_like(image)
        t = torch.randint(0, 1000, (len(image),), device=device)
        output = unet(noise_scheduler.add_noise(image, noise, t), t).sample
        snr = (abar[t] / (1 - abar[t])).view(-1, 1, 1, 1)
        loss = (snr * F.mse_loss(output[:, :3], image, reduction="none")).mean()
        mask_loss = (snr * F.mse_loss(output[:, 3:], mask, reduction="none")).mean()
        loss = loss + h["mask_weight"] * mask_loss
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(parameters)
        loss.detach().item()

    return step


def peak_memory(
    module: LightningModule, batches: list[Batch], overlay: dict[str, Any], device: str
) -> int:
    """Bytes at the peak of a few steps above weights and batches."""
    peak = peak_of(lambda: fit(module, batches, overlay, device, WARMUP), device)
    if device == "cpu":
        return peak
    # Both come to the GPU in the fit.
    weights = sum(parameter.nbytes for parameter in module.parameters())
    return peak - weights - sum(value.nbytes for value in batches[0].values())


def training_flop(module: HybridDiffusionModule, pixels: int) -> int:
    """FLOP of one image in a training step: three forwards (563.5 GFLOP each at 256 pixels)."""
    unet = deepcopy(module.unet).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 3, pixels, pixels, device="meta"), torch.zeros(1, device="meta"))
    return 3 * int(counter.get_total_flops())


def print_table(rounds: Rounds) -> None:
    """One line a round."""
    print(f"{'round':>5} {'ours s':>9} {'plain s':>9} {'ratio':>6}")
    for number, row in enumerate(zip(rounds.ours, rounds.plain, rounds.ratios, strict=True), 1):
        print("{:>5} {:>9.4f} {:>9.4f} {:>6.2f}".format(number, *row))


if __name__ == "__main__":
    main()
