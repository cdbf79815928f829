"""Sparse labels: ISBI with 90 % of the label pixels hidden, beside the dense run of the same time.

`python -m benchmarks.sparse_labels` trains both and scores both against all label pixels of the validation
slices; `--record` keeps the lines in the README.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile

from benchmarks.datasets import SHARED, segcore
from benchmarks.record import add_row, describe_machine

TITLE = "Sparse labels"
HIDDEN = 0.9
HELD_OUT = "24-29"
MEMBRANE = "0"


def hide(labels: np.ndarray, share: float, kind: str) -> np.ndarray:
    """Return 1 where labels stay, 0 where they are hidden: single pixels, or strokes of a few px width."""
    random = np.random.default_rng(0)
    if kind == "pixels":
        return (random.random(labels.shape) >= share).astype(np.uint8)
    shown = np.zeros(labels.shape, np.uint8)
    for plane in shown:
        while plane.mean() < 1 - share:
            row, column = (int(random.integers(0, side)) for side in plane.shape)
            if random.random() < 0.5:
                plane[row : row + 4, column : column + 60] = 1
            else:
                plane[row : row + 60, column : column + 4] = 1
    return shown


def train_and_score(options: dict[str, Any], minutes: float, folder: Path) -> float:
    """Return the membrane's Dice over all pixels of the validation slices."""
    data = SHARED / "isbi2012_em_membrane"
    place = ["--workspace", str(folder)]
    files = ["--data.images", str(data / "raw.tif"), "--data.labels", str(data / "labels.tif")]
    files += ["--data.validation-slices", HELD_OUT]
    given = [word for name, value in options.items() for word in (f"--data.{name}", str(value))]
    network = ["--model.features", "16", "--data.patch-size", "192", "--training.epochs", "10000"]
    run = segcore("train", *files, *given, *network, "--training.max-minutes", str(minutes), *place, "--json")
    scores = segcore("evaluate", "--model", run["run_folder"], *files, *place, "--json")
    return float(scores["metrics"]["val_dice_per_class"][MEMBRANE])


def main() -> int:
    """Train on all labels and on a tenth of them, and print, on request record, both scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of every training (default: 1)")
    parser.add_argument("--record", action="store_true", help="add the line to benchmarks/README.md")
    options = parser.parse_args()
    labels = tifffile.imread(SHARED / "isbi2012_em_membrane" / "labels.tif")
    scores = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        scores["dense"] = train_and_score({}, options.minutes, folder / "dense")
        for kind in ("pixels", "strokes"):
            mask = folder / f"{kind}.tif"
            tifffile.imwrite(mask, hide(labels, HIDDEN, kind), compression="zlib", metadata={"axes": "ZYX"})
            scores[kind] = train_and_score({"mask": mask}, options.minutes, folder / kind)
    parts = (
        f"{scores['dense']:.3f}",
        *(f"{scores[kind]:.3f} ({scores[kind] - scores['dense']:+.3f})" for kind in ("pixels", "strokes")),
    )
    cells = (date.today().isoformat(), describe_machine(), f"{options.minutes:g} min", *parts)
    line = "| " + " | ".join(cells) + " |"
    print(line)
    if options.record:
        add_row(TITLE, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
