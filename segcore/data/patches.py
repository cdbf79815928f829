"""The training pool: volumes from which patches are cut in whole batches, in memory or on disk.

A patch is read at computed points of each of its slices: in 3d too, geometry varies in the plane only, and
depth is read at whole slices, at most in reverse. Slices of a microscope lie further apart than pixels, and
interpolating between them would invent tissue; nnU-Net does the same ("dummy 2D" augmentation).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from segcore.card import Normalization
from segcore.data.gather import Points, Reader, label_storage, label_tensor
from segcore.data.sampling import PatchPlan, PatchSpot, Sampler
from segcore.data.volumes import Volume

READERS = 4
"""Threads that read windows from disk."""


class Patches(Protocol):
    """What training cuts its patches from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image of a patch: `(C, Y, X)`, in 3d `(C, Z, Y, X)`."""

    def __len__(self) -> int:
        """How many units an epoch has: slices, in 3d blocks of slices."""

    def draw(self, unit_B: Tensor, generator: torch.Generator) -> PatchSpot:
        """Draw a random position for a patch in each of the given units."""

    def cut(self, spot: PatchSpot, offset_BYX2: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a batch of patches; return images, normalised float32, and labels, int64."""


class PatchPool:
    """Images and labels of all training volumes, flat on one device, kept in the file's own 8 or 16 bits.

    Neighbouring slices are seen together in 2.5d and 3d, but kept once.

    Parameters
    ----------
    volumes : sequence of Volume
        At least one with an annotated slice. They may differ in size.
    normalization : Normalization
        Applied to every patch when it is cut, unless its volume has one of its own.
    device : torch.device
        Where the pool lives and patches are cut.
    plan : PatchPlan
        What a patch is.

    Raises
    ------
    DataError
        Nothing is annotated.
    """

    def __init__(
        self, volumes: Sequence[Volume], normalization: Normalization, device: torch.device, plan: PatchPlan
    ) -> None:
        self.sampler = Sampler(volumes, plan)
        self._reader = Reader(volumes, normalization, device, plan)
        sizes = [volume.label_ZYX.shape for volume in volumes]
        pixels = [depth * height * width for depth, height, width in sizes]
        starts = [0, *accumulate(pixels)]
        channels = self._reader.channels
        images = torch.empty(starts[-1] * channels, dtype=self._reader.kind)
        labels = torch.empty(starts[-1], dtype=label_storage(volumes))
        for number, volume in enumerate(volumes):
            area = sizes[number][1] * sizes[number][2]
            for plane in range(sizes[number][0]):
                first, here = starts[number] + plane * area, slice(plane, plane + 1)
                image_1CYX = volume.image_ZCYX[here, :, :, :]
                images[first * channels : (first + area) * channels] = self._reader.stored(
                    image_1CYX, number
                ).flatten()
                labels[first : first + area] = label_tensor(volume.label_ZYX[here, :, :]).flatten()
        self._memory = images.to(device), labels.to(device)
        self._size_V2 = torch.tensor([size[1:] for size in sizes], device=device)
        self._start_V = torch.tensor(starts[:-1], device=device)
        self._channel_C = torch.arange(channels, device=device)

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image of a patch: `(C, Y, X)`, in 3d `(C, Z, Y, X)`."""
        return self._reader.shape

    def draw(self, unit_B: Tensor, generator: torch.Generator) -> PatchSpot:
        """Draw a random position for a patch in each of the given units, see `Sampler`."""
        return self.sampler.draw(unit_B, generator)

    def cut(self, spot: PatchSpot, offset_BYX2: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a batch of patches.

        Image and label are read at exactly the same points: the image bilinearly, the label from the nearest
        pixel. Points outside the slice are mirrored at its border.

        Parameters
        ----------
        spot : PatchSpot
            Where the patches lie.
        offset_BYX2 : Tensor
            Row and column of every patch pixel relative to the centre, in pixels; float32 on the device.

        Returns
        -------
        image : Tensor
            Normalised float32: `(B, C, Y, X)`, in 3d `(B, C, Z, Y, X)`. In 2.5d all channels of the first
            slice come first, then those of the next.
        label : Tensor
            Class indices or numbers of objects, int64: `(B, Y, X)`, in 3d `(B, Z, Y, X)`.
        """
        reader = self._reader
        volume_B = spot.volume_B.to(reader.device)
        size_B2 = self._size_V2[volume_B]
        points = Points.around(spot.centre_B2.to(reader.device), offset_BYX2, size_B2)
        area_B1 = size_B2.prod(1)[:, None]
        slice_BP = self._start_V[volume_B][:, None] + spot.plane_BP.to(reader.device) * area_B1
        image_BPC = slice_BP[..., None] * reader.channels + self._channel_C * area_B1[..., None]
        starts = image_BPC, reader.label_planes(slice_BP)
        return reader.read(self._memory, points, size_B2[:, 1], starts, volume_B)


