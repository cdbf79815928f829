"""A small model on disk and images to go with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import ModelCard, Normalization, PixelSize, write_config
from segcore.config import RunConfig, build_config
from segcore.events import Event
from segcore.models.saved import save_weights
from segcore.models.unet import UNet

SIZE = PixelSize(z=0.5, y=0.1, x=0.1)


class Listener:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Remember an event."""
        self.events.append(event)

    def of(self, kind: str) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if event.kind == kind]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        channels=1,
        class_values=(0, 100, 255),
        class_names=("back", "cell", "nucleus"),
        normalization=Normalization(kind="percentile", offset=(128.0,), scale=(128.0,), clip=(-3.0, 3.0)),
        axes="ZYX",
        dtype="uint8",
        pixel_size=SIZE,
    )


@pytest.fixture
def model_folder(tmp_path: Path, card: ModelCard) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(0)
    save_weights(UNet(1, 3, 4, 2), folder / "best_model.pth")
    write_config(folder / "config.json", build_config({"model": {"features": 4, "layers": 2}}), card)
    return folder


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    image = np.random.default_rng(0).integers(0, 256, (3, 40, 33)).astype(np.uint8)
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    tifffile.imwrite(path, image, imagej=True, resolution=(10, 10), metadata=metadata)
    return path


@pytest.fixture
def make_config(model_folder: Path, image_file: Path) -> Callable[..., RunConfig]:
    """Return a builder of configurations; sections given as dicts are added to the default."""

    def build(**sections: dict[str, object]) -> RunConfig:
        values: dict[str, dict[str, object]] = {
            "data": {"images": str(image_file)},
            "inference": {"model": str(model_folder)},
            "hardware": {"device": "cpu"},
        }
        for name, section in sections.items():
            values[name] = values.get(name, {}) | section
        return build_config(values)

    return build
