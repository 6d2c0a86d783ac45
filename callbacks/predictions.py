"""What `lightning predict` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.files import atomic_write
from callbacks.manifest import (
    PredictedItem,
    add_lines,
    choose_folder,
    join_parts,
    name_of,
    predicted_items,
    sha256_of,
)
from callbacks.placement import Place, Placed
from callbacks.planes import Planes
from callbacks.results import (
    Pixels,
    check_finite,
    class_ids,
    classes_of,
    image_pixels,
    mask_pixels,
    output_size,
    put_back,
    take_logits,
    values_of,
    volume_plane,
)
from callbacks.steps import KnowsLoadedStep

Size: TypeAlias = Literal["source", "network"]

_VOLUME_RANGE = (0.0, 1.0)


class PredictionWriter(KnowsLoadedStep):
    """Writes each predicted item to `predictions/` and lists it in `manifest.jsonl`.

    An item is named after its source file, else after its index (both, where two source files have
    one name), and what it is:

    - `<name>_image.png`: 8 bits, from [-1, 1]; one channel is grey, three are RGB. Other numbers
      of channels, and all images with `image_format: npy`, are `.npy` files in [-1, 1];
    - `<name>_mask.png`: 0 and 255 where there are two classes, else class ids (16 bits where there
      are more than 256 classes);
    - `<volume>_image.nii.gz`: all translated planes of a NIfTI file, on its grid and in its
      orientation, float32 from 0 (where -1 was, and on planes that were not predicted) to 1;
      likewise `_mask.nii.gz` with class ids. With `size: source` alone;
    - `<name>_<key>.npy`: any other tensor that `predict_step` returns, one row an item.

    With `size: source`, images and masks have the height and width of the image that they were made
    of, and lie where the network saw it: padding is cut off, and what cropping left out is
    background (class 0, black). A mask is the argmax of `logits` (B, K, h, w), which `predict_step`
    returns beside it, resized before (else the mask is resized to its nearest pixels). What is made
    of no image, or of one whose data module does not tell its place (`data_modules.batch.Batch`:
    `original_size` and the like), has the network's size.

    A line of the manifest holds

    - `index`, `files`, `volumes`: its place in the data set, its own files, the NIfTI files that it
      is in;
    - `source`, `plane`: the file, relative to the data root, and the axial plane of it, from 0
      upwards; null where there is none;
    - `size`: as given; `original_size`, `network_size`: height and width; `original_box`,
      `network_box`: first row and column and those behind the last ones, what of the original the
      network saw and where in its input (null where that is not known);
    - `classes`, `mask_values`: how many classes a mask has, and whether it is written as `0/255` or
      as `ids`; `volume_range`: what in a NIfTI file stands for black and white;
    - `seen`: the split of the weights' training that the item was in, null, or `unknown`;
    - `image_format`, `seed`, `checkpoint`, its `checkpoint_sha256`, and `step` of the weights.

    Nothing is overwritten. Where `predictions/` holds the same items of the same checkpoint, seed
    and arguments, as an interrupted run leaves them, those listed and there are kept and the rest
    is added; where it holds anything else, `predictions-2/` is used, and so on.

    Args:
        image_format: `png` or, for exact values, `npy`.
        size: `source`: at the size of the image; `network`: as the network gave it.

    Attributes:
        seen: The split of each item that the weights were trained or chosen on; None: not known.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(self, image_format: Literal["png", "npy"] = "png", size: Size = "source") -> None:
        super().__init__()
        if image_format not in ("png", "npy"):
            raise ValueError(f"predictions.image_format: {image_format!r} is neither png nor npy")
        if size not in ("source", "network"):
            raise ValueError(f"predictions.size: {size!r} is neither source nor network")
        self.image_format = image_format
        self.size = size
        self.seen: Mapping[int, str] | None = None
        self._origin: dict[str, Any] = {}
        self._folder = Path()
        self._items: list[PredictedItem] = []
        self._kept: set[int] = set()
        self._planes = Planes(self._folder, [])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a module that predicts nothing.

        Raises:
            ValueError: If it has no `predict_step`.
        """
        super().setup(trainer, pl_module, stage)
        if stage == "predict" and type(pl_module).predict_step is LightningModule.predict_step:
            raise ValueError(
                f"{type(pl_module).__name__} has no predict_step, so there is nothing to predict; "
                "give it one that returns a dict with `index` and tensors to write"
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the folder and finds what is there already."""
        run = Path(trainer.default_root_dir)
        digest = sha256_of(trainer.ckpt_path) if trainer.is_global_zero else None
        self._origin = {
            "size": self.size,
            "image_format": self.image_format,
            "seed": pl_module.hparams.get("seed"),
            "checkpoint": name_of(trainer.ckpt_path, run),
            "checkpoint_sha256": trainer.strategy.broadcast(digest),
            "step": self.loaded_step,
        }
        self._items = predicted_items(trainer)
        chosen = choose_folder(run, self._origin, self._items) if trainer.is_global_zero else run
        self._folder = trainer.strategy.broadcast(chosen)
        self._planes = Planes(self._folder, self._items)
        self._kept = self._planes.held()
        trainer.strategy.barrier("predictions")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the items of a batch and then their lines.

        Raises:
            ValueError: If `predict_step` gives no index or nothing to write, or an image or mask
                that cannot be written.
        """
        values = values_of(outputs)
        logits = take_logits(values)
        classes = classes_of(values, logits, pl_module.hparams.get("num_classes"))
        logits = None if logits is None else logits.detach().cpu()
        on_host = {key: value.detach().cpu() for key, value in values.items()}
        placed = Placed.of(batch)
        network_size = placed.input or output_size(values)
        lines = []
        for row, index in enumerate(outputs["index"].tolist()):
            if index in self._kept:
                continue
            own = {key: value[row] for key, value in on_host.items()}
            own_logits = None if logits is None else logits[row]
            check_finite(own, own_logits, self._called(index))
            place = placed.places[row] if placed.places else None
            if place is not None and self.size == "source":
                own = put_back(own, own_logits, place, placed)
            written = self._write_item(index, own, classes, place)
            lines.append(written | self._line(index, network_size, place))
        # The lines come after their files, so that what is listed is whole.
        add_lines(self._folder, trainer.global_rank, lines)

    def _item(self, index: int) -> PredictedItem:
        return self._items[index] if index < len(self._items) else PredictedItem(f"{index:06d}")

    def _called(self, index: int) -> str:
        source = self._item(index).source
        return f"item {index}" if source is None else f"item {index} ({source})"

    def _write_item(
        self, index: int, values: Mapping[str, Tensor], classes: int | None, place: Place | None
    ) -> dict[str, Any]:
        """Writes what there is of an item.

        Args:
            index: Of the item.
            values: Its tensors, put back.
            classes: Of its mask.
            place: Of the item in its source, where that is known.

        Returns:
            What the manifest says of the files.
        """
        files, volumes = [], []
        in_volume = self.size == "source" and self._item(index).volume is not None
        for key, value in values.items():
            name = f"{self._item(index).name}_{key}"
            plane: npt.NDArray[Any] | None = None
            if key == "mask":
                plane = class_ids(value, classes, self._called(index))
                files.append(self._png(name, mask_pixels(plane, classes)))
            elif key == "image":
                plane = volume_plane(value)
                as_png = self.image_format == "png" and len(value) in (1, 3)
                files.append(
                    self._png(name, image_pixels(value)) if as_png else self._npy(name, value)
                )
            else:
                files.append(self._npy(name, value))
            if in_volume and place is not None and plane is not None and plane.shape == place.size:
                volumes.append(self._planes.keep(index, key, plane))
        masked = "mask" in values
        return {
            "index": index,
            "files": files,
            "volumes": volumes,
            "volume_range": _VOLUME_RANGE if "image" in values and volumes else None,
            "classes": classes if masked else None,
            "mask_values": ("0/255" if classes == 2 else "ids") if masked else None,
        }

    def _line(
        self, index: int, network_size: tuple[int, ...] | None, place: Place | None
    ) -> dict[str, Any]:
        """What the manifest says of an item besides its files."""
        item = self._item(index)
        return {
            "source": item.source,
            "plane": item.plane,
            "original_size": place and place.size,
            "network_size": network_size,
            "original_box": place and place.box,
            "network_box": place and place.inner,
            "seen": "unknown" if self.seen is None else self.seen.get(index),
            **self._origin,
        }

    def _png(self, name: str, pixels: Pixels) -> str:
        with atomic_write(self._folder / f"{name}.png", flush=False) as file:
            Image.fromarray(pixels).save(file, "PNG")
        return f"{name}.png"

    def _npy(self, name: str, value: Tensor) -> str:
        with atomic_write(self._folder / f"{name}.npy", flush=False) as file:
            np.save(file, value.float().numpy() if value.is_floating_point() else value.numpy())
        return f"{name}.npy"

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the volumes and joins the manifests of the processes."""
        trainer.strategy.barrier("predictions")
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._planes.write_volumes(data, trainer.global_rank, trainer.world_size)
        trainer.strategy.barrier("volumes")
        if trainer.is_global_zero:
            join_parts(self._folder)
            self._planes.clear()
        trainer.strategy.barrier("manifest")
