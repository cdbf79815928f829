"""Small networks written as every kind of file that other programs write, and what they answer themselves."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

STEP = 4
"""What sizes must be multiples of: the networks halve an image twice."""
TORCH = ("pt", "pt2", "onnx")
KERAS = ("keras", "h5")
FORMATS = (*TORCH, *KERAS)
Direct = Callable[[Tensor], Tensor]
"""The network itself: images `B C …` to maps `B K …`."""


class SmallNet(nn.Module):
    """A U-Net of three levels that is built for nothing but sizes that it can halve twice."""

    def __init__(self, channels: int, maps: int, end: str = "", dimensions: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.pool = nn.MaxPool2d(2) if dimensions == 2 else nn.MaxPool3d(2)
        self.down = nn.ModuleList([conv(channels, 4, 3, padding=1), conv(4, 8, 3, padding=1)])
        self.middle = conv(8, 8, 3, padding=1)
        self.up = nn.ModuleList([conv(16, 8, 3, padding=1), conv(12, 4, 3, padding=1)])
        self.head = conv(4, maps, 1)
        self.end = end

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, or what `end` makes of them."""
        first = functional.relu(self.down[0](image))
        second = functional.relu(self.down[1](self.pool(first)))
        deep = functional.relu(self.middle(self.pool(second)))
        up = functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        second = functional.relu(self.up[0](torch.cat([up, second], 1)))
        up = functional.interpolate(second, scale_factor=2.0, mode="nearest")
        logits = self.head(functional.relu(self.up[1](torch.cat([up, first], 1))))
        if self.end == "softmax":
            return functional.softmax(logits, 1)
        return torch.sigmoid(logits) if self.end == "sigmoid" else logits


@dataclass(frozen=True)
class Made:
    """A file, and the network in it."""

    path: Path
    direct: Direct


def make(
    folder: Path, suffix: str, channels: int, maps: int, end: str = "", size: tuple[int, ...] = ()
) -> Made:
    """Write a network as a file `net.SUFFIX`.

    Parameters
    ----------
    folder : Path
        Where.
    suffix : str
        One of `FORMATS`.
    channels, maps : int
        What it takes and answers.
    end : {"", "softmax", "sigmoid"}
        What comes last.
    size : tuple of int
        The one size that it takes; by default any multiple of `STEP`.
    """
    path = folder / f"net.{suffix}"
    if suffix in KERAS:
        return _keras(path, channels, maps, end, size)
    torch.manual_seed(1)
    net = SmallNet(channels, maps, end).eval()
    example = torch.randn(2, channels, *(size or (32, 40)))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if suffix == "pt" and not size:
            script(net, path)
        elif suffix == "pt":
            torch.jit.trace(net, example).save(str(path))
        else:
            _exported(net, example, path, size)
    return Made(path, lambda images: net(images))


def script(net: nn.Module, path: Path) -> None:
    """Write a network as a TorchScript program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch prefers torch.export
        torch.jit.script(net).save(str(path))


def _exported(net: nn.Module, example: Tensor, path: Path, size: tuple[int, ...]) -> None:
    if path.suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        axes = {0: "batch"} if size else {0: "batch", 2: "rows", 3: "columns"}
        # The newer way needs one more package, and ten times as long.
        torch.onnx.export(
            net, (example,), path, dynamo=False, input_names=["image"], dynamic_axes={"image": axes}
        )
        return
    free = {0: torch.export.Dim("batch", min=1, max=64)}
    if not size:
        free |= {2: STEP * torch.export.Dim("rows", min=1, max=512)}
        free |= {3: STEP * torch.export.Dim("columns", min=1, max=512)}
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes={"image": free}), path)


def keras_package() -> Any:
    """Return Keras on torch, or skip."""
    if find_spec("keras") is None:
        pytest.skip("keras is not installed")
    from segcore.models.foreign.keras_file import require_keras

    return require_keras()


def _keras(path: Path, channels: int, maps: int, end: str, size: tuple[int, ...]) -> Made:
    keras = keras_package()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    with warnings.catch_warnings(), keras.device("cpu:0"):
        warnings.simplefilter("ignore")
        image = keras.Input((*(size or (None, None)), channels))
        first = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
        second = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
        deep = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(layers.MaxPooling2D()(second)))
        up = layers.Concatenate()([layers.UpSampling2D()(deep), second])
        up = layers.Conv2D(8, 3, padding="same", activation="relu")(up)
        up = layers.Concatenate()([layers.Conv2DTranspose(8, 2, strides=2)(up), first])
        answer = layers.Conv2D(maps, 1, activation=end or None)(layers.ReLU()(up))
        model = keras.Model(image, answer)
        model.save(path)

    def direct(images: Tensor) -> Tensor:
        with torch.no_grad(), keras.device("cpu:0"):
            return model(images.movedim(1, -1).contiguous(), training=False).movedim(-1, 1)

    return Made(path, direct)


def say(path: Path, maps: int, **more: Any) -> Path:
    """Write the description of a network; returns the network's path."""
    names = [f"class {number}" for number in range(max(2, maps))]
    content = {"normalization": {"kind": "none"}, "class_names": names, **more}
    path.with_suffix(".json").write_text(json.dumps(content))
    return path


def needed(suffix: str, channels: int = 1, **more: Any) -> dict[str, Any]:
    """Return what a description must say of a file of this kind beside normalisation and classes."""
    return more | ({"channels": channels} if suffix == "pt" else {})


def noise(channels: int, *sizes: int, seed: int = 0) -> np.ndarray:
    """Return an image of noise, `C …`."""
    return np.random.default_rng(seed).normal(size=(channels, *sizes)).astype(np.float32)
