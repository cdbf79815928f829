"""Where patches lie: drawn at random, and where slices are sparsely annotated, around their annotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from segcore.config import DataConfig, Mode
from segcore.data.neighbours import mirrored, neighbours
from segcore.data.volumes import SPARSE, Volume
from segcore.errors import DataError


@dataclass(frozen=True)
class PatchPlan:
    """What a patch is.

    Parameters
    ----------
    size : int
        Rows and columns.
    mode : str
        Dimensions of the network.
    slices, spacing : int
        Slices seen together in 2.5d, and their distance.
    depth : int
        Slices of a patch in 3d.
    foreground : float
        Share of the patches that are centred on a pixel of a class other than the most frequent one.
    """

    size: int = 64
    mode: Mode = "2d"
    slices: int = 1
    spacing: int = 1
    depth: int = 1
    foreground: float = 0.0

    @classmethod
    def of(cls, data: DataConfig) -> PatchPlan:
        """Return the plan of a configuration."""
        return cls(
            size=data.patch_size,
            mode=data.mode,
            slices=data.context_slices if data.mode == "2.5d" else 1,
            spacing=data.context_spacing,
            depth=data.patch_depth if data.mode == "3d" else 1,
            foreground=data.foreground_patches,
        )


@dataclass(frozen=True)
class PatchSpot:
    """Where a batch of patches lies: one entry per patch, centres in pixels of their volume."""

    volume_B: Tensor
    plane_BP: Tensor
    """Slices of the volume that are read, in the order in which the network sees them."""
    centre_B2: Tensor
    """Row and column of the patch centre; half-integers for even patch sizes."""

    def turned(self, reversed_B: Tensor) -> PatchSpot:
        """Return the same patches with the order of the slices reversed where `reversed_B` says so."""
        return replace(self, plane_BP=torch.where(reversed_B[:, None], self.plane_BP.flip(1), self.plane_BP))


@dataclass(frozen=True)
class _Unit:
    """What is shown equally often in an epoch: a slice, or in 3d as many slices as a patch is deep."""

    volume: int
    slices: tuple[int, ...]
    sparse: bool


class Sampler:
    """Draws positions of patches.

    In a slice of which at least half is annotated every position is equally likely. In a sparse one the patch
    lies around a random annotated pixel, at most a quarter of its side off the centre, so that the pixel
    stays in it whatever rotation and scale do. Pixels without annotation have no say in where patches lie.

    Parameters
    ----------
    volumes : sequence of Volume
        What patches are cut from; only annotated slices count.
    plan : PatchPlan
        What a patch is.

    Raises
    ------
    DataError
        Nothing is annotated.
    """

    def __init__(self, volumes: Sequence[Volume], plan: PatchPlan) -> None:
        self.plan = plan
        self._volumes = volumes
        self._units = [unit for number, volume in enumerate(volumes) for unit in _units(number, volume, plan)]
        if not self._units:
            raise DataError(
                "No slice that trains is annotated.", "Annotate more slices, or choose others for validation."
            )
        self._volume_U = torch.tensor([unit.volume for unit in self._units])
        self._size_U2 = torch.tensor([volumes[unit.volume].label_ZYX.shape[1:] for unit in self._units])
        counts_K = sum(volume.counts_ZK.sum(0) for volume in volumes)
        self._frequent = int(np.argmax(counts_K))
        self._aims = plan.foreground > 0 or any(unit.sparse for unit in self._units)
        if plan.mode != "3d":
            self._plane_UP = torch.tensor([self._seen(unit) for unit in self._units])

    def __len__(self) -> int:
        return len(self._units)

    def draw(self, unit_B: Tensor, generator: torch.Generator) -> PatchSpot:
        """Draw a random position for a patch in each of the given units.

        In a slice smaller than the patch, the patch is centred and the rest mirrored.
        """
        size, count = self.plan.size, len(unit_B)
        free_B2 = (self._size_U2[unit_B] - size).clamp(min=0)
        share_B2 = torch.rand(count, 2, generator=generator)
        corner_B2 = (share_B2 * (free_B2 + 1)).floor().minimum(free_B2)
        depth_B2 = torch.rand(count, 2, generator=generator) if self.plan.mode == "3d" else None
        aimed: list[int | None] = [None] * count
        if self._aims:
            chance_B4 = torch.rand(count, 4, generator=generator)
            for index, chance in enumerate(chance_B4.tolist()):
                found = self._aim(self._units[int(unit_B[index])], chance, share_B2[index])
                if found is not None:
                    aimed[index] = found[0]
                    corner_B2[index] = (found[1] - size // 2).clamp(min=0).minimum(free_B2[index])
        if depth_B2 is None:
            plane_BP = self._plane_UP[unit_B]
        else:
            drawn = zip(unit_B.tolist(), depth_B2.tolist(), aimed, strict=True)
            plane_BP = torch.tensor(
                [self._block(self._units[unit], chance, at) for unit, chance, at in drawn]
            )
        short_B2 = (self._size_U2[unit_B] - size).clamp(max=0) // 2
        return PatchSpot(self._volume_U[unit_B], plane_BP, corner_B2 + short_B2 + (size - 1) / 2)

    def _aim(self, unit: _Unit, chance: list[float], share_2: Tensor) -> tuple[int, Tensor] | None:
        """Return slice, row and column around which a patch lies; None if it may lie anywhere."""
        volume = self._volumes[unit.volume]
        if chance[0] < self.plan.foreground:
            rare = sorted({k for z in unit.slices for k in self._classes(volume, z) if k != self._frequent})
            if rare:
                index = rare[int(chance[1] * len(rare))]
                there = [z for z in unit.slices if (z, index) in volume.anchors]
                at = there[int(chance[2] * len(there))]
                return at, _pick(volume.anchors[at, index], chance[3])
        if not unit.sparse:
            return None
        places = [(z, k) for z in unit.slices for k in self._classes(volume, z)]
        pixels = np.cumsum([volume.counts_ZK[place] for place in places])
        place = places[int(np.searchsorted(pixels, chance[2] * pixels[-1], side="right"))]
        reach = self.plan.size // 4
        jitter_2 = (share_2 * (2 * reach + 1)).floor() - reach
        return place[0], _pick(volume.anchors[place], chance[3]) + jitter_2

    def _classes(self, volume: Volume, plane: int) -> list[int]:
        return [k for k in np.flatnonzero(volume.counts_ZK[plane]).tolist() if (plane, k) in volume.anchors]

    def _seen(self, unit: _Unit) -> tuple[int, ...]:
        depth = len(self._volumes[unit.volume].counts_ZK)
        return neighbours(unit.slices[0], depth, self.plan.slices, self.plan.spacing)

    def _block(self, unit: _Unit, chance: list[float], at: int | None) -> list[int]:
        """Return the slices of a patch in 3d, among them `at`; mirrored where the volume is too shallow."""
        volume, depth = self._volumes[unit.volume], self.plan.depth
        count = len(volume.counts_ZK)
        low, high = 0, count - depth
        if high < 0:
            low = high = high // 2
        elif at is not None or len(volume.annotated) < count:
            at = unit.slices[int(chance[1] * len(unit.slices))] if at is None else at
            low, high = max(0, at - depth + 1), min(at, high)
        start = low + min(int(chance[0] * (high - low + 1)), high - low)
        return [mirrored(plane, count) for plane in range(start, start + depth)]


def epoch_units(units: int, patches_per_unit: int, generator: torch.Generator) -> Tensor:
    """Return the unit of every patch of an epoch: each unit equally often, in random order."""
    return torch.randperm(units * patches_per_unit, generator=generator) % units


def batches(unit_N: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Split an epoch into batches; a short rest is filled up from the start, so that every batch is full."""
    missing = -len(unit_N) % batch_size
    filled = torch.cat([unit_N, unit_N.repeat(1 + missing // len(unit_N))[:missing]]) if missing else unit_N
    yield from filled.split(batch_size)


def _units(number: int, volume: Volume, plan: PatchPlan) -> Iterator[_Unit]:
    annotated = volume.annotated
    if plan.mode == "3d":
        # A rest of slices is divided among the blocks.
        count = min(len(annotated), max(1, len(annotated) // plan.depth))
        parts = [tuple(part.tolist()) for part in np.array_split(annotated, count)] if count else []
    else:
        parts = [(plane,) for plane in annotated]
    for slices in parts:
        pixels = len(slices) * volume.label_ZYX.shape[1] * volume.label_ZYX.shape[2]
        share = volume.counts_ZK[list(slices)].sum() / pixels
        known = any(
            (plane, k) in volume.anchors for plane in slices for k in range(volume.counts_ZK.shape[1])
        )
        yield _Unit(number, slices, sparse=bool(share < SPARSE) and known)


def _pick(pixel_N2: np.ndarray, chance: float) -> Tensor:
    return torch.tensor(pixel_N2[int(chance * len(pixel_N2))].tolist(), dtype=torch.float32)
