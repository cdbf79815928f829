"""Validation during training: the same predictor as in inference, so that both give the same numbers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcore.data.dataset import Pair
from segcore.memory import is_out_of_memory
from segcore.metrics.overlap import Confusion, Scores
from segcore.predictor import Predictor
from segcore.tasks import Task


@dataclass(frozen=True)
class Verdict:
    """What a validation found."""

    loss: float
    """Mean over the regions."""
    scores: Scores
    predicted_share: dict[str, float]
    """Share of the annotated pixels that were predicted as each class, keyed by label value."""


class Validator:
    """Scores the network on whole validation regions.

    Parameters
    ----------
    predictor : Predictor
        Wraps the network that is being trained.
    task : Task
        Gives the validation loss.
    pairs : list of Pair
        Validation regions.
    class_values : tuple of int
        Label value of every class index.
    """

    def __init__(
        self, predictor: Predictor, task: Task, pairs: list[Pair], class_values: tuple[int, ...]
    ) -> None:
        self.predictor = predictor
        self.task = task
        self.pairs = pairs
        self.class_values = class_values
        self.seconds = 0.0
        """Duration of the last validation."""
        self.expected_seconds = 0.0
        """How long the next validation will take, as far as known."""

    def warm_up(self) -> None:
        """Predict one region: what cannot work fails here, not after the first epoch; gives the duration."""
        self.predictor.logits(self.pairs[0][0])  # the first pass also prepares the kernels
        began = time.monotonic()
        self.predictor.logits(self.pairs[0][0])
        self.expected_seconds = (time.monotonic() - began) * len(self.pairs)

    def __call__(self, give_up: Callable[[], bool] = lambda: False) -> Verdict | None:
        """Return loss and scores over all pixels of the regions.

        Parameters
        ----------
        give_up : callable
            Asked before every region; True ends the validation without a result: None is returned.
        """
        began = time.monotonic()
        device = self.predictor.hardware.device
        counts = Confusion(len(self.class_values), device)
        loss = torch.zeros((), device=device)
        for image_CYX, label_YX in self.pairs:
            if give_up():
                return None
            logits_KYX = self._logits(image_CYX)
            target_YX = torch.from_numpy(label_YX).to(device).long()
            loss += self.task.judge(logits_KYX, target_YX)
            counts.update(logits_KYX.argmax(0), target_YX)
        scores = counts.scores(self.class_values)
        mean_loss = float(loss) / len(self.pairs)
        self.seconds = time.monotonic() - began
        self.expected_seconds = max(self.seconds, 0.7 * self.expected_seconds)
        return Verdict(mean_loss, scores, self._shares(counts))

    def _logits(self, image_CYX: np.ndarray) -> Tensor:
        """Predict a region; where memory runs out, in smaller and smaller tiles: the result is the same."""
        while True:
            side = self.predictor.tile_size or max(image_CYX.shape[-2:])
            try:
                return self.predictor.logits(image_CYX)
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
