"""What is measured on: the ISBI 2012 membranes where they are at hand, else simulated cells."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from segcore.config import DataConfig
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.simulate import simulate

VALIDATION = "24-29"


@dataclass(frozen=True)
class Material:
    """Images in memory, and what they are."""

    name: str
    data: TrainingData


def load_material() -> Material:
    """Read 30 slices of 512 × 512 px: `$SEGCORE_TEST_DATA/isbi2012_em_membrane`, or simulated ones."""
    root = Path(os.environ.get("SEGCORE_TEST_DATA", "../shared/data"))
    folder = root / "isbi2012_em_membrane"
    if (folder / "raw.tif").exists():
        return Material("ISBI 2012", _load(folder / "raw.tif", folder / "labels.tif"))
    with TemporaryDirectory() as temporary:
        return Material("simulated", _load(*simulate(Path(temporary), "2class", 30, 512, 0)))


def _load(images: Path, labels: Path) -> TrainingData:
    return load_training_data(
        DataConfig(images=str(images), labels=str(labels), validation_slices=VALIDATION)
    )
