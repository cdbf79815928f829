"""A dry run: how much memory a training will need, measured by short trials on the device it will use.

`python -m segcore.dryrun CONFIG.json FOLDER` writes a MemoryNeed as JSON. It is a process of its own, because
the app knows no torch and because the peak of a process cannot be taken back.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import tifffile
import torch

from segcore.card import read_config
from segcore.config import DataConfig, RunConfig
from segcore.data.collection import open_collection
from segcore.data.targets import LabelRule, count_plane
from segcore.devices import Hardware, choose
from segcore.errors import SegcoreError
from segcore.estimate import Stack
from segcore.events import Request
from segcore.footprint import (
    Footprint,
    MemoryNeed,
    data_bytes,
    estimate_footprint,
    judge_memory,
    loading_bytes,
    patches_at_once,
    saving_bytes,
    validated_planes,
    with_options,
)
from segcore.training.run import train
from segcore.training.usage import Usage

SAFE = 0.8
"""Share of the memory that a trial may need by what is known before it."""
PATIENCE = 20.0
"""Seconds a trial may take; larger ones are calculated from it."""
STEPS = 2
OBJECT = 24
"""Side of the squares, with the gap beside them, that stand for objects, px."""
LOOKED_AT = 64
"""Label planes in which classes are counted: a class more or less changes next to nothing."""
KEPT_OPTIONS = (
    "mode", "context_slices", "context_spacing", "patch_size", "patch_depth", "foreground_patches", "loading",
    "augmentation", "normalization", "normalize_per", "labels_as",
)  # fmt: skip
"""Options of the data that change how much memory a training takes, whatever the images."""


@dataclass(frozen=True)
class Material:
    """The person's data, as far as the memory depends on it."""

    stack: Stack
    classes: int


@dataclass(frozen=True)
class Trial:
    """What a trial took: bytes at its peak, of which `data` for its images, and seconds."""

    peak: int
    data: int
    seconds: float

    @property
    def network(self) -> int:
        """Bytes for all but the images."""
        return self.peak - self.data


def dry_run(config: RunConfig, material: Material, folder: Path) -> MemoryNeed:
    """Measure what a training needs with trials of growing size; none that would not fit is begun.

    Parameters
    ----------
    config : RunConfig
        Options.
    material : Material
        Size of the data; the trials use random numbers.
    folder : Path
        For temporary files.

    Raises
    ------
    ConfigError
        The machine does not have the device asked for.
    """
    hardware = choose(config.hardware)
    meter = _Meter(hardware)
    gpu = meter.gpu
    guess = estimate_footprint(config, material.stack, hardware.dtype.itemsize, gpu)
    if guess.need(1, meter.have) > SAFE * meter.have:
        return judge_memory(config, material.stack, meter.have, guess)
    with TemporaryDirectory(dir=folder, prefix=".dryrun-") as temporary:
        lab = _Lab(config, material, meter, Path(temporary))
        small, step, training = _grow(lab, guess.patch, patches_at_once(config))
        validation = lab.try_out(0).network
    data = data_bytes(config, material.stack, gpu)
    loading = meter.base + data + loading_bytes(config, material.stack)
    saving = 0 if gpu else saving_bytes(config, material.stack)  # the trials end before anything is saved
    weights = max(0, small - step - meter.base)
    measured = Footprint(
        process=meter.base,
        weights=weights + saving,
        patch=step,
        # A validation below the peak of the trials before it shows only that it needs no more than that.
        validation=max(0, validation - meter.base - weights),
        data=data,
    )
    need = max(max(training, validation) + saving + data, 0 if gpu else loading)
    return judge_memory(config, material.stack, meter.have, measured, need=need)


