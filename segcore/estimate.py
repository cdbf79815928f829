"""What a model costs: parameters, arithmetic, and time on this machine. Torch-free, for the form."""

from __future__ import annotations

import json
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segcore.config import ModelConfig, RunConfig
from segcore.files import write_atomic
from segcore.workspace import Workspace

TRAINING_PASSES = 3
"""A training step costs three predictions: forward, and backward both to the inputs and to the weights."""
_MACHINE_FILE = "machine.json"


class Machine(BaseModel):
    """The speed of this machine, as last measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str
    """The device in words: `CPU, 2 cores, bf16`."""
    gflops: float = Field(gt=0)
    """Arithmetic per second of U-Net training, in 10⁹ operations; a multiply-add counts as two."""


class Stack(NamedTuple):
    """Size of an image stack, in slices, px and channels, and the bytes of a grey value."""

    slices: int
    height: int = 512
    width: int = 512
    channels: int = 1
    grey_bytes: int = 2


def unet_parameters(features: int, layers: int, channels: int = 1, classes: int = 2) -> int:
    """Return the trainable parameters of a U-Net, exactly.

    Examples
    --------
    >>> unet_parameters(64, 4)
    31036546
    """
    widths = [features * 2**level for level in range(layers + 1)]
    double = sum(_double_conv(a, b) for a, b in zip([channels, *widths], widths, strict=False))
    double += sum(_double_conv(2 * width, width) for width in widths[:-1])
    upsample = sum(4 * 2 * width * width + width for width in widths[:-1])
    return double + upsample + features * classes + classes


def unet_macs(
    features: int, layers: int, height: int, width: int, channels: int = 1, classes: int = 2
) -> int:
    """Return the multiply-adds of one prediction of an image of `height` × `width` px, exactly.

    Those of the convolutions: everything else is small. The image is padded to a multiple of 2**layers, as in
    the network.
    """
    step = 2**layers
    pixels = (-(-height // step) * step) * (-(-width // step) * step)
    widths = [features * 2**level for level in range(layers + 1)]
    total = 0
    for level, (inputs, outputs) in enumerate(zip([channels, *widths], widths, strict=False)):
        total += 9 * (inputs + outputs) * outputs * pixels // 4**level
    for level, outputs in enumerate(widths[:-1]):
        conv = 9 * (2 * outputs + outputs) * outputs
        upsample = 2 * outputs * outputs
        total += (conv + upsample) * pixels // 4**level
    return total + features * classes * pixels


def training_seconds(config: RunConfig, slices: int, gflops: float, stack: Stack | None = None) -> float:
    """Predict how long a training takes, in seconds, validation after every epoch included.

    Parameters
    ----------
    config : RunConfig
        Options.
    slices : int
        Slices of the stack, before the split.
    gflops : float
        Measured speed, see `Machine`.
    stack : Stack, optional
        Size of the slices, where known.
    """
    stack = stack or Stack(slices)
    validation = validation_slices(config, slices)
    patches = max(1, slices - validation) * config.data.patches_per_image
    size = config.data.patch_size
    per_patch = _macs(config.model, size, size, stack.channels)
    per_slice = _macs(config.model, stack.height, stack.width, stack.channels)
    macs = TRAINING_PASSES * patches * per_patch + validation * per_slice
    seconds = config.training.epochs * _seconds(macs, gflops)
    budget = config.training.max_minutes
    return min(seconds, 60 * budget) if budget else seconds


def read_machine(workspace: Workspace) -> Machine | None:
    """Return what was last measured of this machine, or None."""
    try:
        return Machine.model_validate_json((workspace.state / _MACHINE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def record_speed(
    workspace: Workspace, device: str, patches_per_second: float, macs_per_patch: int
) -> Machine | None:
    """Remember the speed of a training in place of what was known; without a speed, return None.

    Parameters
    ----------
    workspace : Workspace
        Where to remember it.
    device : str
        The device in words, see `Hardware.describe`.
    patches_per_second : float
        Patches trained on per second.
    macs_per_patch : int
        `unet_macs` of one patch.
    """
    gflops = 2e-9 * TRAINING_PASSES * macs_per_patch * patches_per_second
    if not gflops > 0:
        return None
    machine = Machine(text=device, gflops=gflops)
    write_atomic(workspace.state / _MACHINE_FILE, json.dumps(machine.model_dump(), ensure_ascii=False))
    return machine


def _double_conv(inputs: int, outputs: int) -> int:
    return 9 * (inputs + outputs) * outputs + 4 * outputs


def _macs(model: ModelConfig, height: int, width: int, channels: int) -> int:
    return unet_macs(model.features, model.layers, height, width, channels)


def _seconds(macs: int, gflops: float) -> float:
    return 2e-9 * macs / gflops


def validation_slices(config: RunConfig, slices: int) -> int:
    """Return about how many slices validate; the rows of a single slice that do count as a whole one."""
    chosen = config.data.validation_slices
    if chosen:
        spans = [part.split("-") for part in chosen.replace(" ", "").split(",")]
        return min(slices, sum(max(0, int(span[-1]) - int(span[0]) + 1) for span in spans))
    return max(1, round(slices * config.data.validation_fraction))
