"""Every kind of data: the shared real sets checked, trained on for minutes and evaluated on the command line.

`python -m benchmarks.datasets` prints a line per set, beside what a threshold or the majority class reaches
on the same validation slices; `--record` keeps them in the README. `--minutes` and `--only` make it short.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.record import add_row, describe_machine
from segcore.config import DataConfig, build_config
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.volumes import Volume
from segcore.tiling import IGNORE

TITLE = "Data sets"
SHARED = Path(os.environ.get("SEGCORE_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
MOST_BINS = 5
"""Classes a threshold can tell apart; finding more thresholds takes minutes."""
SMALL = {"model": {"features": 16, "layers": 4}, "training": {"batch_size": 8}}
VOLUME = {"model": {"features": 8, "layers": 3}, "training": {"batch_size": 2}}


@dataclass(frozen=True)
class Case:
    """A data set and how it is trained on."""

    name: str
    images: str
    labels: str
    data: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, dict[str, Any]] = field(default_factory=lambda: SMALL)
    by_rows: bool = False
    """Whether it is a single slice, of which some rows train and others validate."""

    def values(self) -> dict[str, Any]:
        """Return the options, with paths in the folder of shared data."""
        data = {**self.data, "images": str(SHARED / self.images), "labels": str(SHARED / self.labels)}
        data["sets"] = [
            {key: str(SHARED / value) if key != "use" else value for key, value in one.items()}
            for one in self.data.get("sets", [])
        ]
        if self.data.get("annotated_slices") == "gold":
            data["annotated_slices"] = _gold_frames()
        return {**self.rest, "data": data}


def _gold_frames() -> str:
    with (SHARED / "ctc_dic_c2dh_hela" / "gold_annotated_frames.csv").open() as stream:
        return ",".join(row["frame"] for row in csv.DictReader(stream))


OBJECTS = {"labels_as": "foreground"}
CASES = (
    Case("ISBI 2012, membrane", "isbi2012_em_membrane/raw.tif", "isbi2012_em_membrane/labels.tif",
         {"patch_size": 192, "validation_slices": "24-29"}),
    Case("Sandstone, 4 phases", "sandstone_microct_4class/raw.tif", "sandstone_microct_4class/labels.tif",
         {"patch_size": 128, "validation_slices": "7-8", "class_names": []}),
    Case("Sandstone, 2.5D", "sandstone_microct_4class/raw.tif", "sandstone_microct_4class/labels.tif",
         {"patch_size": 128, "validation_slices": "7-8", "mode": "2.5d"}),
    Case("HeLa DIC", "ctc_dic_c2dh_hela/raw.tif", "ctc_dic_c2dh_hela/labels.tif",
         {**OBJECTS, "patch_size": 192, "validation_slices": "68-83", "patches_per_image": 8}),
    Case("HeLa DIC, 9 frames annotated", "ctc_dic_c2dh_hela/raw.tif",
         "ctc_dic_c2dh_hela/labels_gold_partial.tif",
         {**OBJECTS, "patch_size": 192, "annotated_slices": "gold"}),
    Case("DSB 2018 nuclei, 60 images", "dsb2018_nuclei/images", "dsb2018_nuclei/masks",
         {**OBJECTS, "patch_size": 128, "patches_per_image": 8, "normalize_per": "image",
          "split_by": "random"}),
    Case("Bacteria, phase contrast", "bacteria_phase_omnipose/images", "bacteria_phase_omnipose/masks",
         {**OBJECTS, "patch_size": 128, "normalize_per": "image", "recipe": ["images.depth uint16"]}),
    Case("Ovule cells, 3D", "confocal3d_ovule_cells/raw.tif", "confocal3d_ovule_cells/labels.tif",
         {"recipe": ["labels.borders 1"], "mode": "3d", "patch_size": 64, "patch_depth": 8,
          "validation_slices": "24-31"}, VOLUME),
    Case("Ovule nuclei, 3D, 2 volumes", "confocal3d_ovule_nuclei/1135_raw.tif",
         "confocal3d_ovule_nuclei/1135_labels.tif",
         {**OBJECTS, "mode": "3d", "patch_size": 64, "patch_depth": 16, "pixel_size": "0.284,0.127,0.127",
          "sets": [{"images": "confocal3d_ovule_nuclei/1136_raw.tif",
                    "labels": "confocal3d_ovule_nuclei/1136_labels.tif", "use": "validation"}]}, VOLUME),
    Case("Two channels, 3D", "two_channel_3d_fluorescence/raw.tif",
         "two_channel_3d_fluorescence/labels_nuclei_ch0.tif",
         {**OBJECTS, "mode": "3d", "patch_size": 64, "patch_depth": 16, "channel_names": ["nuclei", "cells"]},
         VOLUME),
    Case("Imaging mass cytometry, 5 channels", "imc_5channel_pancreas/images", "imc_5channel_pancreas/masks",
         {**OBJECTS, "patch_size": 64, "validation_groups": ["G01*"]}),
    Case("H&E nuclei, COCO JSON", "coco_he_nuclei/images", "coco_he_nuclei/annotations.json",
         {"patch_size": 192, "patches_per_image": 20, "validation_groups": ["0022*"]}),
    Case("BBBC007, 6–9 nuclei outlined", "sparse_bbbc007_nuclei/raw.tif",
         "sparse_bbbc007_nuclei/labels_sparse.tif",
         {**OBJECTS, "patch_size": 64, "unlabelled_value": 255, "recipe": ["labels.surround 4 255"],
          "validation_slices": "5"}),
    Case("Maize, scribbles", "sparse_maize_scribbles/raw.tif", "sparse_maize_scribbles/labels_scribbles.tif",
         {"patch_size": 96, "unlabelled_value": 0, "validation_fraction": 0.4}, by_rows=True),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a training reached on the validation slices, and what needs no training."""

    case: str
    dice: float
    iou: float
    baseline: float
    method: str
    minutes: float
    seen: str

    def row(self) -> str:
        """Return the table line."""
        cells = (
            date.today().isoformat(), describe_machine(), self.case, self.seen, f"{self.minutes:g} min",
            f"**{self.dice:.3f}**", f"{self.iou:.3f}", f"{self.baseline:.3f} ({self.method})",
        )  # fmt: skip
        return "| " + " | ".join(cells) + " |"


