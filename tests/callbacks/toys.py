"""A module, a data set and a trainer that are as small as they can be."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from callbacks import AtomicCheckpointIO
from meddiff.core.protocols import Generators

SIZE = 8


class ToyModule(LightningModule):
    """A convolution that is trained, with dropout, on data that depend on the batch number only.

    So an exact resume is a matter of the weights, the optimiser and the averages alone.
    """

    def __init__(
        self, bad_batch: int | None = None, bad_rank: int = 0, num_classes: int = 2, seed: int = 3
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.bad_batch = bad_batch
        self.bad_rank = bad_rank
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, num_classes, 1)
        )
        self.frozen = nn.Linear(2, 2).requires_grad_(False).eval()

    def networks(self) -> list[nn.Module]:
        return [self.net]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(number)
        image = F.dropout(torch.randn(4, 3, SIZE, SIZE, device=self.device))
        loss: Tensor = (self.net(image) - 1).square().mean()
        if number == self.bad_batch and self.global_rank == self.bad_rank:
            loss = loss * float("nan")
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", (self.net(batch["image"]) - 1).square().mean())

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        pass

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        image, mask = batch["image"], batch["mask"] % 255
        return {"image": image, "mask": mask, "code": image[:, 0], "index": batch["index"]}

    def segment(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits

    def sample(self, num: int, generator: Generators = None, **kwargs: Any) -> dict[str, Tensor]:
        assert isinstance(generator, list)
        torch.rand(3)  # a sampler that draws from the global generator as well
        noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generator])
        mask = torch.zeros(num, SIZE, SIZE, dtype=torch.int64)
        mask[:, 2:6, 2:6] = 1
        return {"image": self.net(noise).mean(1, keepdim=True).expand(-1, 3, -1, -1), "mask": mask}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), lr=0.01)


class TwoSteps(ToyModule):
    """Takes two optimiser steps a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for _ in range(2):
            self.optimizers().step()  # type: ignore[union-attr]


class ToyData(Dataset[dict[str, Tensor]]):
    """Random images, each with a square of the brighter half as its mask."""

    def __init__(self, length: int, num_classes: int = 2) -> None:
        self.length = length
        self.num_classes = num_classes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, SIZE, SIZE, generator=generator) * 2 - 1
        mask = torch.randint(self.num_classes, (SIZE, SIZE), generator=generator)
        mask[0, :3] = 255
        return {"image": image, "mask": mask, "index": torch.tensor(index)}


class Unpadded(DistributedSampler[dict[str, Tensor]]):
    """Rank r gets items r, r + world, ..., so 17 items are 9 and 8."""

    def __iter__(self) -> Any:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]


class ToyDataModule(LightningDataModule):
    """Items with source files, of which two have one name."""

    def predict_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return loader(5, 2)

    def item_path(self, split: str, index: int) -> str:
        assert split == "predict"
        return ["images/a.png", "images/b b.png", "more/A.jpg", "images/c.tar.png", "d.nii.gz"][
            index
        ]


def loader(length: int = 8, batch_size: int = 2) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(ToyData(length), batch_size=batch_size)


def trainer_in(root: Path, *callbacks: Callback, **kwargs: Any) -> Trainer:
    """A quiet trainer on one CPU process, of 12 steps unless told otherwise."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_steps": 12,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "plugins": [AtomicCheckpointIO()],
    }
    # Without a checkpoint callback Lightning would add its own.
    settings["enable_checkpointing"] = any("Checkpoint" in str(type(c).__mro__) for c in callbacks)
    return Trainer(default_root_dir=root, callbacks=list(callbacks), **(settings | kwargs))


def pictures(root: Path) -> dict[str, np.ndarray]:
    """The pictures of a run by their names."""
    folder = root / "samples"
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*"))}


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def read(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint
