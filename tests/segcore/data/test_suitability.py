"""What is said of an image before a model is applied to it: what is news, and which options it takes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segcore.card import ModelCard, Normalization
from segcore.config import DataConfig
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.suitability import as_trained, remarks_on


def card(channels: int, axes: str) -> ModelCard:
    return ModelCard(
        channels=channels,
        class_values=(0, 1),
        class_names=("0", "1"),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes=axes,
        dtype="uint8",
    )


def test_that_colours_are_channels_is_news_only_to_other_models(tmp_path: Path) -> None:
    path = tmp_path / "colour.png"
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(path)
    images = Planes(open_source(path))
    assert any("colour samples" in note for note in images.source.notes)
    assert not remarks_on(images, card(3, "YXC"))
    assert any("colour samples" in note for note in remarks_on(images, card(3, "ZYX")))


def test_repairs_of_the_training_s_images_stay_beside_repairs_of_labels() -> None:
    trained = DataConfig(recipe=["images.invert", "labels.values 0=0 9=1", "[a.tif] images.depth uint16"])
    assert as_trained(DataConfig(), trained).recipe == ["images.invert"]
    own = DataConfig(recipe=["labels.values 0=0 255=1"])
    assert as_trained(own, trained).recipe == ["images.invert", "labels.values 0=0 255=1"]
    chosen = DataConfig(recipe=["images.depth uint8"])
    assert as_trained(chosen, trained).recipe == ["images.depth uint8"]