def _grow(lab: _Lab, guess: int, patches: int) -> tuple[int, int, int]:
    """Try one patch at a time, two, four … as far as it fits and is quick, and calculate the rest.

    Returns
    -------
    small, step, training : int
        Bytes for one patch, for every further one, and for `patches`; the images not counted.
    """
    room = SAFE * lab.meter.have - data_bytes(lab.config, lab.material.stack, lab.meter.gpu)
    count, trial = 1, lab.try_out(1)
    small, step = trial.network, guess
    while count < patches:
        following = min(2 * count, patches)
        if trial.network + (following - count) * step > room:
            break
        if count > 1 and trial.seconds * following / count > PATIENCE:
            break
        larger = lab.try_out(following)
        seen = (larger.network - trial.network) // (following - count)
        # A peak elsewhere, as while the program is loaded, may hide that of the first patches. Of a U-Net the
        # guess is good enough to bound it; of others it counts only where nothing at all was seen.
        step = max(seen, guess // 2) if lab.config.model.kind.is_unet else seen or step
        count, trial = following, larger
    return small, step, trial.network + (patches - count) * step


def read_material(config: RunConfig) -> Material:
    """Return the size of the data of a configuration.

    Raises
    ------
    DataError
        The files cannot be read or do not belong together.
    """
    collection = open_collection(config.data)
    rule = LabelRule.of(config.data)
    spread = np.linspace(0, collection.count - 1, min(LOOKED_AT, collection.count)).round().astype(int)
    values = {
        value
        for index in np.unique(spread).tolist()
        for value in count_plane(collection, *collection.locate(index), rule)
    }
    return Material(collection.stack_size, max(2, len(values)))


class _Meter:
    """Reads the peak of the device's memory, and how much of it there is.

    On a GPU the context is left out of both: it is there already.
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._usage = Usage(hardware)
        self.gpu = hardware.device.type == "cuda"
        self.base = self.read()
        own = 0 if self.gpu else psutil.Process().memory_info().rss
        self.have = hardware.free_memory() + own

    def restart(self) -> None:
        """Forget what is no longer used, and on a GPU its peak."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._hardware.device)

    def read(self) -> int:
        """Return the peak in bytes; of a process it never falls, so trials go from small to large."""
        if self.gpu:
            return torch.cuda.max_memory_reserved(self._hardware.device)
        return self._usage.memory


class _Lab:
    """Where the trials are done."""

    def __init__(self, config: RunConfig, material: Material, meter: _Meter, folder: Path) -> None:
        self.config, self.material, self.meter, self.folder = config, material, meter, folder
        self.count = 0

    def try_out(self, patches: int) -> Trial:
        """Begin a training with so many patches at once on slices of a patch; 0: predict whole slices."""
        data, real = self.config.data, self.material.stack
        height, width = (data.patch_size, data.patch_size) if patches else (real.height, real.width)
        each = data.patch_depth if data.mode == "3d" else 1
        validated = each if patches else validated_planes(self.config, real)
        stack = real._replace(slices=each + validated, height=height, width=width, depth=each + validated)
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        images = _noise(folder, stack)
        labels = _drawn(folder, stack, 0 if self.config.model.learns_objects else self.material.classes)
        options = {
            "data.images": str(images),
            "data.labels": str(labels),
            "data.axes": "ZCYX",
            "data.pixel_size": _voxel_text(real),
            "data.validation_slices": f"{each}-{each + validated - 1}",
            "model.pretrained": "",  # memory does not depend on them, and nothing is fetched
            "data.patches_per_image": min(100, STEPS * max(1, patches)),
            "training.batch_size": 1 << (max(1, patches) - 1).bit_length(),
            "training.micro_batch": max(1, patches),
            "training.epochs": 1,
            "training.max_minutes": None,
            "training.start_from": None,
            "training.teacher": None,
            "training.continue_from": None,
            "training.feedback_region": None,
            "training.repeats": 1,
            "training.devices": 1,
            "training.num_nodes": 1,
        }
        config = self.config.model_copy(
            update={"data": DataConfig(**{name: getattr(data, name) for name in KEPT_OPTIONS})}
        )
        config = with_options(config, options)
        self.meter.restart()
        began, left = time.monotonic(), STEPS if patches else 0

        def asked() -> Request | None:
            nonlocal left
            left -= 1
            return Request.DISCARD if left < 0 else None

        # Even a training that is given up before its first step has predicted a validation slice.
        train(config, folder, asked=asked)
        return Trial(self.meter.read(), data_bytes(config, stack, self.meter.gpu), time.monotonic() - began)


def _voxel_text(stack: Stack) -> str | None:
    """Return the size of a voxel as an option: it decides how a 3d network shrinks the images."""
    if stack.voxel is None or not all(stack.voxel):
        return None
    return ",".join(f"{size:g}" for size in stack.voxel)


def _noise(folder: Path, stack: Stack) -> Path:
    """Write random images of a size, and of as many bytes a grey value."""
    rng = np.random.default_rng(0)
    shape = (stack.slices, stack.channels, stack.height, stack.width)
    kind = {1: np.uint8, 2: np.uint16}.get(stack.grey_bytes, np.float32)
    images = folder / "images.tif"
    tifffile.imwrite(images, rng.integers(0, 255, shape).astype(kind), photometric="minisblack")
    return images


def _drawn(folder: Path, stack: Stack, classes: int) -> Path:
    """Write random labels of a size; without classes squares with a number each, as objects are compact."""
    rng, sides = np.random.default_rng(1), (stack.height, stack.width)
    labels = folder / "labels.tif"
    if classes:
        drawn = rng.integers(0, classes, (stack.slices, *sides))
        drawn[:, 0, : min(classes, stack.width)] = np.arange(min(classes, stack.width))
    else:
        row, column = np.mgrid[: sides[0], : sides[1]]
        number = row // OBJECT * (sides[1] // OBJECT + 1) + column // OBJECT + 1
        gap = (row % OBJECT >= OBJECT - 4) | (column % OBJECT >= OBJECT - 4)
        drawn = np.repeat(np.where(gap, 0, number)[None], stack.slices, 0)
    tifffile.imwrite(labels, drawn.astype(np.uint16 if classes else np.uint32), photometric="minisblack")
    return labels


def main(words: list[str]) -> int:
    """Measure the configuration in the file `words[0]`; temporary files go to the folder `words[1]`."""
    if hasattr(os, "nice"):
        os.nice(10)  # whoever trains or looks at a page meanwhile comes first
    config, _ = read_config(Path(words[0]))
    try:
        need = dry_run(config, read_material(config), Path(words[1]))
    except SegcoreError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(need.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
