"""A loop as a tutorial has it: DataLoader with workers, float32, AdamW, Dice and cross-entropy."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.trainee import Recipe, annotated_slices
from segcore.data.dataset import TrainingData
from segcore.models.unet import UNet


class Crops(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Random crops with flips and quarter turns: less than ours does, to the peer's advantage."""

    def __init__(self, data: TrainingData, size: int) -> None:
        self.pairs = annotated_slices(data.train)
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


class PlainTrainee:
    """The same network in float32.

    Parameters
    ----------
    data : TrainingData
        Slices larger than a patch.
    recipe : Recipe
        Sizes.
    """

    def __init__(self, data: TrainingData, recipe: Recipe) -> None:
        self.crops = Crops(data, recipe.patch)
        self.device = torch.device(recipe.device)
        network = UNet(data.channels, len(data.class_values), recipe.features, recipe.layers)
        self.network = network.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.batches = _endless(self.crops, recipe.batch, pinned=self.device.type == "cuda")

    def step(self, progress: float) -> None:
        """Fetch a batch and take one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * progress))
        image, label = (tensor.to(self.device, non_blocking=True) for tensor in next(self.batches))
        self.optimizer.zero_grad()
        loss = _loss(self.network(image), label)
        loss.backward()
        self.optimizer.step()
        loss.item()  # a plain loop prints or sums its loss

    def segment(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel, from the whole slice at once."""
        grey = (image_CYX.astype(np.float32) - self.crops.offset) / self.crops.scale
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(grey.astype(np.float32))[None].to(self.device))
        self.network.train()
        return logits[0].argmax(0).cpu().numpy()

    def close(self) -> None:
        """End the loader's processes."""
        del self.batches


def _endless(crops: Crops, batch: int, *, pinned: bool) -> Iterator[list[Tensor]]:
    loader = DataLoader(
        crops,
        batch_size=batch,
        sampler=RandomSampler(crops, replacement=True, num_samples=10**9),
        num_workers=min(8, os.cpu_count() or 1),
        pin_memory=pinned,
    )
    return iter(loader)


def _loss(logits: Tensor, label: Tensor) -> Tensor:
    probability = logits.softmax(1)
    truth = functional.one_hot(label, logits.shape[1]).movedim(-1, 1)
    overlap, total = (probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3))
    return functional.cross_entropy(logits, label) + 1 - (2 * overlap / total.clamp(min=1e-6)).mean()
