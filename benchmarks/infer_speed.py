"""Inference speed: the engine's predictor beside whole slices in float32, MONAI and nnU-Net."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import OURS, Contest, Contestant, hold
from benchmarks.material import Material
from benchmarks.train_speed import MATRIX, PRODUCT, matrix_product
from benchmarks.trainee import Recipe
from segcore.config import build_config
from segcore.data.dataset import TrainingData
from segcore.devices import choose
from segcore.models.build import build_model
from segcore.models.saved import place
from segcore.predictor import Predictor, to_labels
from segcore.training.described import model_card

TITLE = "Inference"
PEER = "plain PyTorch"
MONAI = "MONAI sliding window"
NNUNET = "nnU-Net predictor"
WINDOW = 256
"""Side of the peers' windows, px."""
PART = 1024
"""Side of the part of a larger plane that the peers predict: all their windows cost the same."""


def compare(material: Material, options: dict[str, Any], *, rounds: int, seconds: float) -> Contest:
    """Measure megapixels per second on the slices of the material."""
    images = [material.data.collection.read(index) for index in range(material.data.collection.count)]
    return _compare(material.name, images, images, material.data, options, rounds, seconds)


def compare_plane(
    material: Material, options: dict[str, Any], *, rounds: int, seconds: float, side: int = 8192
) -> Contest:
    """Measure megapixels per second on one large plane, which repeats a slice of the material."""
    slice_CYX = material.data.collection.read(0)
    times = [-(-side // size) for size in slice_CYX.shape[1:]]
    plane = np.tile(slice_CYX, (1, *times))[:, :side, :side]
    parts = [np.ascontiguousarray(plane[:, :PART, :PART])]
    name = f"{material.name} repeated (the peers on {PART} × {PART} px of it)"
    return _compare(name, [plane], parts, material.data, options, rounds, seconds)


def _compare(
    name: str,
    images: list[np.ndarray],
    parts: list[np.ndarray],
    data: TrainingData,
    options: dict[str, Any],
    rounds: int,
    seconds: float,
) -> Contest:
    """Let all go from grey values in memory to class indices in memory, the peers on `parts`."""
    config = build_config(options)
    hardware, classes = choose(config.hardware), len(data.class_values)
    network = build_model(config.model, data.channels, classes).eval()
    predictor = Predictor(place(network, hardware), model_card(data, 0), hardware)
    peer = build_model(config.model, data.channels, classes).eval().to(hardware.device)
    offset, scale = data.normalization.offset[0], data.normalization.scale[0]

    def prepare(image: np.ndarray) -> Tensor:
        return ((torch.from_numpy(image).float() - offset) / scale)[None].to(hardware.device)

    recipe = Recipe(WINDOW, 4, config.model.features, config.model.layers, str(hardware.device))
    contestants = {OURS: timed(predictor.logits, images)}
    if max(parts[0].shape) <= PART // 2:
        contestants[PEER] = timed(lambda image: peer(prepare(image))[0], parts)
    for title, make in {
        MONAI: partial(_monai, peer, prepare),
        NNUNET: partial(_nnunet, recipe, data.channels, classes),
    }.items():
        try:
            contestants[title] = timed(make(), parts)
        except ModuleNotFoundError as error:
            print(f"{title} does not take part: {error}. See benchmarks/requirements.txt.", flush=True)
    contestants[PRODUCT] = matrix_product(hardware)
    rates = hold(contestants, rounds=rounds, seconds=seconds)
    product, flops = median(rates.pop(PRODUCT)), flops_per_megapixel(peer, data.channels)
    reached = median(rates[OURS]) * flops
    height, width = images[0].shape[-2:]
    return Contest(
        TITLE,
        f"{name}, {height} × {width} px, {config.model.features} features, {config.model.layers} layers",
        "Mpx/s",
        rates,
        f"{reached / 1e9:.0f} GFLOP/s = {reached / product:.0%} of the {MATRIX}² matrix product in the same "
        f"number format, {product / 1e9:.0f}",
    )


def timed(predict: Callable[[np.ndarray], Tensor], images: list[np.ndarray]) -> Contestant:
    """Return what goes from the grey values of images to class indices over and over, and tells its Mpx/s."""
    endless = cycle(images)

    def work(seconds: float) -> float:
        pixels, began = 0, time.monotonic()
        with torch.inference_mode():
            while time.monotonic() - began < seconds:
                classes_YX = to_labels(predict(next(endless)))
                pixels += classes_YX.size
        return pixels / 1e6 / (time.monotonic() - began)

    return work


def _monai(network: nn.Module, prepare: Callable[[np.ndarray], Tensor]) -> Callable[[np.ndarray], Tensor]:
    """Return MONAI's inferer with its defaults, on the network in float32, as its tutorials call it."""
    from monai.inferers.utils import sliding_window_inference

    def predict(image: np.ndarray) -> Tensor:
        result: Any = sliding_window_inference(prepare(image), (WINDOW, WINDOW), 4, network)
        logits: Tensor = result[0]
        return logits

    return predict


def _nnunet(recipe: Recipe, channels: int, classes: int) -> Callable[[np.ndarray], Tensor]:
    from benchmarks.nnunet_segmenter import nnunet_segmenter

    return nnunet_segmenter(recipe, channels, classes)


def flops_per_megapixel(network: nn.Module, channels: int) -> float:
    """Return the operations of the network's convolutions for a million pixels, as it is written."""
    device = next(network.parameters()).device
    image = torch.zeros(1, channels, WINDOW, WINDOW, device=device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops()) / WINDOW**2 * 1e6
