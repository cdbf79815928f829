"""Model files: plain weights beside the config.json that rebuilds their network; read, never executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segcore.card import ModelCard, config_places, read_config
from segcore.config import RunConfig
from segcore.devices import Hardware
from segcore.errors import JobError, ModelError
from segcore.files import atomic_path, sha256
from segcore.models.build import empty_model
from segcore.models.segmenter import Segmenter
from segcore.models.unet import architecture
from segcore.sidecar import how_to_describe, made_elsewhere, sidecar_of

WEIGHTS = "best_model.pth"
_ANOTHER = "Choose the best_model.pth of a finished run."


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, ready to use, with everything known about it.

    Parameters
    ----------
    network : Segmenter
        In evaluation mode.
    config : RunConfig
        The options it was trained with.
    card : ModelCard
        Class values, normalisation, axes, pixel size.
    weights : Path
        The file it came from.
    sha256 : str
        Hash of that file; of a model of another program also of its description.
    """

    network: Segmenter
    config: RunConfig
    card: ModelCard
    weights: Path
    sha256: str


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights as a plain state dict (CPU, float32, contiguous); the file is whole or not there.

    Raises
    ------
    JobError
        The disk is full or cannot be written.
    """
    save_state_dict(model.state_dict(), path)


def save_state_dict(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict as `save_weights` does; equal weights give equal files.

    Raises
    ------
    JobError
        The disk is full or cannot be written.
    """
    save_tensors({name: _plain(tensor) for name, tensor in weights.items()}, path)


def save_tensors(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values with torch; the file is whole or not there.

    Raises
    ------
    JobError
        The disk is full or cannot be written.
    """
    try:
        # A stream, not a path: torch would write the temporary name into the file; equal models would differ.
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError) as error:
        # torch says "unexpected pos" or "enforce fail"; what the disk said stands behind it.
        reason = error.__cause__ or error.__context__ or error
        raise JobError(
            f"{path} cannot be written: {getattr(reason, 'strerror', None) or reason}.",
            "Free some disk space and start again.",
        ) from error


def find_model(ref: str | Path, config_file: str | Path | None = None) -> tuple[Path, Path]:
    """Return the paths of weights and configuration.

    Parameters
    ----------
    ref : str or Path
        A run folder, a `.pth` file, or a model of another program (`segcore.addresses.FOREIGN`).
    config_file : str or Path, optional
        The configuration, where it is not the `config.json` (or `<name>.json`) beside the weights; of a model
        of another program its description.

    Raises
    ------
    ModelError
        Something is missing.
    """
    path = Path(ref)
    if not path.exists():
        raise ModelError(
            f"There is no model at {path}.", "Give a run folder, a .pth file, or models:/name@alias."
        )
    if path.is_file() and made_elsewhere(path):
        return path, _sidecar(path, config_file)
    weights = path / WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        raise ModelError(
            f"{path} holds no {WEIGHTS}: no training has finished an epoch there.",
            "Choose the folder of a finished run, or a .pth file.",
        )
    configs = config_places(weights) if config_file is None else [Path(config_file)]
    found = next((candidate for candidate in configs if candidate.is_file()), None)
    if found is None:
        raise ModelError(
            f"The model {weights} has no configuration: {configs[0]} is missing.",
            "Put the config.json of the run beside the .pth file, or name it (--model-config).",
        )
    return weights, found


def _sidecar(weights: Path, named: str | Path | None) -> Path:
    """Return the description of a model of another program.

    Raises
    ------
    ModelError
        There is none.
    """
    path = sidecar_of(weights) if named is None else Path(named)
    if path.is_file():
        return path
    raise ModelError(
        f"The model {weights} has no description: {path} is missing. No file of this kind says what grey "
        "values the network wants and what its classes are called.",
        how_to_describe(weights.name),
    )


def load_model(weights: Path, config: Path, hardware: Hardware | None = None) -> LoadedModel:
    """Rebuild a trained network.

    Parameters
    ----------
    weights : Path
        A state dict as `save_weights` writes it, or a model of another program.
    config : Path
        The `config.json` of the run, or the description of that model.
    hardware : Hardware, optional
        Where to put the network; by default it stays in main memory.

    Raises
    ------
    ModelError
        The file is damaged, unsafe, no state dict, or does not belong to the configuration.
    ConfigError
        The configuration is unreadable.
    """
    if made_elsewhere(weights):
        return _load_foreign(weights, config, hardware)
    options, card = read_config(config)
    if card is None:
        raise ModelError(
            f"{config} holds the options of a run, but does not describe a trained model.",
            "Give the config.json from the folder of the run that wrote the .pth file.",
        )
    state = read_weights(weights)
    network = _fill(state, options, card, weights)
    if hardware is not None:
        network = place(network, hardware)
    return LoadedModel(network.eval(), options, card, weights, sha256(weights))


def _load_foreign(weights: Path, sidecar: Path, hardware: Hardware | None) -> LoadedModel:
    from segcore.models.foreign.loading import load_foreign

    device = hardware.device if hardware else None
    network, options, card = load_foreign(weights, sidecar, device)
    return LoadedModel(network, options, card, weights, hash_of(weights, sidecar))


def hash_of(weights: Path, config: Path) -> str:
    """Return the hash of a model: of its weights; of one of another program, also of its description."""
    if not made_elsewhere(weights):
        return sha256(weights)
    from segcore.models.foreign.loading import files_of

    return sha256(*files_of(weights), config)


def place(network: Segmenter, hardware: Hardware) -> Segmenter:
    """Move a network to the device, in the memory layout its convolutions prefer."""
    layout = hardware.layout(network.dimensions)
    return network.to(hardware.device).to(memory_format=layout)  # type: ignore[call-overload]


def _plain(tensor: Tensor) -> Tensor:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype).contiguous()


def read_weights(weights: Path, inside: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read a state dict and nothing else; `weights_only` refuses every pickle that would run code.

    Parameters
    ----------
    weights : Path
        The file.
    inside : sequence of str
        Names under which the state dict may lie in a larger one, as in published checkpoints.

    Returns
    -------
    dict
        The arrays by name, in main memory, float32.

    Raises
    ------
    ModelError
        The file is damaged, unsafe, or holds no finite weights.
    """
    try:
        with weights.open("rb") as stream:
            head = stream.read(2)
    except OSError as error:
        raise ModelError(f"{weights} cannot be read: {error.strerror}.", _ANOTHER) from error
    if head == b"PK" and not zipfile.is_zipfile(weights):
        raise ModelError(f"{weights} is cut off: its end is missing.", "Copy or download the file again.")
    if head != b"PK" and head[:1] != b"\x80":
        raise ModelError(f"{weights} is not a model file.", _ANOTHER)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on files it then refuses is not for our users
            content = torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{weights} holds more than weights: opening it could run code, so it was not opened.",
            "Save the model as a plain state dict: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise ModelError(
            f"{weights} is damaged or not a model file.", "Copy or download the file again."
        ) from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in inside if isinstance(content.get(name), Mapping)), content)
    return checked_state(content, weights)


