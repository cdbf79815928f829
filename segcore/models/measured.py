"""What a network really needs, found by running it once on tensors that have a shape and nothing else."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segcore.models.segmenter import Segmenter, evaluating

Module = TypeVar("Module", bound=nn.Module)

SIDES = {2: (512, 1024, 2048), 3: (64, 128, 256)}
"""About how many px (voxels) wide the images are that memory is measured with: two usual and a large one."""
GROWTH = 1.3
"""A network that takes so many times more per pixel of the large image takes ever more."""
HALF_MARGIN = 1.5
"""With numbers of two bytes: normalisations and attention are computed in float32 all the same."""
MARGIN = 1.15
"""What no tensor shows: workspace of the kernels, and blocks that the allocator cannot fill."""


class Measured(Segmenter):
    """A network whose memory is measured instead of calculated: once, in milliseconds, without computing."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, classes)
        self._peaks: dict[torch.dtype, tuple[float, ...]] = {}

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per pixel (voxel) of the input, numbers of `itemsize` bytes.

        What lives at once at the worst moment of a prediction of an image up to `most_pixels`, with a margin;
        then the float32 logits, their softmax and the input.
        """
        whole, half = (max(self._measured(dtype)[:2]) for dtype in (torch.float32, torch.bfloat16))
        needed = MARGIN * whole if itemsize >= 4 else min(HALF_MARGIN * half, MARGIN * whole)
        return math.ceil(needed + 4 * (3 * self.classes + 2 * self.channels))

    def most_pixels(self) -> int:
        """Return the px (voxels) of an image up to which `bytes_per_pixel` holds.

        A network that compares all pixels with all (attention without windows) takes the more per pixel the
        larger the image: it is given none that is larger than the usual ones it was measured with.
        """
        *usual, large = self._measured(torch.float32)
        if large <= GROWTH * max(usual):
            return super().most_pixels()
        return math.prod(_sizes(self.divisors, SIDES[self.dimensions][1]))

    def _measured(self, dtype: torch.dtype) -> tuple[float, ...]:
        """Return the bytes per pixel of the images of `SIDES`."""
        if dtype not in self._peaks:
            sides = SIDES[self.dimensions]
            self._peaks[dtype] = tuple(peak_bytes_per_pixel(self, dtype, side) for side in sides)
        return self._peaks[dtype]


def peak_bytes_per_pixel(network: Segmenter, dtype: torch.dtype, side: int) -> float:
    """Return the most bytes per pixel that live at once while `network` predicts, its weights left out.

    Parameters
    ----------
    network : Segmenter
        Its weights are looked at only for their shapes; its mode is as before afterwards.
    dtype : torch.dtype
        Of image and weights.
    side : int
        About how many px (voxels) wide the image is.
    """
    sizes = _sizes(network.divisors, side)
    image = torch.empty(1, network.channels, *sizes, dtype=dtype, device="meta")
    state = _shapes(network, dtype)
    with evaluating(network), torch.no_grad():
        return peak_bytes(lambda: functional_call(network, state, (image,))) / math.prod(sizes)


def peak_bytes(run: Callable[[], object], device: str = "meta") -> int:
    """Return the most bytes of tensors made by torch that live at once on a device while `run` runs."""
    live = _Live(device)
    with live:
        run()
    return live.peak


def prune(network: nn.Module, image: Sequence[int]) -> None:
    """Take out of a network of another library the parts that no output depends on.

    A classifier, or levels deeper than those asked for: they would be saved, counted as parameters, and
    waited for where several processes train together.

    Parameters
    ----------
    network : Module
        Is changed.
    image : sequence of int
        Shape of an image it takes, `B C Y X` or `B C Z Y X`.
    """
    state = _shapes(network, torch.float32)
    weights = {name: state[name].requires_grad_() for name, _ in network.named_parameters()}
    blank = torch.empty(*image, device="meta")
    with evaluating(network), torch.enable_grad():
        total = functional_call(network, state, (blank,)).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    unused = {name for name, gradient in zip(weights, gradients, strict=True) if gradient is None}
    taken = []
    for path in sorted({name.rpartition(".")[0] for name in unused} - {""}):
        inside, _, last = path.rpartition(".")
        part = network.get_submodule(path)
        if all(f"{path}.{name}" in unused for name, _ in part.named_parameters()):
            setattr(network.get_submodule(inside), last, nn.Identity())
            taken.append((inside, last, part))
    try:
        with evaluating(network), torch.no_grad():
            functional_call(network, _shapes(network, torch.float32), (blank,))
    except Exception:  # some are run through, though nothing is made of it
        for inside, last, part in taken:
            setattr(network.get_submodule(inside), last, part)
    for name, weight in network.named_parameters():
        if name in unused:
            weight.requires_grad_(False)


def _shapes(network: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without their numbers."""
    return {
        name: tensor.detach().to("meta", dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]
    }


def _sizes(divisors: Sequence[int], side: int) -> list[int]:
    return [-(-side // step) * step for step in divisors]


class _Live(TorchDispatchMode):
    """Adds up the bytes of all tensors that are alive, and keeps the most there ever were."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._device = device
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type == self._device:
                self._born(leaf.untyped_storage())
        # A convolution copies its input where that does not lie in memory, or is not rounded, as it needs it.
        copy = args[0].nbytes if func is torch.ops.aten.convolution.default else 0
        self.peak = max(self.peak, self.now + copy)
        return result

    def _born(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            weakref.finalize(storage, self._died, key, size)

    def _died(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def built(build: Callable[[], Module]) -> Module:
    """Return what `build` returns, also where torch builds without memory and `build` cannot.

    Networks of other libraries read numbers out of tensors while they are built, which tensors on the device
    "meta" do not have. So they are built in main memory, the run's random numbers left as they are, and
    parameters and saved buffers are moved afterwards; what a file does not bring back keeps its values.
    """
    if torch.get_default_device().type != "meta":
        return build()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        module = build()
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                empty = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
                part._parameters[name] = moved.setdefault(id(weight), empty)
        for name, buffer in part._buffers.items():
            if buffer is not None and name not in part._non_persistent_buffers_set:
                part._buffers[name] = buffer.to("meta")
    return module
