"""The training pool: all annotated regions on the device, from which patches are cut in whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcore.card import Normalization

SIGNED_SHIFT = 32768
"""uint16 has few torch kernels, so it is kept as int16 shifted by this; the normalisation takes it back."""


@dataclass(frozen=True)
class PatchSpot:
    """Where a batch of patches lies: one entry per patch, centres in pixels of their region."""

    region_B: Tensor
    centre_B2: Tensor
    """Row and column of the patch centre; half-integers for even patch sizes."""


class PatchPool:
    """Images and labels of all training regions, flat on one device, kept in the file's own 8 or 16 bits.

    Parameters
    ----------
    pairs : iterable of (ndarray, ndarray)
        For every region the image `(C, Y, X)` in the file's grey values and the class indices `(Y, X)`,
        `IGNORE` where nobody annotated. Regions may differ in size.
    normalization : Normalization
        Applied to every patch when it is cut.
    device : torch.device
        Where the pool lives and patches are cut.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[np.ndarray, np.ndarray]],
        normalization: Normalization,
        device: torch.device,
    ) -> None:
        images, labels, sizes = [], [], []
        for image_CYX, label_YX in pairs:
            images.append(_storable(image_CYX, normalization))
            labels.append(torch.from_numpy(np.ascontiguousarray(label_YX, dtype=np.int16)))
            sizes.append(label_YX.shape)
        self.channels = images[0].shape[0]
        self._size_R2 = torch.tensor(
            sizes
        )  # stays on the host: drawing positions must not wait for the device
        self.size_R2 = self._size_R2.to(device)
        areas = self.size_R2.prod(1)
        self.start_R = areas.cumsum(0) - areas
        self.images = torch.cat([image.flatten() for image in images]).to(device)
        self.labels = torch.cat([label.flatten() for label in labels]).to(device)
        shift = SIGNED_SHIFT if self.images.dtype == torch.int16 else 0
        self._offset = torch.tensor(normalization.offset, device=device).view(1, -1, 1, 1) - shift
        self._scale = torch.tensor(normalization.scale, device=device).view(1, -1, 1, 1)
        self._clip = normalization.clip
        self.device = device

    def __len__(self) -> int:
        return len(self._size_R2)

    def draw(self, region_B: Tensor, size: int, generator: torch.Generator) -> PatchSpot:
        """Draw a uniformly random position for a patch of `size` px in each of the given regions.

        Every position that lies inside the region is equally likely, the last one included. In a region
        smaller than the patch, the patch is centred and the rest mirrored.
        """
        free_B2 = (self._size_R2[region_B] - size).clamp(min=0)
        corner_B2 = (
            (torch.rand(len(region_B), 2, generator=generator) * (free_B2 + 1)).floor().minimum(free_B2)
        )
        short_B2 = (self._size_R2[region_B] - size).clamp(max=0) // 2
        return PatchSpot(region_B, corner_B2 + short_B2 + (size - 1) / 2)

    def cut(self, spot: PatchSpot, offset_BYX2: Tensor) -> tuple[Tensor, Tensor]:
        """Cut a batch of patches.

        Image and label are read at exactly the same points: the image bilinearly, the label from the nearest
        pixel. Points outside the region are mirrored at its border.

        Parameters
        ----------
        spot : PatchSpot
            Where the patches lie.
        offset_BYX2 : Tensor
            Row and column of every patch pixel relative to the centre, in pixels; float32 on the device.

        Returns
        -------
        image_BCYX : Tensor
            Normalised float32.
        label_BYX : Tensor
            Class indices, int64.
        """
        region_B = spot.region_B.to(self.device)
        size_B112 = self.size_R2[region_B][:, None, None, :]
        start_B11 = self.start_R[region_B][:, None, None]
        width_B11, area_B11 = size_B112[..., 1], size_B112.prod(-1)
        point_BYX2 = spot.centre_B2.to(self.device)[:, None, None, :] + offset_BYX2
        low_BYX2 = point_BYX2.floor()
        part_BYX2 = point_BYX2 - low_BYX2
        low_BYX2 = low_BYX2.long()
        row0, column0 = _mirror(low_BYX2, size_B112).unbind(-1)
        row1, column1 = _mirror(low_BYX2 + 1, size_B112).unbind(-1)
        # A point halfway between pixels takes the lower one, for rows and columns alike.
        near_row = torch.where(part_BYX2[..., 0] > 0.5, row1, row0)
        near_column = torch.where(part_BYX2[..., 1] > 0.5, column1, column0)
        label_BYX = self.labels[start_B11 + near_row * width_B11 + near_column].long()

        first_B11 = start_B11 * self.channels
        part_row, part_column = part_BYX2.unbind(-1)
        row0, row1 = first_B11 + row0 * width_B11, first_B11 + row1 * width_B11
        channels = []
        for channel in range(self.channels):
            plane = channel * area_B11
            top = torch.lerp(
                self._grey(plane + row0 + column0), self._grey(plane + row0 + column1), part_column
            )
            bottom = torch.lerp(
                self._grey(plane + row1 + column0), self._grey(plane + row1 + column1), part_column
            )
            channels.append(torch.lerp(top, bottom, part_row))
        return self._normalize(torch.stack(channels, 1)), label_BYX

    def _grey(self, index: Tensor) -> Tensor:
        return self.images[index].float()

    def _normalize(self, image_BCYX: Tensor) -> Tensor:
        image_BCYX = (image_BCYX - self._offset) / self._scale
        return image_BCYX.clamp(*self._clip) if self._clip else image_BCYX


def epoch_regions(regions: int, patches_per_region: int, generator: torch.Generator) -> Tensor:
    """Return the region of every patch of an epoch: each region equally often, in random order."""
    return torch.randperm(regions * patches_per_region, generator=generator) % regions


def batches(region_N: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Split an epoch into batches; a short rest is filled up from the start, so that every batch is full."""
    missing = -len(region_N) % batch_size
    filled = (
        torch.cat([region_N, region_N.repeat(1 + missing // len(region_N))[:missing]])
        if missing
        else region_N
    )
    yield from filled.split(batch_size)


def _storable(image: np.ndarray, normalization: Normalization) -> Tensor:
    if image.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(image))
    if image.dtype == np.uint16:
        # Toggling the top bit subtracts 32768 in two's complement, without a wider copy.
        return torch.from_numpy(np.ascontiguousarray(image ^ np.uint16(SIGNED_SHIFT)).view(np.int16))
    grey = np.array(image, dtype=np.float32, order="C")
    if not np.isfinite(grey).all():
        # One NaN would turn every weight of the network into NaN: as in inference it becomes the middle of
        # the range, and an infinity its end. Interpolation could not do this later.
        low, high = normalization.clip or (0.0, 0.0)
        for plane, offset, scale in zip(grey, normalization.offset, normalization.scale, strict=True):
            ends = (offset + low * scale, offset + high * scale)
            np.nan_to_num(plane, copy=False, nan=offset, neginf=ends[0], posinf=ends[1])
    return torch.from_numpy(grey)


def _mirror(index: Tensor, size: Tensor) -> Tensor:
    """Reflect indices outside 0 … size-1 at the outermost pixels (which are not repeated)."""
    period = (2 * size - 2).clamp(min=1)
    index = index.remainder(period)
    return torch.minimum(index, period - index).minimum(size - 1)