class DiskPool:
    """Volumes that stay where they are: of every patch only the window around it is read, by a few threads.

    They lie on disk, or in main memory where that of a GPU is too small for them.

    Draws and arithmetic are those of `PatchPool`, so the patches are the same to the bit. The memory it takes
    is that of the windows of a batch, and of the next one, which is made ahead (`segcore.training.ahead`).
    Parameters and errors as there.
    """

    def __init__(
        self, volumes: Sequence[Volume], normalization: Normalization, device: torch.device, plan: PatchPlan
    ) -> None:
        self.sampler = Sampler(volumes, plan)
        self._reader = Reader(volumes, normalization, device, plan)
        self._volumes = volumes
        self._size_V2 = torch.tensor([volume.label_ZYX.shape[1:] for volume in volumes], device=device)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="patches")

    def __len__(self) -> int:
        return len(self.sampler)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image of a patch: `(C, Y, X)`, in 3d `(C, Z, Y, X)`."""
        return self._reader.shape

    def draw(self, unit_B: Tensor, generator: torch.Generator) -> PatchSpot:
        """Draw a random position for a patch in each of the given units, see `Sampler`."""
        return self.sampler.draw(unit_B, generator)

    def cut(self, spot: PatchSpot, offset_BYX2: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a batch of patches, see `PatchPool.cut`.

        Raises
        ------
        DataError
            A file cannot be read.
        """
        reader = self._reader
        volume_B = spot.volume_B.to(reader.device)
        points = Points.around(spot.centre_B2.to(reader.device), offset_BYX2, self._size_V2[volume_B])
        bounds = points.bounds()
        label_BM = reader.label_planes(spot.plane_BP)
        windows = list(
            self._threads.map(
                self._window, spot.volume_B.tolist(), spot.plane_BP.tolist(), label_BM.tolist(), bounds
            )
        )
        images, labels, image_starts, label_starts = zip(*windows, strict=True)
        corner_B2 = torch.tensor([[bound[0], bound[2]] for bound in bounds], device=reader.device)
        width_B = torch.tensor([bound[3] - bound[2] + 1 for bound in bounds], device=reader.device)
        return reader.read(
            (torch.cat(images).to(reader.device), torch.cat(labels).to(reader.device)),
            points.from_corner(corner_B2),
            width_B,
            (
                _behind(images, image_starts).to(reader.device),
                _behind(labels, label_starts).to(reader.device),
            ),
            volume_B,
        )

    def _window(
        self, number: int, image_planes: list[int], label_planes: list[int], bound: list[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Read part of some slices: grey values and labels, flat, and where each slice begins in them."""
        volume = self._volumes[number]
        rows, columns = slice(bound[0], bound[1] + 1), slice(bound[2], bound[3] + 1)
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        image_ZCYX = np.concatenate(
            [volume.image_ZCYX[planes, :, rows, columns] for planes in _runs(image_planes)]
        )
        label_ZYX = np.concatenate(
            [volume.label_ZYX[planes, rows, columns] for planes in _runs(label_planes)]
        )
        layer_PC = _ranks(image_planes)[:, None] * self._reader.channels + torch.arange(self._reader.channels)
        return (
            self._reader.stored(image_ZCYX, number).flatten(),
            label_tensor(label_ZYX).flatten(),
            layer_PC * area,
            _ranks(label_planes) * area,
        )


def _runs(planes: list[int]) -> list[slice]:
    """Return the slices of a volume that are asked for, ascending, as few pieces as possible."""
    runs: list[slice] = []
    for plane in sorted(set(planes)):
        if runs and runs[-1].stop == plane:
            runs[-1] = slice(runs[-1].start, plane + 1)
        else:
            runs.append(slice(plane, plane + 1))
    return runs


def _ranks(planes: list[int]) -> Tensor:
    """Return where each slice stands among those that were read."""
    rank = {plane: number for number, plane in enumerate(sorted(set(planes)))}
    return torch.tensor([rank[plane] for plane in planes])


def _behind(parts: Sequence[Tensor], starts: Sequence[Tensor]) -> Tensor:
    """Return where slices begin once the parts stand one behind the other."""
    begins = [0, *accumulate(len(part) for part in parts)]
    return torch.stack([start + begin for start, begin in zip(starts, begins, strict=False)])
