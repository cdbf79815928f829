"""How much memory a training needs, of how much there is, and the largest settings that fit. Torch-free."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError
from segcore.estimate import (
    ADVERSARY_WIDTHS,
    Machine,
    Network,
    Stack,
    adversary_parameters,
    network_of,
    parameters_of,
    patch_shape,
    training_slices,
    validation_slices,
)
from segcore.families import USUAL, encoder_millions
from segcore.memory import main_memory
from segcore.strides import radii

FITS = 0.9
"""Share of the memory that a proposal may need: other programs move too."""
VALIDATION_SHARE = 0.5
"""A slice that would need more than this share of the memory is predicted in tiles."""
PATCHES = (256, 128, 96, 64, 48, 32)
FEATURES = (128, 96, 64, 48, 32, 16)
"""The choices of the form."""
_PROCESS, _CONTEXT = 780 * 10**6, 600 * 10**6
"""A process with torch and its libraries; what a CUDA context takes on the device."""
_MAP, _JUDGED_MAP = 24, 12
"""Bytes of a map of an instance head per pixel: in training the output, its gradient, two errors, the target
of this batch and of the next; in validation what the network says, what that means, and a copy."""
_STATE = {"adamw": 12, "adam": 12, "radam": 12, "lamb": 12, "sgd": 8, "gd": 4}
"""Bytes of a weight and the optimizer's moments, two at most; its gradient takes four more."""


class Footprint(NamedTuple):
    """The parts of what a training needs, in bytes."""

    process: int
    """The process itself, on a GPU the context."""
    weights: int
    """Weights, gradients, moments, copies."""
    patch: int
    """Of every patch that is computed at once."""
    validation: int
    """While a validation slice is predicted, which is not while patches are computed."""
    data: int
    """The images and labels."""

    def need(self, patches: int, have: int) -> int:
        """Return the bytes needed to compute so many patches at once on a device that has `have` bytes."""
        validation = min(self.validation, int(VALIDATION_SHARE * have))
        return self.process + self.weights + self.data + max(patches * self.patch, validation)

    def scaled(self, measured: Footprint, estimated: Footprint) -> Footprint:
        """Return this estimate corrected by how far another one was from what was measured."""
        parts = zip(self, measured, estimated, strict=True)
        return Footprint(*(round(part * real / max(1, guess)) for part, real, guess in parts))


class MemoryNeed(BaseModel):
    """What a training needs and what there is, in bytes."""

    model_config = ConfigDict(frozen=True)

    need: int
    have: int
    measured: bool
    """By a dry run on the device, not only computed from the size of the network."""
    proposal: dict[str, int] | None = None
    """The largest settings that fit, by the name of their option; None if all is well or nothing fits."""

    @property
    def ratio(self) -> float:
        """Need ÷ have; above 1 memory will run out."""
        return self.need / max(1, self.have)


