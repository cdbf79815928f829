"""Training speed: the engine's own loop beside a plain one with a DataLoader, in float32."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.contest import OURS, Contest, Contestant, hold
from benchmarks.material import Material
from segcore.config import RunConfig, build_config
from segcore.data.dataset import TrainingData
from segcore.devices import choose
from segcore.events import Event, Request
from segcore.models.build import build_model
from segcore.training.context import Run
from segcore.training.epochs import train_epoch
from segcore.training.run import build_run

TITLE = "Training"
PEER = "plain PyTorch"


class Crops(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Random crops with flips and quarter turns: less than ours does, to the peer's advantage."""

    def __init__(self, data: TrainingData, size: int) -> None:
        self.pairs = [
            (np.asarray(volume.image_ZCYX[0:1, :, :, :])[0], np.asarray(volume.label_ZYX[0:1, :, :])[0])
            for volume in data.train
        ]
        self.size = size
        self.offset, self.scale = data.normalization.offset[0], data.normalization.scale[0]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = self.pairs[index]
        row, column = (np.random.randint(0, side - self.size + 1) for side in label.shape)
        window = np.s_[..., row : row + self.size, column : column + self.size]
        image, label = image[window].astype(np.float32), label[window].astype(np.int64)
        image = (image - np.float32(self.offset)) / np.float32(self.scale)
        if np.random.rand() < 0.5:
            image, label = image[..., ::-1], label[..., ::-1]
        turns = np.random.randint(4)
        image, label = np.rot90(image, turns, (-2, -1)), np.rot90(label, turns, (-2, -1))
        return np.ascontiguousarray(image), np.ascontiguousarray(label)


def compare(material: Material, options: dict[str, Any], *, rounds: int, seconds: float) -> Contest:
    """Measure patches per second of ours and of the plain loop with the same network, patch and batch."""
    config = build_config(options)
    with TemporaryDirectory() as folder:
        run = build_run(config, Path(folder), material.data, _ignore)
        rates = hold({OURS: ours(run), PEER: plain(config, material.data)}, rounds=rounds, seconds=seconds)
    data, model = config.data, config.model
    setting = (
        f"{material.name}, patch {data.patch_size}, batch {config.training.batch_size}, "
        f"{model.features} features, {model.layers} layers"
    )
    return Contest(TITLE, setting, "patches/s", rates)


def ours(run: Run) -> Contestant:
    """Return the engine's loop as it is in every training."""

    def work(seconds: float) -> float:
        began, first = time.monotonic(), run.state.step
        deadline = began + seconds

        def asked() -> Request | None:
            return Request.PAUSE if time.monotonic() > deadline else None

        while time.monotonic() <= deadline:
            train_epoch(run, asked)
            if run.state.part:
                float(run.state.part.loss_sum)  # waits for the device
            run.state.part = None  # the next epoch, without the validation in between
        steps, spent = run.state.step - first, time.monotonic() - began
        return steps * run.config.training.batch_size / spent

    return work


def plain(config: RunConfig, data: TrainingData) -> Contestant:
    """Return a loop as a tutorial has it: DataLoader with workers, float32, AdamW, Dice and cross-entropy."""
    device = choose(config.hardware).device
    network = build_model(config.model, data.channels, len(data.class_values)).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.training.learning_rate)
    batches = _endless(data, config, pinned=device.type == "cuda")

    def work(seconds: float) -> float:
        steps, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            image, label = next(batches)
            image, label = image.to(device, non_blocking=True), label.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = _loss(network(image), label)
            loss.backward()
            optimizer.step()
            loss.item()  # a plain loop prints or sums its loss
            steps += 1
        return steps * config.training.batch_size / (time.monotonic() - began)

    return work


def _endless(data: TrainingData, config: RunConfig, *, pinned: bool) -> Iterator[list[Tensor]]:
    crops = Crops(data, config.data.patch_size)
    loader = DataLoader(
        crops,
        batch_size=config.training.batch_size,
        sampler=RandomSampler(crops, replacement=True, num_samples=10**9),
        num_workers=min(4, os.cpu_count() or 1),
        pin_memory=pinned,
    )
    return iter(loader)


def _loss(logits: Tensor, label: Tensor) -> Tensor:
    probability = logits.softmax(1)
    truth = functional.one_hot(label, logits.shape[1]).movedim(-1, 1)
    overlap, total = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))
    return functional.cross_entropy(logits, label) + 1 - (2 * overlap / total.clamp(min=1e-6)).mean()


def _ignore(event: Event) -> None:
    """Take an event and tell nobody."""
