"""Distillation: a U-Net of 31 M parameters teaches a small one, which also learns alone for equal minutes.

`python -m benchmarks.distillation` trains teacher, taught student and student alone one after the other on
the bacteria and on the HeLa cells, `--minutes` each, and prints a line per set: Dice on the validation
slices, parameters, and megapixels per second of teacher and student, who take turns in this process.
`--record` keeps the lines in the README, `--only` makes it short.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.contest import OURS, Contest, hold
from benchmarks.datasets import CASES, Case, flags, segcore
from benchmarks.infer_speed import timed
from benchmarks.record import add_row, describe_machine
from segcore.config import build_config
from segcore.data.dataset import load_training_data
from segcore.devices import choose
from segcore.models.saved import find_model, load_model
from segcore.predictor import Predictor

TITLE = "Distillation"
SETS: dict[str, dict[str, Any]] = {
    "Bacteria, phase contrast": {},
    # Few patches to an epoch: two cores show the teacher some hundred of them in a minute.
    "HeLa DIC": {"patch_size": 128, "patches_per_image": 2},
}
"""Options of the data that are others here than in the benchmark of data sets, by the name of the case."""
MINUTES = 3.5
TEACHER = {"family": "unet", "features": 64, "layers": 4}
STUDENT = {"family": "unet", "features": 16, "layers": 4}
NEAR, FASTER = 0.02, 4.0
"""What is asked for: so little less Dice than the teacher, at so many times its speed."""
ROUNDS, SECONDS = 5, 3.0
"""How often, and how long at a time, each of them predicts to be measured."""


@dataclass(frozen=True)
class Learned:
    """What a training came to: Dice on the validation slices, and the numbers it learned."""

    dice: float
    parameters: int


@dataclass(frozen=True)
class Outcome:
    """Teacher and student on one set."""

    case: str
    minutes: float
    teacher: Learned
    taught: Learned
    alone: Learned
    speed: Contest
    """Megapixels per second; the student is ours."""

    @property
    def reached(self) -> bool:
        """Whether the taught student is near its teacher and fast enough, see `NEAR`."""
        near = self.taught.dice >= self.teacher.dice - NEAR
        return near and self.speed.ratio("teacher") >= FASTER

    def row(self) -> str:
        """Return the table line."""
        cells = (
            date.today().isoformat(),
            describe_machine(),
            self.case,
            f"{self.minutes:g} min",
            f"{self.teacher.dice:.3f}",
            f"**{self.taught.dice:.3f}**",
            f"{self.alone.dice:.3f}",
            f"{self.teacher.parameters / 1e6:.2f} M → {self.taught.parameters / 1e6:.2f} M",
            f"{self.speed.rate('teacher'):.3g} → {self.speed.rate(OURS):.3g}",
            f"**{self.speed.ratio('teacher'):.2f} ×**",
            "yes" if self.reached else "no",
        )
        return "| " + " | ".join(cells) + " |"


def options_of(case: Case) -> dict[str, Any]:
    """Return the options of the data."""
    data: dict[str, Any] = case.values()["data"] | SETS[case.name]
    return data


def train(
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    minutes: float,
    place: Path,
    teacher: Path | None = None,
) -> Path:
    """Train in a process of its own, and return the run folder.

    Raises
    ------
    RuntimeError
        The command failed.
    """
    training: dict[str, Any] = {"batch_size": 8, "max_minutes": minutes, "epochs": 10_000}
    if teacher is not None:
        training["teacher"] = str(teacher)
    words = flags({"data": data, "model": model, "training": training})
    answer = segcore("train", *words, "--workspace", str(place), "--json")
    return Path(answer["run_folder"])


def learned(folder: Path) -> Learned:
    """Return what the run in a folder came to."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return Learned(results["metrics"]["val_dice"], results["parameters"])


def compare_speed(case: str, images: Sequence[np.ndarray], student: Path, teacher: Path) -> Contest:
    """Let the models of two run folders take turns on the same images `(C, Y, X)`."""
    hardware = choose(build_config({}).hardware)
    contestants = {}
    for name, folder in {OURS: student, "teacher": teacher}.items():
        model = load_model(*find_model(folder), hardware)
        contestants[name] = timed(Predictor(model.network, model.card, hardware).logits, list(images))
    return Contest(TITLE, case, "Mpx/s", hold(contestants, rounds=ROUNDS, seconds=SECONDS))


def run_case(case: Case, minutes: float, place: Path) -> Outcome:
    """Train all three on one set, and measure the speed of teacher and taught student.

    Raises
    ------
    RuntimeError
        A training failed.
    """
    data = options_of(case)
    teacher = train(data, TEACHER, minutes, place)
    taught = train(data, STUDENT, minutes, place, teacher)
    alone = train(data, STUDENT, minutes, place)
    volumes = load_training_data(build_config({"data": data}).data).validation
    images = [np.asarray(image_CYX) for volume in volumes for image_CYX in volume.image_ZCYX[:, :, :, :]]
    speed = compare_speed(case.name, images, taught, teacher)
    return Outcome(case.name, minutes, learned(teacher), learned(taught), learned(alone), speed)


def main() -> int:
    """Train, and print, on request record, a line for each set; 1 if one could not be trained on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"of every training (default: {MINUTES:g})"
    )
    parser.add_argument("--only", default="", help="sets whose name contains this")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    failed = 0
    for case in CASES:
        if case.name not in SETS or options.only.lower() not in case.name.lower():
            continue
        with TemporaryDirectory() as folder:
            try:
                outcome = run_case(case, options.minutes, Path(folder))
            except RuntimeError as error:
                failed += 1
                sys.stderr.write(f"{case.name}: {error}\n")
                continue
        print(outcome.row(), flush=True)
        if options.record:
            add_row(TITLE, outcome.row())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