def patches_at_once(config: RunConfig) -> int:
    """Return how many patches a device computes at once."""
    training = config.training
    share = max(1, training.batch_size // (training.devices * training.num_nodes))
    return min(training.micro_batch or share, share)


def estimate_footprint(
    config: RunConfig, stack: Stack, number_bytes: int = 4, gpu: bool = False
) -> Footprint:
    """Estimate the memory of a training from the size of the network; a dry run knows better.

    Parameters
    ----------
    config : RunConfig
        Options.
    stack : Stack
        Size of the images.
    number_bytes : int
        Of the number format: 4 for float32, 2 for bfloat16 and float16.
    gpu : bool
        The memory in question is that of a graphics card.
    """
    network = network_of(config, stack)
    per_weight = _STATE[config.training.optimizer] + 4 + number_bytes % 4 + _averaged(config)
    # Per pixel and feature map of the first level: each of two times two convolutions before and after its
    # normalisation, the two halves of the concatenation, gradients; in all levels below again, with twice as
    # many maps of ever fewer pixels: of a 2d network together as much as in the first.
    per_map = 26 if not network.strides else 13 + _below(network.steps)
    per_pixel = per_map * network.features * number_bytes + 16 * network.inputs + 64
    maps = network.classes if config.model.learns_objects else 0
    judged = 8 * network.features * number_bytes + 48 + _JUDGED_MAP * maps
    adversary = _adversary_per_pixel(network) * number_bytes if config.training.adversarial else 0
    weights = parameters_of(config.model, network) * per_weight
    if config.training.adversarial:
        weights += adversary_parameters(network) * (_STATE["adam"] + 4)
    planes = validated_planes(config, stack)
    return Footprint(
        process=_CONTEXT if gpu else _PROCESS,
        weights=weights + (0 if gpu else saving_bytes(config, stack)),
        patch=round(math.prod(patch_shape(config)) * (per_pixel * _times(config) + adversary + _MAP * maps)),
        validation=planes * stack.height * stack.width * judged,
        data=data_bytes(config, stack, gpu),
    )


def saving_bytes(config: RunConfig, stack: Stack) -> int:
    """Return the main memory that saving takes.

    The state of a best epoch that waits to be written, and its weights in the order of the file.
    """
    per_weight = _STATE[config.training.optimizer] + _averaged(config) + 4
    network = network_of(config, stack)
    adversary = adversary_parameters(network) * _STATE["adam"] if config.training.adversarial else 0
    return parameters_of(config.model, network) * per_weight + adversary


def data_bytes(config: RunConfig, stack: Stack, gpu: bool = False) -> int:
    """Return the bytes in which images and labels stay in memory during a training.

    On the CPU once as they were read and once more as the pool from which patches are cut; a label takes two
    bytes, the number of an object four.
    """
    if _on_disk(config):
        return 0
    plane, label = stack.height * stack.width, 4 if config.model.learns_objects else 2
    pool = training_slices(config, stack.slices) * plane * (stack.channels * _pool_bytes(stack) + label)
    return pool if gpu else pool + stack.slices * plane * (stack.channels * stack.grey_bytes + label)


def loading_bytes(config: RunConfig, stack: Stack) -> int:
    """Return the bytes that reading the images takes for a moment: all but 8-bit ones are copied once."""
    pixels = training_slices(config, stack.slices) * stack.height * stack.width
    return 0 if stack.grey_bytes == 1 or _on_disk(config) else pixels * stack.channels * _pool_bytes(stack)


def validated_planes(config: RunConfig, stack: Stack) -> int:
    """Return how many planes are predicted at once to validate: in 3d those the network sees, too."""
    if config.data.mode != "3d":
        return 1
    network = network_of(config, stack)
    reach = 2 * radii(network.steps, network.kernels)[0]
    return min(stack.depth or stack.slices, validation_slices(config, stack.slices) + reach)


def _below(steps: Sequence[Sequence[int]]) -> float:
    """Return the same for the levels below the first of a 3d network, in maps of the first."""
    scales = accumulate((math.prod(step) for step in steps), operator.mul)
    return 13 * sum(2**level / scale for level, scale in enumerate(scales, start=1))


def _adversary_per_pixel(network: Network) -> float:
    """Return the numbers per pixel that the adversary keeps for its gradients.

    Of every layer its convolution, that normalised, and that activated; and of all that the verdict on a
    prediction, the prediction and the annotation.
    """
    layers = len(ADVERSARY_WIDTHS) - 1
    maps = sum(width / 4 ** min(layer + 1, layers) for layer, width in enumerate(ADVERSARY_WIDTHS))
    return 9 * maps + 3 * (network.inputs + network.classes)


def _times(config: RunConfig) -> float:
    """Return how many times the memory of the U-Net that it is like a patch takes: by slices and encoder.

    A network of four times the weights is about twice as wide or as deep, and keeps as many times the maps.
    Small encoders are deep and narrow: they keep no less than the usual one.
    """
    kind = config.model.kind
    slices = config.data.context_slices if kind.slice_by_slice else 1
    if "encoder" not in kind.options:
        return slices
    return slices * max(1.0, math.sqrt(encoder_millions(config.model.encoder) / USUAL))


def _on_disk(config: RunConfig) -> bool:
    return config.data.loading == "disk"


def _averaged(config: RunConfig) -> int:
    """Return the bytes of the second set of weights that averaging keeps, per weight."""
    return 0 if config.training.averaging == "none" else 4


def _pool_bytes(stack: Stack) -> int:
    return stack.grey_bytes if stack.grey_bytes <= 2 else 4


def estimate_here(config: RunConfig, stack: Stack, machine: Machine | None) -> MemoryNeed | None:
    """Return what can be calculated for this machine; None on a GPU, whose memory torch alone can see.

    None, too, for networks whose memory only a dry run knows.
    """
    if not config.model.kind.is_unet:
        return None
    text = machine.text if machine else "CPU"
    if not text.startswith("CPU") and config.hardware.device != "cpu":
        return None
    precision = config.hardware.precision
    short = precision == "bf16" or (precision == "auto" and text.endswith("bf16"))
    footprint = estimate_footprint(config, stack, 2 if short else 4)
    return judge_memory(config, stack, main_memory().available, footprint)


def judge_memory(
    config: RunConfig, stack: Stack, have: int, footprint: Footprint, *, need: int | None = None
) -> MemoryNeed:
    """Compare what a training needs with what there is.

    Parameters
    ----------
    config : RunConfig
        Options.
    stack : Stack
        Size of the images.
    have : int
        Bytes there are for it.
    footprint : Footprint
        Estimated or measured for `config`.
    need : int, optional
        The measured peak; without it the footprint's.
    """
    measured = need is not None
    need = footprint.need(patches_at_once(config), have) if need is None else need
    proposal = propose(config, stack, have, footprint) if need > have else None
    return MemoryNeed(need=need, have=have, measured=measured, proposal=proposal)


def propose(config: RunConfig, stack: Stack, have: int, footprint: Footprint) -> dict[str, int] | None:
    """Return the largest settings that fit, only those that differ; None if none do.

    Smaller micro-batches come first, because they change what is learned least; then smaller patches, then
    fewer features.
    """
    estimated = estimate_footprint(config, stack)
    for candidate in _smaller(config):
        guess = estimate_footprint(candidate, stack).scaled(footprint, estimated)
        if guess.need(patches_at_once(candidate), have) <= FITS * have:
            return _differences(config, candidate)
    return None


def _smaller(config: RunConfig) -> Iterator[RunConfig]:
    """Yield the options with ever smaller features, patches and micro-batches, the last changing fastest."""
    model, data, training = config.model, config.data, config.training
    fewer = [number for number in FEATURES if number < model.features]
    features = [model.features, *(fewer if "features" in model.kind.options else ())]
    patches = [data.patch_size, *(size for size in PATCHES if size < data.patch_size)]
    batch = training.batch_size
    micro = [batch >> halvings for halvings in range(batch.bit_length())]
    micro = [number for number in micro if number <= patches_at_once(config)]
    depths = [data.patch_depth >> halvings for halvings in range(8 if data.mode == "3d" else 1)]
    depths = [depth for depth in depths if depth >= 4 and depth % 4 == 0] or [data.patch_depth]
    for width, size, depth, pieces in product(features, patches, depths, micro):
        options = {"model.features": width, "data.patch_size": size, "data.patch_depth": depth}
        try:
            yield with_options(config, {**options, "training.micro_batch": pieces})
        except ConfigError:
            continue  # a patch that this many layers cannot halve


def with_options(config: RunConfig, options: dict[str, Any]) -> RunConfig:
    """Return `config` with other values, by the name of their option.

    Raises
    ------
    ConfigError
        The values do not go together.
    """
    values = config.model_dump()
    for path, value in options.items():
        section, _, name = path.partition(".")
        values[section][name] = value
    return build_config(values)


def _differences(config: RunConfig, other: RunConfig) -> dict[str, int]:
    names = (("model", "features"), ("data", "patch_size"), ("data", "patch_depth"))
    found = {
        f"{section}.{name}": value
        for section, name in names
        if (value := getattr(getattr(other, section), name)) != getattr(getattr(config, section), name)
    }
    if patches_at_once(other) != patches_at_once(config):
        found["training.micro_batch"] = patches_at_once(other)
    return found
