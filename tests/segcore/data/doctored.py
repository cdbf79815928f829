"""Made data for the doctor: blobs of several classes with texture, and the harm that is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy import ndimage

from segcore.config import DataConfig
from segcore.data.collection import open_collection
from segcore.data.doctor import Diagnosis, Proposal, accept, examine
from segcore.errors import SegcoreError

SIZE = 128


def blobs(count: int, seed: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return images `(Z, Y, X)` uint8 and labels 0, 1, 2: bright and brighter blobs on a dark background."""
    random = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(count):
        field = ndimage.gaussian_filter(random.normal(size=(size, size)), 7)
        label = (field > 0.7 * field.std()).astype(np.uint8)
        label[field < -1.1 * field.std()] = 2
        grey = (
            np.array([60, 120, 180])[label] + ndimage.gaussian_filter(random.normal(size=label.shape), 1) * 12
        )
        images.append(
            np.clip(ndimage.gaussian_filter(grey, 0.7) + random.normal(size=label.shape) * 3, 1, 250)
        )
        labels.append(label)
    return np.array(images).astype(np.uint8), np.array(labels)


def write_stack(folder: Path, images: np.ndarray, labels: np.ndarray, **options: Any) -> DataConfig:
    """Write two stacks and return the options that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = {2: "YX", 3: "ZYX"}
    for name, pixels in (("raw", images), ("labels", labels)):
        axes_of = {"axes": axes.get(pixels.ndim, "ZCYX")}
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack", metadata=axes_of)
    return DataConfig(images=str(folder / "raw.tif"), labels=str(folder / "labels.tif"), **options)


def write_folders(
    folder: Path, images: Sequence[np.ndarray], labels: Sequence[np.ndarray], **options: Any
) -> DataConfig:
    """Write folders of single images and return the options that name them."""
    for name, planes in (("images", images), ("labels", labels)):
        (folder / name).mkdir(parents=True)
        for number, plane in enumerate(planes):
            tifffile.imwrite(folder / name / f"p{number:02d}.tif", plane)
    return DataConfig(images=str(folder / "images"), labels=str(folder / "labels"), **options)


def diagnosis(data: DataConfig) -> Diagnosis:
    """Examine data as the command line does."""
    try:
        collection = open_collection(data)
    except SegcoreError:
        collection = None
    return examine(collection, data)


def found(data: DataConfig, kind: str) -> Proposal:
    """Return the only proposal of a kind."""
    proposals = diagnosis(data).proposals
    (proposal,) = [each for each in proposals if each.kind == kind]
    return proposal


def kinds(data: DataConfig) -> list[str]:
    """Return the kinds of all proposals."""
    return [proposal.kind for proposal in diagnosis(data).proposals]


def read_labels(data: DataConfig) -> np.ndarray:
    """Return the labels of a data set of equally large slices as training reads them."""
    collection = open_collection(data)
    planes = [
        opened.labels.read(plane)[0]
        for opened in collection.items
        if opened.labels is not None
        for plane in range(opened.labels.count)
    ]
    return np.array(planes)


def cured(data: DataConfig, kind: str) -> DataConfig:
    """Return the options with the repair of a kind; none of its kind is proposed again."""
    after = accept(data, [found(data, kind)])
    assert not [each for each in diagnosis(after).proposals if each.kind == kind and each.repairs]
    return after
