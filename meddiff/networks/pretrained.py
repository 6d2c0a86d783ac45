"""Weights that others trained: from a local file or folder, or by name from the hub."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from meddiff.core.checkpoint import CheckpointError, read_checkpoint

_FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder, or a repository of the hub, calls its weights; the first one there is read."""

_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
_PROBE_SECONDS = 5.0


class Pretrained(NamedTuple):
    """What was found.

    Attributes:
        state: The weights under the names that they were saved with, on the CPU.
        config: `config.json` beside them; empty where there is none.
        source: Where they came from, for people.
    """

    state: dict[str, Tensor]
    config: dict[str, Any]
    source: str


def load_pretrained(weights: str, *, argument: str, encoder: str | None = None) -> Pretrained:
    """Reads pretrained weights, downloads them where need be, and says from where.

    Args:
        weights: A `.safetensors` or `.pth` file (read without running any code it may hold), a
            folder with `model.safetensors` or `pytorch_model.bin`, a repository of the hub with
            `model.safetensors` and `config.json` as `owner/name` or `owner/name@revision`
            or, with `encoder`, a name that segmentation-models-pytorch has for its weights, such
            as `imagenet`.
        argument: Name of the argument that takes `weights`, for messages.
        encoder: An encoder of segmentation-models-pytorch; `tu-...` are timm's.

    Raises:
        CheckpointError: If there are none, they are damaged, or they are not on this machine
            and cannot be downloaded: then it says what to download and where to put it. Without
            a network this takes seconds.
    """
    path = _local(weights, encoder)
    if path is None:
        name = _hub_name(weights, encoder)
        source, file = f"{name} of the hub", _fetch(name, weights, argument)
    else:
        source, file = str(path), _weights_file(path, encoder, argument)
    rank_zero_info(f"{argument}: loads {source} ({file})")
    # A lone file's folder may hold anyone's config.json.
    in_folder = path is None or path.is_dir()
    return Pretrained(_read(file), _config(file.parent) if in_folder else {}, source)


def local_weights(weights: str, *, argument: str, encoder: str | None = None) -> Path | None:
    """The file of this disk that `load_pretrained` reads; None for a name of the hub.

    Args:
        weights: As for `load_pretrained`.
        argument: As for `load_pretrained`.
        encoder: As for `load_pretrained`.

    Raises:
        CheckpointError: If it is not there.
    """
    path = _local(weights, encoder)
    return None if path is None else _weights_file(path, encoder, argument)


def pretrained_available(weights: str, encoder: str | None = None) -> bool:
    """Whether `load_pretrained` would find the weights on this machine; asks no network.

    Args:
        weights: As for `load_pretrained`.
        encoder: As for `load_pretrained`, for example `resnet50` with `imagenet`.
    """
    try:
        path = _local(weights, encoder)
        if path is not None:
            return _weights_file(path, encoder, "weights").is_file()
        return _cached(_hub_name(weights, encoder)) is not None
    except CheckpointError:
        return False


def hub_names(encoder: str) -> dict[str, str]:
    """Names of the weights that an encoder has on the hub, each with `owner/name@revision`.

    Args:
        encoder: An encoder of segmentation-models-pytorch; timm's (`tu-...`) have `imagenet`
            alone, which stands for the weights of the tag in the encoder's name.
    """
    if encoder.startswith("tu-"):
        import timm

        settings = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=True)
        hub_id = settings.hf_hub_id if settings is not None else None
        return {"imagenet": str(hub_id)} if hub_id else {}
    from segmentation_models_pytorch.encoders import encoders

    known = encoders[encoder]["pretrained_settings"] if encoder in encoders else {}
    return {key: f"{entry['repo_id']}@{entry['revision']}" for key, entry in known.items()}


def _local(weights: str, encoder: str | None) -> Path | None:
    """The path that `weights` is, or None for a name of the hub."""
    if encoder is not None and weights in hub_names(encoder):
        return None
    path = Path(weights).expanduser()
    looks_local = path.suffix in _SUFFIXES or path.is_absolute() or weights.count("/") != 1
    return path if path.exists() or encoder is not None or looks_local else None


def _hub_name(weights: str, encoder: str | None) -> str:
    return weights if encoder is None else hub_names(encoder)[weights]


def _weights_file(path: Path, encoder: str | None, argument: str) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        names = ", ".join(hub_names(encoder)) if encoder is not None else ""
        known = f" (the hub has {names} for {encoder})" if names else ""
        raise CheckpointError(
            f"{argument}: {path} is neither a file or folder here nor a name of the hub{known}"
        )
    for name in _FILES:
        if (path / name).is_file():
            return path / name
    raise CheckpointError(f"{argument}: {path} holds no {' or '.join(_FILES)}")


def _split(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _split(name)
    for file in _FILES:
        found = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _fetch(name: str, weights: str, argument: str) -> Path:
    """The file of weights of a repository of the hub, downloaded where it is not there yet."""
    cached = _cached(name)
    if cached is not None:
        return cached
    repository, revision = _split(name)
    try:
        return _download(repository, revision)
    except Exception as error:  # the hub's client has changed its network library, and errors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        folder = repository.rpartition("/")[2]
        at = f" --revision {revision}" if revision else ""
        raise CheckpointError(
            f"{argument}: {weights} stands for {repository} of the hub, which is not on this "
            f"machine and cannot be downloaded ({reason})\n"
            "Where there is a network, run\n"
            f"  hf download {repository}{at} --local-dir {folder}\n"
            f"copy the folder to this machine and give its path: {argument} <path>/{folder}\n"
            f"Or leave it out ({argument} null) and train from scratch"
        ) from error


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # One short question first: a download asks an unreachable hub again for half a minute.
    url = hf_hub_url(repository, _FILES[0], revision=revision)
    get_hf_file_metadata(url, timeout=_PROBE_SECONDS)
    hf_hub_download(repository, "config.json", revision=revision)
    return Path(hf_hub_download(repository, _FILES[0], revision=revision))


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: is not JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file, device="cpu")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: cannot be read, it is damaged ({error})") from error
    state = read_checkpoint(file)
    for wrapper in ("state_dict", "model"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{file}: holds no weights, neither itself nor under `state_dict`")
    return state
