"""Which device computes, in which number format, and how much memory it has left."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from segcore import __version__
from segcore.config import HardwareConfig
from segcore.errors import ConfigError
from segcore.memory import main_memory

# Large tensors on a CPU in pages of 2 MB: a forward pass over a tile otherwise spends up to a fifth of its
# time on page faults. torch looks for it when it makes its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Hardware:
    """Where and how the network computes.

    Parameters
    ----------
    device : torch.device
        Device of weights and data.
    dtype : torch.dtype
        Format of the arithmetic inside `autocast`; weights, loss and metrics stay float32.
    channels_last : bool
        Whether images lie in memory pixel by pixel, which the convolutions of this device prefer.
    """

    device: torch.device
    dtype: torch.dtype
    channels_last: bool

    @property
    def needs_scaler(self) -> bool:
        """True if gradients would underflow in this format without loss scaling."""
        return self.dtype is torch.float16

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of 2d images and convolution weights."""
        return self.layout(2)

    def layout(self, dimensions: int) -> torch.memory_format:
        """Return the memory format of images and convolution weights of 2 or 3 dimensions."""
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if dimensions == 2 else torch.channels_last_3d

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the network runs."""
        enabled = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if enabled else None, enabled=enabled)

    def describe(self) -> str:
        """Say it in a few words: `CPU, 2 cores, bf16`."""
        precision = next(name for name, dtype in DTYPES.items() if dtype is self.dtype)
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {precision}"
        if self.device.type == "mps":
            return f"Apple GPU, {precision}"
        cores = torch.get_num_threads()
        return f"CPU, {cores} core{'s' if cores != 1 else ''}, {precision}"

    def kind(self) -> str:
        """Name the kind of device and the number format: alike, results differ in rounding at most."""
        return f"{self.device.type}, {str(self.dtype).removeprefix('torch.')}"

    def free_memory(self) -> int:
        """Return the bytes that can still be allocated on the device."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            reserved = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return free + reserved
        if self.device.type == "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return main_memory().available


def versions() -> dict[str, str]:
    """Return the versions that decide what comes out: of this program, torch and Python."""
    return {
        "segcore-studio": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def choose(config: HardwareConfig) -> Hardware:
    """Return the hardware that `config` asks for; `auto` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    ConfigError
        The machine has no such device, or the device cannot compute in the format asked for.
    """
    there = _devices()
    name = there[0] if config.device == "auto" else config.device
    if name not in there:
        raise ConfigError(
            f"hardware.device is {name}, but this machine offers only {', '.join(there)}.",
            f"Choose auto or {' or '.join(there)}.",
        )
    if config.precision == "fp16" and name == "cpu":
        raise ConfigError(
            "hardware.precision is fp16, but a CPU only imitates it, slowly.", "Choose auto, bf16 or fp32."
        )
    if config.precision == "bf16" and name == "mps":
        raise ConfigError("hardware.precision bf16 is not for the mps device.", "Choose auto, fp16 or fp32.")
    dtype = _best_dtype(name) if config.precision == "auto" else DTYPES[config.precision]
    return Hardware(torch.device(name), dtype, channels_last=name != "mps")


def _devices() -> list[str]:
    """Return the devices of this machine, the fastest first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def _best_dtype(device: str) -> torch.dtype:
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        # Without these instructions a CPU computes bf16 by way of float32, several times slower than float32
        # itself.
        return torch.bfloat16
    return torch.float32
