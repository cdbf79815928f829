"""A trained model as the options apply it: how images are opened and predicted, in whatever process."""

from __future__ import annotations

from dataclasses import dataclass

from segcore.card import Normalization
from segcore.config import RunConfig
from segcore.data.items import Item
from segcore.data.opening import open_item
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.models.saved import LoadedModel
from segcore.prediction import Division, Prediction
from segcore.predictor import Predictor
from segcore.rescale import SAME, Factors, scale_factors

COLOURS = 3
"""Channels of a colour image; a model trained on some reads grey images as three equal channels."""


@dataclass(frozen=True)
class Applied:
    """What decides how images are predicted.

    Parameters
    ----------
    config : RunConfig
        Options of data and inference.
    model : LoadedModel
        The model.
    predictor : Predictor
        Applies its network; see `segcore.ensemble.build_predictor`.
    """

    config: RunConfig
    model: LoadedModel
    predictor: Predictor

    def open(self, item: Item) -> Planes:
        """Open an image as the model wants it."""
        data, channels = self.config.data, self.model.card.channels
        repeat = channels if channels == COLOURS else 0
        return open_item(item, data, parse_recipe(data.recipe), repeat=repeat).images

    def factors(self, images: Planes) -> Factors:
        """Return the factors from the grid of an image to that of the network."""
        if not self.config.inference.rescale:
            return SAME
        return scale_factors(images.source.pixel_size, self.model.card)

    def predict(
        self, images: Planes, division: Division, normalization: Normalization | None = None
    ) -> Prediction:
        """Return the prediction of an image as it was divided."""
        return Prediction(self.predictor, images, self.factors(images), division, normalization)
