"""From a file of another program and its description to a network: what both say is joined, and tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.addresses import FOREIGN
from segcore.card import ModelCard
from segcore.config import Mode, RunConfig
from segcore.errors import ModelError
from segcore.models.foreign.engine import Engine, Facts
from segcore.models.foreign.exported import Exported
from segcore.models.foreign.keras_file import Keras
from segcore.models.foreign.network import Foreign, Manner, arranged, ask
from segcore.models.foreign.onnx_file import Onnx, external_files
from segcore.models.foreign.torchscript import TorchScript
from segcore.models.foreign.trying import Trial, odd_multiple
from segcore.registry import Registry
from segcore.sidecar import Shape, Sidecar, per_axis, read_sidecar

Opener = Callable[[Path, Shape], Engine]

ENGINES: Registry[Opener] = Registry(
    "file of a network",
    {
        ".onnx": lambda path, told: Onnx(path, told.output_name, told.channels_last),
        ".pt": lambda path, told: TorchScript(path, told.output_name),
        ".pt2": lambda path, told: Exported(path, told.output_name),
        ".keras": lambda path, told: Keras(path, told.output_name, told.channels_last),
        ".h5": lambda path, told: Keras(path, told.output_name, told.channels_last),
    },
)
"""What reads every kind of file."""
UNMEASURED = {2: 4096, 3: 8192}
"""Bytes per pixel of a network whose memory nobody can measure: those of a large U-Net."""
MARGIN = 1.3
"""What no tensor shows: workspace of the kernels, and blocks that the allocator cannot fill."""
MEASURED_SIDE = {2: 256, 3: 48}
_QUARTER = 4
_ASKED = {
    "channels": "Give channels, those of the image.",
    "channels_last": "Give channels_last: true if the network takes B Y X C, false if B C Y X.",
    "mode": "Give mode: 2d, 2.5d or 3d.",
    "output": "Give output: logits, probabilities or sigmoid.",
}


@dataclass(frozen=True)
class Agreed:
    """What file and description say together, and what neither says.

    Parameters
    ----------
    mode : str
        2d, 2.5d or 3d.
    dimensions : int
        Axes of what the network sees.
    channels : int
        Channels of the image.
    inputs : int
        Those of the network: of all slices that are seen together.
    channels_last : bool
        Whether they are the last axis.
    window : tuple of int, optional
        Px per axis, of a network of one size.
    missing : tuple of str
        Names of what nobody says. Where they decide how the network is asked, it cannot be asked.
    """

    mode: Mode
    dimensions: int
    channels: int
    inputs: int
    channels_last: bool
    window: tuple[int, ...] | None
    missing: tuple[str, ...]

    @property
    def can_ask(self) -> bool:
        """Whether the network can be asked."""
        return not {"channels", "channels_last", "mode"} & set(self.missing)


def load_foreign(
    weights: Path, sidecar: Path, device: torch.device | None = None
) -> tuple[Foreign, RunConfig, ModelCard]:
    """Return a network of another program, what stands for the options of its training, and its card.

    Parameters
    ----------
    weights : Path
        The file.
    sidecar : Path
        Its description.
    device : torch.device, optional
        Where it is tried; by default in main memory.

    Raises
    ------
    ModelError
        The file is damaged, could run code, or file and description contradict each other or leave something
        open.
    ConfigError
        The description is unreadable, or a package is missing.
    """
    told = read_sidecar(sidecar)
    engine = open_engine(weights, told)
    agreed = agree(engine.facts, told, sidecar)
    if agreed.missing:
        raise ModelError(
            f"Neither {weights.name} nor {sidecar.name} says: {', '.join(agreed.missing)}.",
            " ".join(_ASKED[name] for name in agreed.missing),
        )
    device = device or torch.device("cpu")
    manner = settle(engine, told, agreed, device)
    output = told.output or engine.facts.output
    assert output is not None  # or it would be missing
    manner = replace(manner, output=output)
    network = Foreign(engine, manner)
    _check_answer(network, told, (weights, sidecar), device)
    card = told.card(agreed.channels, agreed.mode, engine.facts.parameters)
    return network.eval(), told.options(agreed.mode), card


def files_of(weights: Path) -> list[Path]:
    """Return all files that a model consists of, its description left out."""
    return [weights, *(external_files(weights) if weights.suffix.lower() == ".onnx" else ())]


def title_of(weights: Path) -> str:
    """Return what a person calls a file of this kind."""
    return FOREIGN[weights.suffix.lower()]


def open_engine(weights: Path, told: Shape) -> Engine:
    """Open a file.

    Raises
    ------
    ModelError
        It is missing, damaged, or could run code.
    ConfigError
        A package is missing.
    """
    if not weights.is_file():
        raise ModelError(f"There is no model at {weights}.", "Give the path of its file.")
    return ENGINES[weights.suffix.lower()](weights, told)


def agree(facts: Facts, told: Shape, sidecar: Path) -> Agreed:
    """Put together what the file says and what its description says.

    Raises
    ------
    ModelError
        They contradict each other.
    """
    missing: list[str] = []

    def one(name: str, said: Any, read: Any) -> Any:
        if said is not None and read is not None and said != read:
            raise ModelError(
                f"{sidecar.name} says that {name} is {said}, the file itself says {read}.",
                f"Correct {name} in {sidecar.name}, or leave it out.",
            )
        if said is None and read is None:
            missing.append(name)
        return read if said is None else said

    axes = None if told.mode is None else 3 if told.mode == "3d" else 2
    if axes is not None and facts.dimensions is not None and axes != facts.dimensions:
        one("mode", told.mode, f"{facts.dimensions}d")
    dimensions = axes or facts.dimensions
    if dimensions is None:
        missing.append("mode")
    slices = told.context_slices
    wanted = None if facts.inputs is None else facts.inputs / slices
    channels = one("channels", told.channels, wanted) or 1
    if channels != int(channels):
        raise ModelError(
            f"The network takes {facts.inputs} channels, which are not {slices} slices of as many channels.",
            f"Correct context_slices in {sidecar.name}.",
        )
    last = one("channels_last", told.channels_last, facts.channels_last)
    one("output", told.output, facts.output)
    return Agreed(
        mode=told.mode or ("3d" if dimensions == 3 else "2d"),
        dimensions=dimensions or 2,
        channels=int(channels),
        inputs=int(channels) * slices,
        channels_last=bool(last),
        window=_window(facts, told, dimensions or 2, one),
        missing=tuple(missing),
    )


def _window(
    facts: Facts, told: Shape, dimensions: int, one: Callable[[str, Any, Any], Any]
) -> tuple[int, ...] | None:
    """Return the one size that a network takes, None if it takes any.

    Raises
    ------
    ModelError
        It takes one size along some axes only.
    """
    read = facts.sizes or (None,) * dimensions
    said = None if told.input_size is None else per_axis(told.input_size, dimensions, "input_size")
    if said is not None:
        for mine, its in zip(said, read, strict=True):
            one("input_size", mine, its)
        return said
    fixed = [size for size in read if size is not None]
    if fixed and len(fixed) != len(read):
        raise ModelError(
            f"The network takes any size along some axes and {fixed} px along others.",
            "Give input_size in its description, one number per axis.",
        )
    return tuple(fixed) or None


def settle(engine: Engine, told: Shape, agreed: Agreed, device: torch.device) -> Manner:
    """Try a network: what its sizes must be multiples of, how far it sees, how many maps it answers.

    Raises
    ------
    ModelError
        It fails.
    """
    dimensions, facts = agreed.dimensions, engine.facts
    plain = Manner(agreed.inputs, 0, dimensions, agreed.channels_last, "logits", _stretch(told), facts.batch)
    trial = Trial(lambda image: ask(engine, image, plain), agreed.inputs, dimensions, device)
    if agreed.window is not None:
        return _of_one_size(trial, told, plain, agreed.window)
    halo = None if told.halo is None else per_axis(told.halo, dimensions, "halo")
    if told.size_step is None:
        step, reach = trial.step()
        steps: tuple[int, ...] = (step,) * dimensions
        radii, is_local = (reach.radii, reach.is_local) if halo is None else (halo, True)
    else:
        steps = per_axis(told.size_step, dimensions, "size_step")
        found = trial.reach(steps) if halo is None else None
        radii, is_local = (found.radii, found.is_local) if found else (halo or (), True)
    image = trial.image([odd_multiple(MEASURED_SIDE[dimensions], step) for step in steps])
    maps = trial.answer(image).shape[1]
    needed = told.bytes_per_pixel or _memory(engine, image, plain)
    return replace(plain, maps=maps, steps=steps, halo=radii, is_local=is_local, bytes_per_pixel=needed)


@torch.no_grad()
def _memory(engine: Engine, image: Tensor, manner: Manner) -> int:
    """Return the bytes that a network needs per pixel of the image."""
    peak = engine.peak_bytes(arranged(image, manner).contiguous())
    if peak is None:
        return UNMEASURED[manner.dimensions]
    return math.ceil(MARGIN * peak / math.prod(image.shape[2:]))


def _of_one_size(trial: Trial, told: Shape, plain: Manner, window: tuple[int, ...]) -> Manner:
    """Return how a network is asked that takes one size: windows keep what their border does not reach."""
    maps = trial.answer(trial.image(window)).shape[1]
    if told.halo is not None:
        overlap = per_axis(told.halo, len(window), "halo")
        if any(2 * around >= side for around, side in zip(overlap, window, strict=True)):
            raise ModelError(
                f"halo is {told.halo}: nothing is left of windows of {' × '.join(map(str, window))} px.",
                "Give a smaller halo; windows overlap by twice of it.",
            )
        return replace(plain, maps=maps, window=window, overlap=overlap)
    reach = trial.reach_within(window, (1,) * len(window))
    most = [side // _QUARTER for side in window]
    # Of one that sees the whole window only the middle is kept: there it has seen most around it.
    overlap = tuple(
        min(radius, limit) if reach.is_local else limit
        for radius, limit in zip(reach.radii, most, strict=True)
    )
    return replace(plain, maps=maps, window=window, overlap=overlap)


def _stretch(told: Shape) -> tuple[float, float]:
    return told.normalization.stretch if isinstance(told, Sidecar) else (1.0, 0.0)


def _check_answer(network: Foreign, told: Sidecar, files: tuple[Path, Path], device: torch.device) -> None:
    """Raise if the network answers other classes than described, or no probabilities where it should."""
    manner, (weights, sidecar) = network.manner, files
    if network.classes != len(told.class_names):
        count = "1 map" if manner.maps == 1 else f"{manner.maps} maps"
        raise ModelError(
            f"{weights.name} answers {count}, {sidecar.name} names {len(told.class_names)} classes "
            f"({', '.join(told.class_names)}).",
            f"Correct class_names in {sidecar.name}: one per map; of one map, background and foreground.",
        )
    if manner.output == "logits":
        return
    sizes = manner.window or tuple(odd_multiple(32, step) for step in manner.steps)
    image = Trial(network.aligned, manner.inputs, manner.dimensions, device).image(sizes)
    maps = ask(network.engine, image, manner)
    low, high = float(maps.min()), float(maps.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ModelError(
            f"{weights.name} answers numbers from {low:.3g} to {high:.3g}, which are no {manner.output}.",
            f"Correct output in {sidecar.name}: most likely it is logits.",
        )
