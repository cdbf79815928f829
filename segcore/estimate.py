"""What a model costs: parameters, arithmetic, and time on this machine. Torch-free, for the form."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segcore.config import ModelConfig, RunConfig
from segcore.families import USUAL, encoder_millions
from segcore.files import write_atomic
from segcore.strides import Strides, divisors, kernels, pooling_plan
from segcore.tiling import align
from segcore.workspace import Workspace

TRAINING_PASSES = 3
"""A training step costs three predictions: forward, and backward both to the inputs and to the weights."""
MEMORY_SHARE = 0.5
"""Share of the free memory that one forward pass of a prediction may take; the rest is for what the estimate
does not see."""
MOST_ON_CPU = 10**9
"""Bytes that one forward pass of a prediction takes on a CPU at most: more makes nothing faster."""
ADVERSARY_WIDTHS = (32, 64, 128, 256)
"""Maps of the layers of the network that judges predictions, see `segcore.models.patch_gan`."""
ADVERSARY_PASSES = 8
"""A prediction is judged forward and back to it; prediction and annotation forward, and back to weights
and maps."""
_MACHINE_FILE = "machine.json"


class Machine(BaseModel):
    """The speed of this machine, as last measured."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str
    """The device in words: `CPU, 2 cores, bf16`."""
    gflops: float = Field(gt=0)
    """Arithmetic per second of U-Net training, in 10⁹ operations; a multiply-add counts as two."""


class Stack(NamedTuple):
    """Size of images in slices, px and channels, the bytes of a grey value, and what 3d needs to know."""

    slices: int
    height: int = 512
    width: int = 512
    channels: int = 1
    grey_bytes: int = 2
    depth: int = 0
    """Slices that lie together in one volume; 0: all of them."""
    voxel: tuple[float | None, float | None, float | None] | None = None
    """Size of a voxel along z, y, x."""


