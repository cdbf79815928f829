"""Time to Dice: ISBI membranes, equal wall time for ours, plain PyTorch, MONAI and nnU-Net.

`python -m benchmarks.time_to_dice --minutes 1 5` trains each of them that long, from the first step on, and
scores the membrane on the slices 24–29, all pixels together; `--record` keeps the lines in the README. Ours
is the whole program: reading, validating, saving and the best model kept; the peers only train. Their
learning rates fall over the time there is, as ours does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.contest import OURS
from benchmarks.material import VALIDATION, Material, isbi, load_material
from benchmarks.record import add_row, describe_machine
from benchmarks.train_speed import PEERS, meet
from benchmarks.trainee import Recipe, annotated_slices
from segcore.config import build_config
from segcore.devices import choose
from segcore.models.saved import load_model
from segcore.predictor import Predictor, to_labels
from segcore.presets import PRESETS
from segcore.training.run import train

TITLE = "Time to Dice"
MEMBRANE = 0
"""Class index of the membrane, whose label value is 0."""
PRESET = "quick"
PEERS_SIZE = Recipe(patch=128, batch=8, features=32, layers=4, device="cpu")
"""Sizes of the peers; ours has those of its preset."""


def dice(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the Dice of the membrane over the pixels of all slices, each a prediction and its annotation."""
    hits = sum(np.count_nonzero((one == MEMBRANE) & (other == MEMBRANE)) for one, other in pairs)
    total = sum(
        np.count_nonzero(one == MEMBRANE) + np.count_nonzero(other == MEMBRANE) for one, other in pairs
    )
    return 2 * hits / total


def score(material: Material, segment: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the Dice of a segmentation of the validation slices."""
    slices = annotated_slices(material.data.validation)
    return dice([(segment(image), label) for image, label in slices])


def ours(material: Material, minutes: float, extra: dict[str, Any]) -> float:
    """Train with the quick preset, and score the model that was kept."""
    images, labels = isbi()
    preset = {section: dict(options) for section, options in PRESETS[PRESET].items()}
    options = {
        "data": {
            **preset["data"],
            "images": str(images),
            "labels": str(labels),
            "validation_slices": VALIDATION,
        },
        "model": preset["model"],
        "training": {**preset["training"], "epochs": 100_000, "max_minutes": minutes},
    }
    for name, value in extra.items():
        section, option = name.split(".")
        options[section][option] = value
    config = build_config(options)
    with TemporaryDirectory() as folder:
        train(config, Path(folder))
        model = load_model(
            Path(folder) / "best_model.pth", Path(folder) / "config.json", choose(config.hardware)
        )
        predictor = Predictor(model.network, model.card, choose(config.hardware))
        return score(material, lambda image: to_labels(predictor.logits(image)))


def peer(material: Material, name: str, minutes: float) -> float | None:
    """Train a peer, and score its last weights; None if it is not installed."""
    trainee = meet(material.data, PEERS_SIZE, (name,)).get(name)
    if trainee is None:
        return None
    try:
        trainee.step(0.0)  # builds its caches and kernels, which does not count
        began, seconds = time.monotonic(), 60 * minutes
        while (spent := time.monotonic() - began) < seconds:
            trainee.step(spent / seconds)
        return score(material, trainee.segment)
    finally:
        trainee.close()


def main() -> int:
    """Train all of them for every time, one after the other, and print and record the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0], help="of every training")
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=list(PEERS))
    parser.add_argument("--set", nargs="*", default=[], help="options of ours, such as data.patch_size=128")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    material = load_material()
    extra = dict(word.split("=", 1) for word in options.set)
    for minutes in options.minutes:
        scores = {OURS: ours(material, minutes, extra)}
        print(f"{minutes:g} min  {OURS}: {scores[OURS]:.3f}", flush=True)
        for name in options.peers:
            if (found := peer(material, name, minutes)) is not None:
                scores[name] = found
                print(f"{minutes:g} min  {name}: {found:.3f}", flush=True)
        if options.record:
            columns = (f"{scores[name]:.3f}" if name in scores else "" for name in (OURS, *PEERS))
            cells = (date.today().isoformat(), describe_machine(), f"{minutes:g} min", *columns)
            add_row(TITLE, "| " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
