"""The code file of a logged model: MLflow runs it to load the model, so that nothing has to be unpickled.

It is copied beside the weights and run from there, hence it sets its model at import; we never import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.models
import numpy as np
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from segcore.errors import DataError

if TYPE_CHECKING:
    from segcore.card import ModelCard
    from segcore.predictor import Predictor


class SegcoreModel(PythonModel):
    """Grey values in, label values out; `predict` takes the planes of one image."""

    _card: ModelCard
    _predictor: Predictor

    def load_context(self, context: PythonModelContext) -> None:
        """Rebuild the network from `weights` (a state dict) and `config` (config.json)."""
        from segcore.config import HardwareConfig
        from segcore.devices import choose
        from segcore.models.saved import load_model
        from segcore.predictor import Predictor

        hardware = choose(HardwareConfig())
        model = load_model(Path(context.artifacts["weights"]), Path(context.artifacts["config"]), hardware)
        self._card = model.card
        self._predictor = Predictor(model.network, model.card, hardware, model.config.inference.tile_size)

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Segment every plane of an image.

        Parameters
        ----------
        context : PythonModelContext
            Given by MLflow; not used.
        model_input : ndarray
            Grey values of any numeric type. Models of one channel: `Y X` or `Z Y X`; models of several:
            `C Y X`; all: `Z C Y X`.
        params : dict, optional
            Given by MLflow; not used.

        Returns
        -------
        ndarray
            Label values, `Y X` for one plane and `Z Y X` for a stack. Of models that tell objects apart their
            numbers, 1 … n, int32; in 2d those of every plane are others.

        Raises
        ------
        DataError
            The array is not numeric, has another number of axes, or another number of channels.
        """
        from segcore.data.manifest import decode_labels
        from segcore.objects import number_objects
        from segcore.prediction import Prediction
        from segcore.predictor import to_labels

        image = np.asarray(model_input)
        planes = ArrayPlanes(as_planes(image, self._card.channels))
        values = self._card.class_values
        shape = (planes.count, planes.height, planes.width)
        labels = np.empty(shape, decode_labels(np.zeros(1, np.uint8), values).dtype)
        prediction = Prediction(self._predictor, planes)
        single = image.ndim == (2 if self._card.channels == 1 else 3)
        if self._predictor.head is not None:
            numbers = number_objects(prediction, shape)
            return numbers[0] if single else numbers
        for group in prediction.stream(prediction.groups()):
            for block, logits_KZYX in group:
                place = (
                    slice(block.planes[0], block.planes[-1] + 1),
                    slice(*block.rows),
                    slice(*block.columns),
                )
                labels[place] = decode_labels(to_labels(logits_KZYX), values)
        return labels[0] if single else labels


class ArrayPlanes:
    """The planes of one image in memory; satisfies `segcore.blocks.Slices`."""

    def __init__(self, image_ZCYX: np.ndarray) -> None:
        self._image_ZCYX = image_ZCYX
        self.count, self.channels, self.height, self.width = image_ZCYX.shape
        self.depth = self.count

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of plane `index` as `(C, Y, X)`."""
        plane_CYX: np.ndarray = self._image_ZCYX[index, :, rows, columns]
        return plane_CYX


def as_planes(image: np.ndarray, channels: int) -> np.ndarray:
    """Return `image` as `Z C Y X` for a model of so many channels.

    Raises
    ------
    DataError
        The array is not numeric, is empty, has another number of axes, or another number of channels.
    """
    layouts = (
        {2: "Y X", 3: "Z Y X", 4: "Z 1 Y X"}
        if channels == 1
        else {3: f"{channels} Y X", 4: f"Z {channels} Y X"}
    )
    expected = " or ".join(layouts.values())
    problem = ""
    if not np.issubdtype(image.dtype, np.number):
        problem = f"holds {image.dtype}, not numbers"
    elif image.ndim not in layouts or image.size == 0:
        problem = f"has the shape {image.shape}"
    else:
        missing_axes = {2: (0, 1), 3: (1,) if channels == 1 else (0,), 4: ()}[image.ndim]
        image = np.expand_dims(image, missing_axes)
        if image.shape[1] != channels:
            problem = f"has {image.shape[1]} channels"
    if problem:
        raise DataError(
            f"The array {problem}; this model was trained on images of {channels} "
            f"channel{'s' if channels != 1 else ''}.",
            f"Give grey values with the axes {expected}.",
        )
    return image


mlflow.models.set_model(SegcoreModel())
