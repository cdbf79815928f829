"""What a segmentation needs before it begins: memory, disk space and time. Torch-free: the app asks, too."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.card import ModelCard
from segcore.config import ModelConfig, RunConfig
from segcore.data.collection import Entry
from segcore.data.suitability import pixel_sizes
from segcore.errors import JobError
from segcore.estimate import (
    MEMORY_SHARE,
    MOST_ON_CPU,
    Machine,
    Network,
    parameters_of,
    prediction_bytes,
    unet_macs,
)
from segcore.inference.results import specs_on
from segcore.inference.sinks import SinkSpec, required_bytes, result_bytes
from segcore.memory import main_memory
from segcore.strides import divisors, radii
from segcore.tiling import align

PROCESS = 780 * 10**6
"""A process with torch and its libraries."""
BATCH_PIXELS = 2**18
"""Pixels that go through the network together on a CPU at least."""
FLIPS = 4
"""Times the work of one prediction when it is averaged over flips."""


@dataclass(frozen=True)
class Needs:
    """What a segmentation needs, in bytes and seconds, about.

    Parameters
    ----------
    labels, probabilities : int
        Disk space of the results at most.
    required : int
        Disk space that must be free to begin.
    free : int
        Disk space there is.
    memory : int or None
        Main memory at the peak; None where a graphics card computes.
    available : int
        Main memory there is.
    seconds : float or None
        How long it takes; None where nobody knows: on a cluster, or on a machine that was not measured.
    """

    labels: int
    probabilities: int
    required: int
    free: int
    memory: int | None
    available: int
    seconds: float | None

    @property
    def disk(self) -> int:
        """Disk space at most."""
        return self.labels + self.probabilities

    def check_disk(self, file_format: str) -> None:
        """Refuse a segmentation whose result the disk cannot hold.

        Raises
        ------
        JobError
            It needs more than there is.
        """
        if self.required <= self.free:
            return
        ways = ["Free some disk space", "choose a workspace on another disk"]
        if self.probabilities:
            ways.append(f"leave out the probabilities (they take {_gigabytes(self.probabilities)})")
        if file_format == "tiff":
            ways.append("write OME-Zarr, which is compressed")
        raise JobError(
            f"The result needs {_gigabytes(self.required)}, but only {_gigabytes(self.free)} are free.",
            f"{', or '.join(ways)}.",
        )


def needs_of(
    config: RunConfig, trained: RunConfig, card: ModelCard, entries: Sequence[Entry], machine: Machine | None,
    folder: Path,
) -> Needs:  # fmt: skip
    """Return what the segmentation of images needs.

    Parameters
    ----------
    config : RunConfig
        Its options.
    trained : RunConfig
        Those of the model.
    card : ModelCard
        Describes the model.
    entries : sequence of Entry
        The images.
    machine : Machine or None
        The speed of this machine, where it was measured.
    folder : Path
        The results go to its disk.
    """
    options = config.inference
    labels = probabilities = required = 0
    for entry in entries:
        narrow, wide = specs_on(_grid(entry), card, options)
        labels += result_bytes(narrow)
        required += required_bytes(narrow) + (required_bytes(wide) if wide else 0)
        probabilities += result_bytes(wide) if wide else 0
    network = Network(*trained.model.like, card.inputs, card.outputs, card.strides)
    on_cpu = machine is None or machine.text.startswith("CPU") or config.hardware.device == "cpu"
    available = main_memory().available
    itemsize = _itemsize(config, machine)
    known = machine is not None and options.cluster is None and trained.model.kind.is_unet
    seconds = 0.0
    times = (FLIPS if options.flips else 1) * (1 + len(options.ensemble))
    if machine and known:
        macs = sum(_macs(config, network, card, entry, itemsize) for entry in entries)
        seconds = 2e-9 * times * macs / machine.gflops
    return Needs(
        labels=labels,
        probabilities=probabilities,
        required=required,
        free=shutil.disk_usage(folder).free,
        memory=_memory(config, trained.model, network, entries, itemsize, available) if on_cpu else None,
        available=available,
        seconds=seconds if known else None,
    )


def _memory(
    config: RunConfig, model: ModelConfig, network: Network, entries: Sequence[Entry], itemsize: int,
    available: int,
) -> int:  # fmt: skip
    """Return the peak of main memory: the process, the weights, one pass, and what is read and written."""
    per_pixel = prediction_bytes(network, itemsize)
    room = int(min(MEMORY_SHARE * available, MOST_ON_CPU) / per_pixel)
    size = max((entry.dtype.itemsize * entry.channels for entry in entries), default=1)
    whole = max((math.prod(_seen(network, entry)) for entry in entries), default=0)
    pixels = min(max(whole, BATCH_PIXELS), room)
    if side := config.inference.tile_size:
        reach = 2 * radii(network.steps, network.kernels)[-1]
        pixels = min(pixels, max((side + reach) ** 2, BATCH_PIXELS)) if not network.strides else pixels
    models = 1 + len(config.inference.ensemble)
    weights = models * parameters_of(model, network) * (4 + itemsize)
    # Of two groups read ahead, one at work and one that is written.
    around = 3 * size + 8 * network.classes
    return PROCESS + weights + pixels * (per_pixel + around)


def _macs(config: RunConfig, network: Network, card: ModelCard, entry: Entry, itemsize: int) -> float:
    """Return the multiply-adds of an image, with those of the halos where it is cut into tiles."""
    shape = _seen(network, entry)
    total = unet_macs(network, shape) * entry.planes / (entry.depth if network.strides else 1)
    if config.inference.rescale:
        total *= math.prod(here / then for _, here, then in pixel_sizes(entry.pixel_size, card))
    room = MOST_ON_CPU / prediction_bytes(network, itemsize)
    reach = radii(network.steps, network.kernels)
    if math.prod(shape) > room:
        side = room ** (1 / len(shape))
        total *= math.prod(
            min(side, size) / max(min(side, size) - 2 * far, 1)
            for far, size in zip(reach, shape, strict=True)
            if size > side
        )
    return total


def _seen(network: Network, entry: Entry) -> tuple[int, ...]:
    """Return the sizes of what could go through the network as a whole."""
    sizes = (entry.height, entry.width)
    whole = (entry.depth, *sizes) if network.strides else sizes
    return tuple(align(size, step) for size, step in zip(whole, divisors(network.steps), strict=True))


def _grid(entry: Entry) -> SinkSpec:
    outer = (entry.planes,) if entry.planes > 1 else ()
    shape = (*outer, entry.height, entry.width)
    return SinkSpec("ZYX"[-len(shape) :], shape, np.dtype(np.uint8), entry.pixel_size)


def _itemsize(config: RunConfig, machine: Machine | None) -> int:
    precision = config.hardware.precision
    short = (
        machine is not None and machine.text.endswith("16") if precision == "auto" else precision != "fp32"
    )
    return 2 if short else 4


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
