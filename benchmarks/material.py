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
    images, labels = isbi()
    if images.exists():
        return Material("ISBI 2012", _load(images, labels))
    with TemporaryDirectory() as temporary:
        return Material("simulated", _load(*simulate(Path(temporary), "2class", 30, 512, 0)))


def isbi() -> tuple[Path, Path]:
    """Return where the ISBI 2012 images and labels are, if they are at hand."""
    root = Path(os.environ.get("SEGCORE_TEST_DATA", "../shared/data"))
    return root / "isbi2012_em_membrane" / "raw.tif", root / "isbi2012_em_membrane" / "labels.tif"


def _load(images: Path, labels: Path) -> TrainingData:
    return load_training_data(
        DataConfig(images=str(images), labels=str(labels), validation_slices=VALIDATION)
    )