def checked_state(content: Any, weights: Path) -> dict[str, Tensor]:
    """Return a state dict with its arrays in main memory, float32.

    Raises
    ------
    ModelError
        It is none, or its numbers are not finite.
    """
    if (
        isinstance(content, Mapping)
        and content
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        broken = [name for name, value in content.items() if not value.isfinite().all()]
        if broken:
            raise ModelError(f"{weights} holds weights that are not numbers ({broken[0]}).", _ANOTHER)
        return {str(name): _plain(value) for name, value in content.items()}
    if isinstance(content, Mapping) and any(isinstance(value, Mapping) for value in content.values()):
        raise ModelError(
            f"{weights} is the checkpoint of a training, not a model: {', '.join(map(str, content))}.",
            "Use the best_model.pth in the same run folder.",
        )
    raise ModelError(f"{weights} holds a {type(content).__name__}, not the weights of a network.", _ANOTHER)


def _fill(state: dict[str, Tensor], options: RunConfig, card: ModelCard, weights: Path) -> Segmenter:
    """Build the network that `options` and `card` describe and put `state` into it, if it fits."""
    network = empty_model(options.model, card)
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != given:
        raise ModelError(
            f"The model file does not belong to this configuration: {_difference(given, expected, options)}.",
            f"Use the config.json that was saved with {weights.name}.",
        )
    network.load_state_dict(state, assign=True)
    return network


def _difference(
    given: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], options: RunConfig
) -> str:
    """Say in the user's words how the network in the file differs from that of the configuration."""
    file, wanted = architecture(given), architecture(expected)
    if not file and options.model.kind.is_unet:
        return "it is not a U-Net of this program"
    if not given.keys() & expected.keys():
        size = f" ({options.model.size_text})" if options.model.size_text else ""
        return f"it is not a {options.model.kind.title}{size} of this program"
    parts = [
        f"{name} {file[name]} in the file, {value} in the configuration"
        for name, value in wanted.items()
        if file.get(name, value) != value
    ]
    names = sorted(name for name in given.keys() | expected.keys() if given.get(name) != expected.get(name))
    return "; ".join(parts) or f"{len(names)} of its arrays differ ({', '.join(names[:3])} …)"
