"""What a run takes from its data: the model card, and how many pixels every class has and what they weigh."""

from __future__ import annotations

import numpy as np

from segcore.card import ModelCard, ObjectHead
from segcore.config import RunConfig
from segcore.data.dataset import TrainingData
from segcore.data.weights import class_weights, pixels_beside
from segcore.devices import versions
from segcore.events import NoteEvent, Reporter
from segcore.strides import Strides


def model_card(
    data: TrainingData, parameters: int, strides: Strides = (), head: ObjectHead | None = None
) -> ModelCard:
    """Write down what must travel with the weights."""
    options = data.collection.data
    several = data.mode == "2.5d"
    return ModelCard(
        channels=data.channels,
        channel_names=tuple(options.channel_names),
        mode=data.mode,
        context_slices=options.context_slices if several else 1,
        context_spacing=options.context_spacing if several else 1,
        strides=strides,
        class_values=data.class_values,
        class_names=data.class_names,
        head=head,
        normalization=data.normalization,
        histograms=data.histograms,
        axes=data.axes,
        dtype=data.dtype,
        pixel_size=data.pixel_size,
        data_hash=data.data_hash,
        parameters=parameters,
        versions=versions(),
    )


def loss_weights(config: RunConfig, data: TrainingData, report: Reporter) -> tuple[float, ...] | None:
    """Return the weight of every class, from the pixels that train; None where all count the same."""
    training = config.training
    if training.class_weights == "none":
        return None
    rows = [
        dict(zip(data.class_values, counts_K.tolist(), strict=True))
        for volume in data.train
        for counts_K in volume.counts_ZK[list(volume.annotated)]
    ]
    pixels = dict(zip(data.class_values, class_pixels(data).tolist(), strict=True))
    found = class_weights(pixels, training.class_weights, training.class_weight_values, pixels_beside(rows))
    told = ", ".join(
        f"{name} {weight:.3g}" for name, weight in zip(data.class_names, found.values(), strict=True)
    )
    report(NoteEvent(text=f"Class weights ({training.class_weights}): {told}."))
    return tuple(found.values())


def class_shares(data: TrainingData) -> dict[str, float]:
    """Return the share of the annotated training pixels of every label value, 0 to 1."""
    counts = class_pixels(data)
    shares = counts / max(1, counts.sum())
    return {str(value): float(share) for value, share in zip(data.class_values, shares, strict=True)}


def class_pixels(data: TrainingData) -> np.ndarray:
    """Return the annotated training pixels of every class index, int64."""
    counts: np.ndarray = sum(
        (volume.counts_ZK.sum(0) for volume in data.train), np.zeros(len(data.class_values), np.int64)
    )
    return counts
