"""The stardist package, trained for minutes and applied; runs in an environment of its own.

`python stardist_peer.py FOLDER --minutes N` reads FOLDER/train, writes objects of FOLDER/test/images to
FOLDER/stardist, and prints one line of JSON: version, epochs, parameters, and seconds for the prediction. Its
settings are those of its own training example: 32 rays, every second pixel, flips, quarter turns, changed
brightness, noise, thresholds chosen on what validates.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow
import tifffile
from csbdeep.utils import normalize
from stardist import __version__, fill_label_holes
from stardist.models import Config2D, StarDist2D

VALIDATION = 0.15
STEPS = 50
"""Batches of an epoch: the clock is looked at between epochs."""


def augment(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror and turn at random, and change brightness, contrast and noise."""
    turns, mirrored = np.random.randint(4), np.random.randint(2)
    image, label = np.rot90(image, turns), np.rot90(label, turns)
    if mirrored:
        image, label = np.flip(image, 0), np.flip(label, 0)
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image + 0.02 * np.random.uniform(0, 1) * np.random.normal(0, 1, image.shape), label


class TimeLimit(tensorflow.keras.callbacks.Callback):
    """Ends the training when its time is over; counted from the first batch, as ours is."""

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.seconds, self.began, self.epochs = 60 * minutes, 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Begin to count."""
        self.began = self.began or time.monotonic()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """End the training in the middle of an epoch."""
        if time.monotonic() - self.began > self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Count epochs."""
        self.epochs = epoch + 1


def main() -> int:
    """Train, predict, write and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    options = parser.parse_args()
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    np.random.seed(0)
    paths = sorted((options.folder / "train" / "images").glob("*.tif"))
    images = [normalize(tifffile.imread(path), 1, 99.8) for path in paths]
    labels = [fill_label_holes(tifffile.imread(path.parents[1] / "masks" / path.name)) for path in paths]
    order = np.random.permutation(len(paths))
    held, learned = np.split(order, [max(1, round(VALIDATION * len(paths)))])
    validation = [images[one] for one in held], [labels[one] for one in held]
    config = Config2D(
        n_rays=32, grid=(2, 2), train_patch_size=(128, 128), train_batch_size=8, train_tensorboard=False
    )
    model = StarDist2D(config, name="peer", basedir=str(options.folder / "model"))
    model.prepare_for_training()
    limit = TimeLimit(options.minutes)
    model.callbacks.append(limit)
    model.train(
        [images[one] for one in learned],
        [labels[one] for one in learned],
        validation_data=validation,
        augmenter=augment,
        epochs=10_000,
        steps_per_epoch=STEPS,
    )
    model.optimize_thresholds(*validation)
    target = options.folder / "stardist"
    target.mkdir()
    seconds = 0.0
    for path in sorted((options.folder / "test" / "images").glob("*.tif")):
        began = time.monotonic()
        found, _ = model.predict_instances(normalize(tifffile.imread(path), 1, 99.8))
        seconds += time.monotonic() - began
        tifffile.imwrite(target / path.name, found.astype(np.uint16))
    told = {
        "version": __version__,
        "epochs": limit.epochs,
        "parameters": int(model.keras_model.count_params()),
        "seconds": seconds,
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
