"""Losses of pixel classification: from logits, in float32, blind to pixels nobody annotated."""

from segcore.losses.build import LOSSES, Loss, build_loss
from segcore.losses.counting import Total, WeightedLoss, alone

__all__ = ["LOSSES", "Loss", "Total", "WeightedLoss", "alone", "build_loss"]
