"""Inference speed: the engine's predictor beside whole slices in float32, and MONAI where it is installed."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.contest import OURS, Contest, Contestant, hold
from benchmarks.material import Material
from segcore.config import build_config
from segcore.devices import Hardware, choose
from segcore.models.build import build_model
from segcore.models.saved import place
from segcore.predictor import Predictor
from segcore.training.run import model_card

TITLE = "Inference"
PEER = "plain PyTorch"
MONAI = "MONAI sliding window"
MONAI_WINDOW = 256


def compare(material: Material, options: dict[str, Any], *, rounds: int, seconds: float) -> Contest:
    """Measure megapixels per second from grey values in memory to class indices in memory."""
    config = build_config(options)
    data, hardware = material.data, choose(config.hardware)
    images = [data.collection.read(index) for index in range(data.collection.count)]
    network = build_model(config.model, data.channels, len(data.class_values)).eval()
    predictor = Predictor(place(network, hardware), model_card(data, 0), hardware)
    peer = build_model(config.model, data.channels, len(data.class_values)).eval().to(hardware.device)
    offset, scale = data.normalization.offset[0], data.normalization.scale[0]

    def prepare(image: np.ndarray) -> Tensor:
        return ((torch.from_numpy(image).float() - offset) / scale)[None].to(hardware.device)

    def whole(image: np.ndarray) -> Tensor:
        return peer(prepare(image))[0]

    contestants = {OURS: _timed(predictor.logits, images), PEER: _timed(whole, images)}
    if importlib.util.find_spec("monai"):
        sliding = _monai(peer, hardware)
        contestants[MONAI] = _timed(lambda image: sliding(prepare(image)), images)
    rates = hold(contestants, rounds=rounds, seconds=seconds)
    height, width = images[0].shape[-2:]
    setting = (
        f"{material.name}, slices of {height} × {width} px, {config.model.features} features, "
        f"{config.model.layers} layers"
    )
    return Contest(TITLE, setting, "Mpx/s", rates)


def _timed(predict: Callable[[np.ndarray], Tensor], images: list[np.ndarray]) -> Contestant:
    endless = cycle(images)

    def work(seconds: float) -> float:
        pixels, began = 0, time.monotonic()
        with torch.inference_mode():
            while time.monotonic() - began < seconds:
                classes_YX = predict(next(endless)).argmax(0).to(torch.uint8).cpu().numpy()
                pixels += classes_YX.size
        return pixels / 1e6 / (time.monotonic() - began)

    return work


def _monai(network: nn.Module, hardware: Hardware) -> Callable[[Tensor], Tensor]:
    from monai.inferers import sliding_window_inference

    def predict(image_BCYX: Tensor) -> Tensor:
        window = (MONAI_WINDOW, MONAI_WINDOW)
        with hardware.autocast():
            return sliding_window_inference(image_BCYX, window, 4, network, overlap=0.25, mode="gaussian")[0]

    return predict