def run_case(case: Case, minutes: float, folder: Path) -> Outcome:
    """Check, train and evaluate one set in processes of their own, and score the baselines."""
    values = case.values()
    values["training"] = {**values["training"], "max_minutes": minutes, "epochs": 10_000}
    options = flags(values)
    place = ["--workspace", str(folder)]
    segcore("check", *flags({"data": values["data"]}), *place, "--json")
    trained = segcore("train", *options, *place, "--json")
    scores = segcore(
        "evaluate", "--model", trained["run_folder"], *flags({"data": values["data"]}), *place,
        "--part", "validation", "--json",
    )["metrics"]  # fmt: skip
    material = load_training_data(DataConfig.model_validate(build_config(values).data.model_dump()))
    method, baseline = best_baseline(material)
    seen = f"{material.collection.shape_text}, {material.channels} ch"
    return Outcome(case.name, scores["val_dice"], scores["mean_iou"], baseline, method, minutes, seen)


def best_baseline(data: TrainingData) -> tuple[str, float]:
    """Return name and mean Dice of the better of two that learn little: thresholds and the majority."""
    train, validation = _pixels(data.train), _pixels(data.validation)
    classes = len(data.class_values)
    majority = int(np.bincount(train[1], minlength=classes).argmax())
    found = {"majority class": mean_dice(np.full_like(validation[1], majority), validation[1], classes)}
    if classes <= MOST_BINS:
        found["Otsu"] = _otsu(train, validation, classes)
    name = max(found, key=lambda key: found[key])
    return name, found[name]


def mean_dice(predicted: np.ndarray, true: np.ndarray, classes: int) -> float:
    """Return the Dice averaged over the classes that occur in either."""
    scores = []
    for index in range(classes):
        both = int((predicted == index).sum() + (true == index).sum())
        if both:
            scores.append(2 * int(((predicted == index) & (true == index)).sum()) / both)
    return float(np.mean(scores))


def _otsu(
    train: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray], classes: int
) -> float:
    """Cut grey values at Otsu's thresholds; every bin is the class most frequent in it in training."""
    from skimage.filters import threshold_multiotsu, threshold_otsu

    sample = train[0][:: max(1, len(train[0]) // 1_000_000)]
    edges = [threshold_otsu(sample)] if classes == 2 else threshold_multiotsu(sample, classes)
    bins = np.digitize(train[0], edges)
    meaning = [
        int(np.bincount(train[1][bins == number], minlength=classes).argmax())
        if (bins == number).any()
        else 0
        for number in range(classes)
    ]
    return mean_dice(np.asarray(meaning)[np.digitize(validation[0], edges)], validation[1], classes)


def _pixels(volumes: Sequence[Volume]) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values, averaged over channels, and class indices of all annotated pixels."""
    grey, label = [], []
    for volume in volumes:
        indices = np.asarray(volume.label_ZYX[:, :, :])
        image = np.asarray(volume.image_ZCYX[:, :, :, :]).astype(np.float32).mean(1)
        known = indices != IGNORE
        grey.append(image[known])
        label.append(indices[known].astype(np.int64))
    return np.concatenate(grey), np.concatenate(label)


def flags(values: dict[str, Any]) -> list[str]:
    """Return options as words of the command line; empty lists are left out."""
    words = []
    for section, options in values.items():
        for name, value in options.items():
            if value in ([], {}):
                continue
            text = json.dumps(value) if isinstance(value, list | dict) else str(value)
            words += [f"--{section}.{name.replace('_', '-')}", text]
    return words


def segcore(*words: str) -> dict[str, Any]:
    """Run a command in a process of its own and return its JSON answer; RuntimeError if it fails."""
    done = subprocess.run([sys.executable, "-m", "segcore.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"segcore {' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> int:
    """Run the cases and print, and on request record, their lines; 1 if one could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of every training (default: 2)")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    failed = 0
    for case in CASES:
        if options.only.lower() not in case.name.lower():
            continue
        with TemporaryDirectory() as folder:
            try:
                outcome = run_case(case, options.minutes, Path(folder))
            except RuntimeError as error:
                failed += 1
                print(f"{case.name}: {error}")
                continue
        print(outcome.row(), flush=True)
        if options.record:
            add_row(TITLE, outcome.row())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
