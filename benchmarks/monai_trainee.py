"""MONAI as its tutorials train: BasicUNet, dictionary transforms, CacheDataset, DiceCELoss, Adam, float32."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandSpatialCropd,
    RandZoomd,
)
from torch.utils.data import RandomSampler

from benchmarks.trainee import Recipe, annotated_slices
from segcore.data.dataset import TrainingData

KEYS = ("image", "label")


class MonaiTrainee:
    """A network of the same widths (instance normalisation, leaky ReLU: MONAI's defaults).

    Parameters
    ----------
    data : TrainingData
        Slices larger than a patch.
    recipe : Recipe
        Sizes.
    """

    def __init__(self, data: TrainingData, recipe: Recipe) -> None:
        self.device = torch.device(recipe.device)
        features = (*recipe.widths, recipe.features)
        if len(features) != 6:
            raise ValueError(f"MONAI's BasicUNet has 4 layers, not {recipe.layers}")
        network = BasicUNet(2, data.channels, len(data.class_values), features)
        self.network = network.to(self.device).train()
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=True)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.normalise = NormalizeIntensityd(keys="image")
        items = [{"image": image, "label": label[None]} for image, label in annotated_slices(data.train)]
        images = CacheDataset(items, self._transforms(recipe.patch), num_workers=0, progress=False)
        # MONAI's random generators start where the workers do: without one seed each they would be equal.
        self._loader = DataLoader(
            images,
            batch_size=recipe.batch,
            sampler=RandomSampler(images, replacement=True, num_samples=10**9),
            num_workers=min(8, os.cpu_count() or 1),
            pin_memory=self.device.type == "cuda",
        )
        self.batches = iter(self._loader)

    def _transforms(self, patch: int) -> Compose:
        return Compose(
            [
                EnsureTyped(keys=KEYS, dtype=torch.float32),
                self.normalise,
                RandSpatialCropd(keys=KEYS, roi_size=(patch, patch), random_size=False),
                RandFlipd(keys=KEYS, prob=0.5, spatial_axis=0),
                RandFlipd(keys=KEYS, prob=0.5, spatial_axis=1),
                RandRotate90d(keys=KEYS, prob=0.75),
                RandZoomd(keys=KEYS, prob=0.2, min_zoom=0.75, max_zoom=1.35, mode=("bilinear", "nearest")),
                RandGaussianNoised(keys="image", prob=0.1),
                RandGaussianSmoothd(keys="image", prob=0.1),
                RandScaleIntensityd(keys="image", prob=0.15, factors=0.25),
                RandAdjustContrastd(keys="image", prob=0.15, gamma=(0.7, 1.5)),
            ]
        )

    def step(self, progress: float) -> None:
        """Fetch a batch and take one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * progress))
        batch: dict[str, Any] = next(self.batches)
        image, label = (batch[key].to(self.device, non_blocking=True) for key in KEYS)
        self.optimizer.zero_grad()
        loss = self.loss(self.network(image), label)
        loss.backward()
        self.optimizer.step()
        loss.item()  # as its tutorials do

    def segment(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel, from the whole slice at once."""
        ready = self.normalise({"image": torch.from_numpy(image_CYX.astype(np.float32))})["image"]
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(ready[None].to(self.device))
        self.network.train()
        return logits[0].argmax(0).cpu().numpy()

    def close(self) -> None:
        """End the loader's processes."""
        del self.batches
