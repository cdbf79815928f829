"""Gather: how grey values and labels lie in memory, and how patches are read there at computed points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.card import Normalization
from segcore.data.sampling import PatchPlan
from segcore.data.volumes import CLASSES, OBJECTS, Volume

SIGNED_SHIFT = 32768
"""uint16 has few torch kernels, so it is kept as int16 shifted by this; the normalisation takes it back."""


@dataclass(frozen=True)
class Points:
    """Where patches are read in their slices: rows and columns of four pixels and the shares between them."""

    row0: Tensor
    row1: Tensor
    column0: Tensor
    column1: Tensor
    part_row: Tensor
    part_column: Tensor

    @classmethod
    def around(cls, centre_B2: Tensor, offset_BYX2: Tensor, size_B2: Tensor) -> Points:
        """Return the points `offset_BYX2` px from the centres, mirrored at the borders of their slices."""
        rows, columns = (
            _line(centre_B2[:, axis], offset_BYX2[..., axis], size_B2[:, axis]) for axis in (0, 1)
        )
        return cls(rows[0], rows[1], columns[0], columns[1], rows[2], columns[2])

    def bounds(self) -> list[list[int]]:
        """Return first row, last row, first column and last column of every patch; waits for the device."""
        low = [torch.minimum(self.row0, self.row1), torch.minimum(self.column0, self.column1)]
        high = [torch.maximum(self.row0, self.row1), torch.maximum(self.column0, self.column1)]
        ends = [
            end
            for lowest, highest in zip(low, high, strict=True)
            for end in (lowest.amin((1, 2)), highest.amax((1, 2)))
        ]
        return torch.stack(ends, 1).tolist()

    def from_corner(self, corner_B2: Tensor) -> Points:
        """Return the same points counted from the first row and column of a window."""
        row, column = (corner_B2[:, axis, None, None] for axis in (0, 1))
        return Points(
            self.row0 - row,
            self.row1 - row,
            self.column0 - column,
            self.column1 - column,
            self.part_row,
            self.part_column,
        )


class Reader:
    """How grey values and labels lie in memory, and how patches are read from there."""

    def __init__(
        self, volumes: Sequence[Volume], normalization: Normalization, device: torch.device, plan: PatchPlan
    ) -> None:
        self.device, self.plan = device, plan
        self.channels = int(volumes[0].image_ZCYX.shape[1])
        self.kind = _storage({volume.image_ZCYX.dtype for volume in volumes})
        self.each = [volume.normalization or normalization for volume in volumes]
        differ = any(volume.normalization for volume in volumes)
        used = self.each if differ else [normalization]
        shift = SIGNED_SHIFT if self.kind is torch.int16 else 0
        self._offset_VC = torch.tensor([each.offset for each in used], device=device) - shift
        self._scale_VC = torch.tensor([each.scale for each in used], device=device)
        self._clip = normalization.clip

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image of a patch: `(C, Y, X)`, in 3d `(C, Z, Y, X)`."""
        side, plan = self.plan.size, self.plan
        if plan.mode == "3d":
            return (self.channels, plan.depth, side, side)
        return (self.channels * plan.slices, side, side)

    def stored(self, image: np.ndarray, volume: int) -> Tensor:
        """Return grey values `(Z, C, Y, X)` as they are kept."""
        return _storable(image, self.kind, self.each[volume])

    def label_planes(self, plane_BP: Tensor) -> Tensor:
        """Return the slices of a patch whose labels are asked for: in 2.5d the middle one."""
        middle = self.plan.slices // 2
        return plane_BP if self.plan.mode == "3d" else plane_BP[:, middle : middle + 1]

    def read(
        self,
        memory: tuple[Tensor, Tensor],
        points: Points,
        width_B: Tensor,
        starts: tuple[Tensor, Tensor],
        volume_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Read patches.

        Parameters
        ----------
        memory : tuple of Tensor
            All images and all labels, flat.
        points : Points
            Where in the slices.
        width_B : Tensor
            Length of a row.
        starts : tuple of Tensor
            Where the image slices `(B, P, C)` and the label slices `(B, M)` begin.
        volume_B : Tensor
            Volume of each patch.
        """
        images, labels = memory
        # Indices of 32 bits where they suffice: several times as fast on a CPU as those of 64.
        kind = torch.int32 if max(images.numel(), labels.numel()) < 2**31 else torch.int64
        image_BPC, label_BM = (start.to(kind) for start in starts)
        width_B11 = width_B.to(kind)[:, None, None]
        row0, row1 = points.row0 * width_B11, points.row1 * width_B11
        # A point halfway between pixels takes the lower one, for rows and columns alike.
        near = row0 + (points.part_row > 0.5).to(kind) * (row1 - row0)
        near += points.column0
        near += (points.part_column > 0.5).to(kind) * (points.column1 - points.column0)
        label_BMYX = torch.stack(
            [_taken(labels, near + start_B[:, None, None]) for start_B in label_BM.unbind(1)], 1
        ).long()

        corners = [row + column for row in (row0, row1) for column in (points.column0, points.column1)]
        solid = self.plan.mode == "3d"
        order_BL = (image_BPC.transpose(1, 2) if solid else image_BPC).flatten(1)
        layers = []
        for start_B in order_BL.unbind(1):
            greys = [_taken(images, corner + start_B[:, None, None]).float() for corner in corners]
            top = torch.lerp(greys[0], greys[1], points.part_column)
            bottom = torch.lerp(greys[2], greys[3], points.part_column)
            layers.append(torch.lerp(top, bottom, points.part_row))
        image_BLYX = self._normalize(torch.stack(layers, 1), volume_B)
        if not solid:
            return image_BLYX, label_BMYX[:, 0]
        return image_BLYX.unflatten(1, (self.channels, self.plan.depth)), label_BMYX

    def _normalize(self, image_BLYX: Tensor, volume_B: Tensor) -> Tensor:
        one = len(self._offset_VC) == 1
        offset_BC, scale_BC = (
            table if one else table[volume_B] for table in (self._offset_VC, self._scale_VC)
        )
        times = image_BLYX.shape[1] // self.channels
        if times > 1:
            offset_BC, scale_BC = (self._spread(table, times) for table in (offset_BC, scale_BC))
        image_BLYX = (image_BLYX - offset_BC[:, :, None, None]) / scale_BC[:, :, None, None]
        return image_BLYX.clamp(*self._clip) if self._clip else image_BLYX

    def _spread(self, table_BC: Tensor, times: int) -> Tensor:
        """Repeat for all layers: they follow each other channel by channel in 3d, slice by slice in 2.5d."""
        return table_BC.repeat_interleave(times, 1) if self.plan.mode == "3d" else table_BC.repeat(1, times)


def label_storage(volumes: Sequence[Volume]) -> torch.dtype:
    """Return the type that keeps the labels of all volumes: int16, for numbers of objects int32."""
    objects = any(volume.label_ZYX.dtype == OBJECTS for volume in volumes)
    return torch.int32 if objects else torch.int16


def label_tensor(label: np.ndarray) -> Tensor:
    """Return labels as they are kept."""
    kind = OBJECTS if label.dtype == OBJECTS else CLASSES
    return torch.from_numpy(np.ascontiguousarray(label, dtype=kind))


def _storage(dtypes: set[np.dtype[Any]]) -> torch.dtype:
    """Return the smallest type that keeps the grey values of all volumes."""
    if dtypes == {np.dtype(np.uint8)}:
        return torch.uint8
    return torch.int16 if dtypes <= {np.dtype(np.uint8), np.dtype(np.uint16)} else torch.float32


def _storable(image_ZCYX: np.ndarray, kind: torch.dtype, normalization: Normalization) -> Tensor:
    if kind is torch.uint8:
        return torch.from_numpy(np.ascontiguousarray(image_ZCYX))
    if kind is torch.int16:
        # Toggling the top bit subtracts 32768 in two's complement, without a wider copy.
        toggled = image_ZCYX.astype(np.uint16, copy=False) ^ np.uint16(SIGNED_SHIFT)
        return torch.from_numpy(np.ascontiguousarray(toggled).view(np.int16))
    grey = np.array(image_ZCYX, dtype=np.float32, order="C")
    if not np.isfinite(grey).all():
        # One NaN would turn every weight of the network into NaN: as in inference it becomes the middle of
        # the range, and an infinity its end. Interpolation could not do this later.
        low, high = normalization.clip or (0.0, 0.0)
        for channel, (offset, scale) in enumerate(
            zip(normalization.offset, normalization.scale, strict=True)
        ):
            ends = (offset + low * scale, offset + high * scale)
            plane = grey[:, channel]
            np.nan_to_num(plane, copy=False, nan=offset, neginf=ends[0], posinf=ends[1])
    return torch.from_numpy(grey)


def _taken(memory: Tensor, index: Tensor) -> Tensor:
    """Return the numbers at flat places; quicker than indexing, which checks every place for its sign."""
    return memory.index_select(0, index.flatten()).view(index.shape)


def _line(centre_B: Tensor, offset_BYX: Tensor, size_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return along one axis the pixels before and behind every point and the share of the latter."""
    point_BYX = centre_B[:, None, None] + offset_BYX
    low_BYX = point_BYX.floor()
    first_BYX, size_B11 = low_BYX.int(), size_B.int()[:, None, None]
    return _mirror(first_BYX, size_B11), _mirror(first_BYX + 1, size_B11), point_BYX - low_BYX


def _mirror(index: Tensor, size: Tensor) -> Tensor:
    """Reflect indices outside 0 … size-1 at the outermost pixels (which are not repeated)."""
    if index.device.type == "cpu" and _reflected_once(index, size):
        # Divisions of whole numbers take most of the time of a patch, and are rarely needed.
        index = index.abs()
        return torch.minimum(index, 2 * size - 2 - index)
    period = (2 * size - 2).clamp(min=1)
    index = index.remainder(period)
    return torch.minimum(index, period - index).minimum(size - 1)


def _reflected_once(index: Tensor, size: Tensor) -> bool:
    """Say whether no index lies further outside than the size; waits for the device."""
    low_B, high_B = index.flatten(1).aminmax(dim=1)
    size_B = size.flatten()
    return bool((low_B > -size_B).all() and (high_B < 2 * size_B - 1).all())