class Network(NamedTuple):
    """What a network costs depends on."""

    features: int
    layers: int
    inputs: int = 1
    """Channels of its input: in 2.5d those of all slices that are seen together."""
    classes: int = 2
    strides: Strides = ()
    """Of a 3d network."""

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        """How much every level shrinks every axis."""
        return self.strides or ((2, 2),) * self.layers

    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the convolutions of every level, the bottom last."""
        return kernels(self.strides) if self.strides else ((3, 3),) * (self.layers + 1)

    @property
    def widths(self) -> list[int]:
        """Feature maps of every level."""
        return [self.features * 2**level for level in range(self.layers + 1)]


def plan_strides(config: RunConfig, voxel: Sequence[float | None] | None) -> Strides:
    """Return the strides of the network that `config` asks for, for images with voxels of this size.

    Of a network that halves every axis, whatever the voxels, always the same: two of them then fit together.
    """
    if config.data.mode != "3d":
        return ()
    if config.model.kind.halvings:
        return ((2, 2, 2),) * config.model.kind.halvings
    return pooling_plan(voxel, patch_shape(config), config.model.like[1])


def patch_shape(config: RunConfig) -> tuple[int, ...]:
    """Return rows and columns of a patch, in 3d its planes before them."""
    size = config.data.patch_size
    return (config.data.patch_depth, size, size) if config.data.mode == "3d" else (size, size)


HEAD_MAPS = {"boundary": (4, 4), "stars": (33, 97), "flows": (3, 4), "masks": (1, 1), "panoptic": (1, 1)}
"""Maps that heads make objects of, in 2d and 3d; known here without torch (`segcore.postprocess.heads`)."""


def network_of(config: RunConfig, stack: Stack | None = None, classes: int = 2) -> Network:
    """Return the U-Net that `config` asks for, or whose memory its network takes about, for such images."""
    channels = stack.channels if stack else 1
    inputs = channels * (config.data.context_slices if config.data.mode == "2.5d" else 1)
    strides = plan_strides(config, stack.voxel if stack else None)
    if config.model.learns_objects:
        classes = HEAD_MAPS[config.model.head][config.data.mode == "3d"]
    return Network(*config.model.like, inputs, classes, strides)


def unet_parameters(network: Network) -> int:
    """Return the trainable parameters of a U-Net, exactly.

    Examples
    --------
    >>> unet_parameters(Network(64, 4))
    31036546
    """
    widths, sizes = network.widths, network.kernels
    total = sum(
        _double_conv(inputs, outputs, math.prod(size))
        for inputs, outputs, size in zip([network.inputs, *widths], widths, sizes, strict=False)
    )
    for width, size, step in zip(widths[:-1], sizes, network.steps, strict=False):
        total += _double_conv(2 * width, width, math.prod(size))
        total += math.prod(step) * 2 * width * width + width
    return total + network.features * network.classes + network.classes


def parameters_of(model: ModelConfig, network: Network) -> int:
    """Return the trainable parameters of the network that `model` asks for: of a U-Net exactly, else about.

    Parameters
    ----------
    model : ModelConfig
        Options.
    network : Network
        The U-Net that it is, or that it is like, see `network_of`.

    Examples
    --------
    >>> parameters_of(ModelConfig(family="segformer-b5"), Network(84, 5))
    84588610
    """
    kind = model.kind
    if kind.is_unet:
        return unet_parameters(network)
    if "encoder" in kind.options:
        usual, here = (round(1e6 * size) for size in (USUAL, encoder_millions(model.encoder)))
        if kind.parameters < usual:  # it takes the upper levels of the encoder only
            return kind.parameters * here // usual
        return kind.parameters - usual + here
    if "features" in kind.options:
        described = unet_parameters(Network(*ModelConfig(family=kind.name).like))
        return kind.parameters * unet_parameters(network) // described
    return kind.parameters * (3 if network.strides else 1)  # kernels of 27 numbers instead of 9


def unet_macs(network: Network, shape: Sequence[int]) -> int:
    """Return the multiply-adds of one prediction of an image, exactly.

    Those of the convolutions: everything else is small. The image is padded to a multiple of what the network
    shrinks it by, as in the network.

    Parameters
    ----------
    network : Network
        The network.
    shape : sequence of int
        Rows and columns of the image, in 3d planes before them.
    """
    steps, sizes, widths = network.steps, network.kernels, network.widths
    pixels = math.prod(align(size, step) for size, step in zip(shape, divisors(steps), strict=True))
    total = network.features * network.classes * pixels
    for level, (inputs, outputs) in enumerate(zip([network.inputs, *widths], widths, strict=False)):
        taps = math.prod(sizes[level])
        total += taps * (inputs + outputs) * outputs * pixels
        if level < network.layers:
            total += (taps * 3 * outputs + 2 * outputs) * outputs * pixels
            pixels //= math.prod(steps[level])
    return total


def adversary_parameters(network: Network) -> int:
    """Return the parameters of the network that judges predictions (`training.adversarial`), exactly."""
    maps = (network.inputs + network.classes, *ADVERSARY_WIDTHS, 1)
    weights = sum(_adversary_taps(network) * inputs * outputs for inputs, outputs in pairwise(maps))
    return weights + ADVERSARY_WIDTHS[0] + 1


def adversary_macs(network: Network, shape: Sequence[int]) -> int:
    """Return the multiply-adds with which it judges one patch, padding at the edges left out."""
    maps, pixels, total = (network.inputs + network.classes, *ADVERSARY_WIDTHS, 1), math.prod(shape), 0
    for layer, (inputs, outputs) in enumerate(pairwise(maps)):
        pixels //= 4 if layer < len(ADVERSARY_WIDTHS) - 1 else 1
        total += _adversary_taps(network) * inputs * outputs * pixels
    return total


def prediction_bytes(network: Network, itemsize: int) -> int:
    """Return the memory that prediction needs per pixel (voxel), with numbers of `itemsize` bytes.

    The peak is in the last decoder level of `segcore.models.folded`: the skip connection, the image from
    below before and after it is enlarged, the convolution of both, and a copy where a halo is cut off; then
    the float32 logits, their softmax and the input.
    """
    return 5 * network.features * itemsize + 4 * (3 * network.classes + 2 * network.inputs)


def patch_macs(config: RunConfig, network: Network) -> int:
    """Return a third of the multiply-adds of training on one patch, see `TRAINING_PASSES`."""
    shape = patch_shape(config)
    macs = unet_macs(network, shape)
    if config.training.adversarial:
        macs += ADVERSARY_PASSES * adversary_macs(network, shape) // TRAINING_PASSES
    return macs


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
    network = network_of(config, stack)
    validation = validation_slices(config, slices)
    per_patch = patch_macs(config, network)
    if config.data.mode == "3d":
        units = max(1, training_slices(config, slices) // config.data.patch_depth)
        judged = unet_macs(network, (validation, stack.height, stack.width))
    else:
        units = training_slices(config, slices)
        judged = validation * unet_macs(network, (stack.height, stack.width))
    macs = TRAINING_PASSES * units * config.data.patches_per_image * per_patch + judged
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


def _adversary_taps(network: Network) -> int:
    return 48 if network.strides else 16


def _double_conv(inputs: int, outputs: int, taps: int) -> int:
    return taps * (inputs + outputs) * outputs + 4 * outputs


def _seconds(macs: int, gflops: float) -> float:
    return 2e-9 * macs / gflops


def validation_slices(config: RunConfig, slices: int) -> int:
    """Return about how many slices validate; the rows of a single slice that do count as a whole one."""
    data = config.data
    if data.validation_slices:
        return min(slices, _named(data.validation_slices))
    share = 1 / data.folds if data.folds else data.validation_fraction
    return max(1, round(slices * share))


def training_slices(config: RunConfig, slices: int) -> int:
    """Return about how many slices train."""
    chosen = config.data.test_slices
    test = min(slices, _named(chosen)) if chosen else round(slices * config.data.test_fraction)
    return max(1, slices - validation_slices(config, slices) - test)


def _named(text: str) -> int:
    """Return how many slices a text like "0,5,10-12" names."""
    spans = [part.split("-") for part in text.replace(" ", "").split(",")]
    return sum(max(0, int(span[-1]) - int(span[0]) + 1) for span in spans)
