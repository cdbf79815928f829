"""Families of objects: nuclei told apart by every head and every family, beside the stardist package.

`python -m benchmarks.object_families --stardist PYTHON` trains each of them on 48 images of the Data Science
Bowl 2018 for equal minutes on one thread, two at a time on a machine of two cores, and scores the objects in
the 12 images that nobody saw. PYTHON is that of an environment with `stardist`, `tensorflow` and `tifffile`
(which do not live with ours); without it there is no peer. `--record` keeps the lines in the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from benchmarks.datasets import SHARED, flags, segcore
from benchmarks.record import add_row, describe_machine
from segcore.metrics.instances import USUAL, InstanceCounts

TITLE = "Families of objects"
SOURCE = SHARED / "dsb2018_nuclei"
EVERY = 5
"""Of so many images, in the order of their names, one is held out."""
MINUTES = 10.0
PEER = "stardist"
SETTINGS: dict[str, dict[str, Any]] = {
    "unet, stars": {"family": "unet", "features": 16, "head": "stars"},
    "unet, flows": {"family": "unet", "features": 16, "head": "flows"},
    "unet, boundary": {"family": "unet", "features": 16, "head": "boundary"},
    "unet-encoder, stars": {"family": "unet-encoder", "head": "stars"},
    "mask-rcnn": {"family": "mask-rcnn", "head": "masks"},
    "mask-rcnn-v2": {"family": "mask-rcnn-v2", "head": "masks"},
    "mask2former": {"family": "mask2former", "head": "masks"},
    "detr": {"family": "detr", "head": "masks"},
}
"""What is trained, by what it is called here: options of `model`."""
DATA = {
    "labels_as": "objects",
    "patch_size": 128,
    "patches_per_image": 8,
    "normalize_per": "image",
    "split_by": "random",
}


@dataclass(frozen=True)
class Outcome:
    """What one of them reached in the images that were held out."""

    name: str
    minutes: float
    ap50: float
    f1: float
    dice: float
    epochs: int
    parameters: int
    seconds: float

    def row(self) -> str:
        """Return the table line."""
        cells = (
            date.today().isoformat(),
            describe_machine(),
            f"{self.minutes:g} min",
            self.name,
            f"**{self.ap50:.3f}**",
            f"{self.f1:.3f}",
            f"{self.dice:.3f}",
            str(self.epochs),
            f"{self.parameters / 1e6:.2f} M",
            f"{self.seconds:.3g} s",
        )
        return "| " + " | ".join(cells) + " |"


def prepare(folder: Path) -> None:
    """Write the images, grey, and their labels as TIFF, parted into `train` and `test`."""
    for number, path in enumerate(sorted((SOURCE / "images").glob("*.png"))):
        part = folder / ("test" if number % EVERY == 0 else "train")
        for kind in ("images", "masks"):
            (part / kind).mkdir(parents=True, exist_ok=True)
        grey = np.asarray(Image.open(path).convert("L"))
        labels = tifffile.imread(SOURCE / "masks" / f"{path.stem}.tif").astype(np.uint16)
        tifffile.imwrite(part / "images" / f"{path.stem}.tif", grey)
        tifffile.imwrite(part / "masks" / f"{path.stem}.tif", labels)


def train_ours(name: str, folder: Path, minutes: float) -> Outcome:
    """Train one of `SETTINGS` on the command line, and evaluate it there.

    Raises
    ------
    RuntimeError
        A command failed.
    """
    data = {**DATA, "images": str(folder / "train" / "images"), "labels": str(folder / "train" / "masks")}
    training = {"batch_size": 8, "max_minutes": minutes, "epochs": 10_000}
    with TemporaryDirectory() as workspace:
        place = ("--workspace", workspace, "--json")
        values = {"data": data, "model": SETTINGS[name], "training": training}
        trained = segcore("train", *flags(values), *place)
        held_out = {"images": str(folder / "test" / "images"), "labels": str(folder / "test" / "masks")}
        scores = segcore(
            "evaluate", "--model", trained["run_folder"], *flags({"data": held_out}), *place,
        )["metrics"]  # fmt: skip
        results = json.loads((Path(trained["run_folder"]) / "results.json").read_text())
    return Outcome(
        name, minutes, scores["val_ap50"], scores["val_f1"], _foreground(scores), results["epochs"],
        results["parameters"], scores["seconds"],
    )  # fmt: skip


def _foreground(scores: dict[str, Any]) -> float:
    """Return the Dice of the pixels in objects."""
    return float(scores["val_dice_per_class"]["1"])


def train_peer(python: str, folder: Path, minutes: float) -> Outcome:
    """Train stardist in its own environment, and score what it finds as ours is scored.

    Raises
    ------
    RuntimeError
        It failed.
    """
    script = Path(__file__).with_name("stardist_peer.py")
    done = subprocess.run(
        [python, str(script), str(folder), "--minutes", str(minutes)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"stardist failed\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    objects, both, either = InstanceCounts(), 0, 0
    for path in sorted((folder / "test" / "masks").glob("*.tif")):
        labels, found = tifffile.imread(path), tifffile.imread(folder / PEER / path.name)
        objects.update(found.astype(np.int64), labels.astype(np.int64))
        both += int(np.count_nonzero((labels > 0) & (found > 0)))
        either += int(np.count_nonzero(labels > 0) + np.count_nonzero(found > 0))
    scores = objects.scores()
    return Outcome(
        f"{PEER} {told['version']}", minutes, scores.average_precision[USUAL], scores.f1[USUAL],
        2 * both / either, told["epochs"], told["parameters"], told["seconds"],
    )  # fmt: skip


def outcomes(names: Sequence[str], peer: str, minutes: float, together: int) -> Iterator[Outcome]:
    """Train all, so many at a time, and yield what they reached; what fails is told with its reason."""
    with TemporaryDirectory() as made, ThreadPoolExecutor(together) as runners:
        folder = Path(made)
        prepare(folder)
        runs = {name: runners.submit(train_ours, name, folder, minutes) for name in names}
        if peer:
            runs[PEER] = runners.submit(train_peer, peer, folder, minutes)
        for name, run in runs.items():
            try:
                yield run.result()
            except RuntimeError as error:
                sys.stderr.write(f"{name}: {error}\n")


def main() -> int:
    """Train, and print, on request record, a line for each; 1 if one could not be trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"of every training (default: {MINUTES:g})"
    )
    parser.add_argument("--only", default="", help="those whose name contains this")
    parser.add_argument("--stardist", default="", help="the Python that has stardist")
    parser.add_argument("--together", type=int, default=2, help="trained at a time (default: 2)")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that train
    names = [name for name in SETTINGS if options.only in name]
    done = 0
    for outcome in outcomes(names, options.stardist, options.minutes, options.together):
        done += 1
        print(outcome.row(), flush=True)
        if options.record:
            add_row(TITLE, outcome.row())
    return int(done < len(names) + bool(options.stardist))


if __name__ == "__main__":
    sys.exit(main())
