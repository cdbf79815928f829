"""Validation during training: the same predictor as in inference, so that both give the same numbers."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcore.data.neighbours import neighbours
from segcore.data.volumes import Pixels, Volume, class_indices
from segcore.errors import DataError
from segcore.memory import is_out_of_memory
from segcore.metrics.instances import USUAL, InstanceCounts, InstanceScores
from segcore.metrics.overlap import Confusion, Scores
from segcore.predictor import Predictor, most_probable
from segcore.tasks import Task
from segcore.tiling import Tile, align, tile_grid
from segcore.training.distributed import Team

BLOCK_VOXELS = 2**25
"""Larger slices and volumes are judged block by block: logits take 4 bytes per class and voxel."""


@dataclass(frozen=True)
class Verdict:
    """What a validation found."""

    loss: float
    """Mean over the slices or blocks in which something is annotated."""
    scores: Scores
    predicted_share: dict[str, float]
    """Share of the annotated pixels that were predicted as each class, keyed by label value."""
    objects: InstanceScores | None = None
    """Scores of objects, where they are learned."""

    @property
    def score(self) -> float:
        """What the best epoch is chosen by; 0 where no object is annotated or predicted."""
        if self.f1 is None:
            return self.scores.mean_dice
        return 0.0 if math.isnan(self.f1) else self.f1

    @property
    def ap50(self) -> float | None:
        """Average precision of objects at an IoU of 0.5."""
        return self.objects.average_precision[USUAL] if self.objects else None

    @property
    def f1(self) -> float | None:
        """F1 of objects at an IoU of 0.5."""
        return self.objects.f1[USUAL] if self.objects else None

    @property
    def pq(self) -> float | None:
        """Panoptic quality of objects."""
        return self.objects.panoptic_quality[USUAL] if self.objects else None


class Validator:
    """Scores the network on whole validation slices, in 3d on blocks of them; only annotated pixels count.

    A block, also one of a slice that is too large, is predicted with so much around it that the prediction is
    that of the whole. What nobody annotated costs nothing, unless the network sees it beside what somebody
    did.

    Parameters
    ----------
    predictor : Predictor
        Wraps the network that is being trained; its card says what the network sees.
    task : Task
        Gives the validation loss.
    volumes : sequence of Volume
        What is predicted.
    class_values : tuple of int
        Label value of every class index.
    team : Team, optional
        The processes that train together: every one predicts a share of the slices or blocks.

    Raises
    ------
    DataError
        Nothing is annotated.
    """

    def __init__(
        self,
        predictor: Predictor,
        task: Task,
        volumes: Sequence[Volume],
        class_values: tuple[int, ...],
        team: Team | None = None,
    ) -> None:
        self.predictor = predictor
        self.task = task
        self.scenes = [scene for volume in volumes for scene in _scenes(volume, predictor)]
        if not self.scenes:
            raise DataError(
                "No slice that validates is annotated.",
                "Annotate more slices, or choose others for validation.",
            )
        self.class_values = class_values
        self.team = team or Team()
        self.rounds = -(-len(self.scenes) // self.team.size)
        """How many scenes a process predicts at most."""
        self.seconds = 0.0
        """Duration of the last validation."""
        self.expected_seconds = 0.0
        """How long the next validation will take, as far as known."""
        self.megapixels = sum(scene.pixels for scene in self.scenes) / 1e6
        """What is judged, 10⁶ px (voxels)."""

    def warm_up(self) -> None:
        """Predict one scene: what cannot work fails here, not after the first epoch; gives the duration."""
        self.logits(self.scenes[0])  # the first pass also prepares the kernels
        began = time.monotonic()
        self.logits(self.scenes[0])
        expected = (time.monotonic() - began) * self.rounds
        self.expected_seconds = self.team.lead_numbers(lambda: (expected, 0.0))[0]

    def __call__(self, give_up: Callable[[], bool] = lambda: False) -> Verdict | None:
        """Return loss and scores over all annotated pixels.

        Parameters
        ----------
        give_up : callable
            Asked before every slice or block; True ends the validation without a result: None is returned.
        """
        began = time.monotonic()
        self.predictor.refresh()
        device = self.predictor.hardware.device
        counts, objects = Confusion(len(self.class_values), device), InstanceCounts()
        loss_S = torch.zeros(len(self.scenes), device=device)
        counted_S = torch.zeros(len(self.scenes), device=device)
        for number in range(self.team.rank, self.rounds * self.team.size, self.team.size):
            if give_up():
                return None
            if number >= len(self.scenes):
                continue  # others have one more
            scene = self.scenes[number]
            label = scene.label()
            if not (label >= 0).any():
                continue
            logits = scene.judged_part(self.logits(scene))
            target = torch.from_numpy(np.ascontiguousarray(label)).to(device).long()
            loss_S[number], counted_S[number] = self.task.judge(logits, target), 1
            if self.predictor.head is None:
                counts.update(most_probable(logits), target)
            else:
                found = self.predictor.objects(logits)
                objects.update(found, label)
                counts.update(torch.from_numpy(class_indices(found)).to(device), target.clamp(max=1))
        for part in (loss_S, counted_S, counts.counts_KK):
            self.team.add(part)
        scores = counts.scores(self.class_values)
        mean_loss = float(loss_S.cpu().double().sum() / counted_S.cpu().sum())  # MPS has no float64
        self.seconds = self.team.lead_numbers(lambda: (time.monotonic() - began, 0.0))[0]
        self.expected_seconds = max(self.seconds, 0.7 * self.expected_seconds)
        of_objects = None if self.predictor.head is None else self._of_all(objects).scores()
        return Verdict(mean_loss, scores, self._shares(counts), of_objects)

    def _of_all(self, counts: InstanceCounts) -> InstanceCounts:
        """Return the objects that all processes have counted together."""
        if self.team.size == 1:
            return counts
        numbers = torch.from_numpy(counts.numbers()).to(self.predictor.hardware.device)
        return InstanceCounts.of_numbers(self.team.add(numbers).cpu().numpy())

    @property
    def seconds_per_megapixel(self) -> float:
        """What predicting and judging 10⁶ px (voxels) took in the last validation, or is expected to take."""
        return (self.seconds or self.expected_seconds) / self.megapixels

    def logits(self, scene: Scene) -> Tensor:
        """Predict a scene; where memory runs out, in smaller and smaller tiles.

        The result is the same for a network that is local, and about the same for others.
        """
        image = scene.image()
        while True:
            side = self.predictor.tile_size or max(image.shape[-2:])
            try:
                return self.predictor.logits(image, normalization=scene.volume.normalization)
            except Exception as error:
                if not is_out_of_memory(error) or side <= self.predictor.network.divisor:
                    raise
            # Out of the handler, so that the error no longer holds the tensors of the attempt.
            self.predictor.tile_size = side // 2
            gc.collect()
            if self.predictor.hardware.device.type == "cuda":
                torch.cuda.empty_cache()

    def _shares(self, counts: Confusion) -> dict[str, float]:
        predicted_K = counts.counts_KK.sum(0).double()
        share_K = (predicted_K / predicted_K.sum().clamp(min=1)).tolist()
        return {str(value): share for value, share in zip(self.class_values, share_K, strict=True)}


@dataclass(frozen=True)
class Scene:
    """What is predicted at once: a slice, alone or with its neighbours, some slices, or a part of them."""

    volume: Volume
    seen: tuple[int, ...]
    """Slices that the network sees, in its order."""
    judged: tuple[int, ...]
    """Slices whose prediction counts."""
    solid: bool
    """Whether the slices are an axis of their own, as in 3d, and not channels."""
    tile: Tile
    """The rows and columns."""

    @property
    def pixels(self) -> int:
        """Px (voxels) whose prediction counts, annotated or not."""
        return len(self.judged) * math.prod(span.stop - span.start for span in self.tile.spans)

    def image(self) -> np.ndarray:
        """Return grey values `(C, Y, X)`, in 3d `(C, Z, Y, X)`; in 2.5d slice by slice."""
        image_ZCYX = _picked(self.volume.image_ZCYX, self.seen, (slice(None), *self.tile.read))
        if self.solid:
            return image_ZCYX.swapaxes(0, 1)
        return image_ZCYX.reshape(-1, *image_ZCYX.shape[2:])

    def label(self) -> np.ndarray:
        """Return labels `(Y, X)`, in 3d `(Z, Y, X)`."""
        label_ZYX = _picked(self.volume.label_ZYX, self.judged, self.tile.write)
        return label_ZYX if self.solid else label_ZYX[0]

    def judged_part(self, logits: Tensor) -> Tensor:
        """Return the logits of what counts."""
        if not self.solid:
            return logits[:, *self.tile.keep]
        start = self.judged[0] - self.seen[0]
        return logits[:, start : start + len(self.judged), *self.tile.keep]


def _scenes(volume: Volume, predictor: Predictor) -> list[Scene]:
    card, depth = predictor.card, volume.label_ZYX.shape[0]
    tiles = _tiles(volume.label_ZYX.shape[1:], predictor)
    if card.mode != "3d":
        slices, spacing = card.context_slices, card.context_spacing
        return [
            Scene(volume, neighbours(plane, depth, slices, spacing), (plane,), solid=False, tile=tile)
            for plane in volume.annotated
            for tile in tiles
        ]
    halo, step = predictor.network.receptive_radii[0], predictor.network.divisors[0]
    scenes = []
    for start, stop in _blocks(volume, halo):
        # What the network shrinks together is then what it shrinks together in the whole volume.
        low, high = max(0, start - halo) // step * step, min(depth, align(stop + halo, step))
        seen, judged = tuple(range(low, high)), tuple(range(start, stop))
        scenes += [Scene(volume, seen, judged, solid=True, tile=tile) for tile in tiles]
    return scenes


def _tiles(shape: tuple[int, ...], predictor: Predictor) -> list[Tile]:
    """Return the parts in which slices of these rows and columns are judged: one unless they are large."""
    network = predictor.network
    side = math.isqrt(BLOCK_VOXELS) if math.prod(shape) > BLOCK_VOXELS else max(shape)
    return tile_grid(shape, (side, side), network.receptive_radii[-2:], network.divisors[-2:])


def _blocks(volume: Volume, halo: int) -> list[tuple[int, int]]:
    """Return first and last annotated slice of blocks that fit into memory; divided where gaps are wide."""
    height, width = volume.label_ZYX.shape[1:]
    most = max(1, BLOCK_VOXELS // (height * width))
    blocks: list[tuple[int, int]] = []
    for plane in volume.annotated:
        if blocks and plane - blocks[-1][1] <= 2 * halo and plane - blocks[-1][0] < most:
            blocks[-1] = (blocks[-1][0], plane + 1)
        else:
            blocks.append((plane, plane + 1))
    return blocks


def _picked(pixels: Pixels, planes: tuple[int, ...], rest: tuple[slice, ...]) -> np.ndarray:
    """Return a part of some slices of an array, which are read from disk where it lies there."""
    if planes == tuple(range(planes[0], planes[-1] + 1)):
        return pixels[slice(planes[0], planes[-1] + 1), *rest]
    return np.concatenate([pixels[slice(plane, plane + 1), *rest] for plane in planes])
