"""Validation during training: the same predictor as in inference, so that both give the same numbers."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from segcore.data.dataset import Pair
from segcore.metrics.overlap import Confusion, Scores
from segcore.predictor import Predictor
from segcore.tasks import Task


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

    def __call__(self, give_up: Callable[[], bool] = lambda: False) -> tuple[float, Scores] | None:
        """Return the mean loss over the regions and the scores over all their pixels.

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
            logits_KYX = self.predictor.logits(image_CYX)
            target_YX = torch.from_numpy(label_YX).to(device).long()
            loss += self.task.judge(logits_KYX, target_YX)
            counts.update(logits_KYX.argmax(0), target_YX)
        scores = counts.scores(self.class_values)
        mean_loss = float(loss) / len(self.pairs)
        self.seconds = time.monotonic() - began
        self.expected_seconds = max(self.seconds, 0.7 * self.expected_seconds)
        return mean_loss, scores
