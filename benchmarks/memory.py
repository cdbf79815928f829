"""Peak memory of segmentations and trainings of ever larger images: it must not grow with them.

`python -m benchmarks.memory` prints a line per kind; `--record` keeps them in the README. The images are
sparse files, so that the disk needs room for the results only. Every segmentation ends after `--seconds`:
the peak is that of its working state, and the plan, the files and the first blocks are there by then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
import torch

from benchmarks.record import add_row, describe_machine
from segcore.card import ModelCard, Normalization, write_config
from segcore.config import build_config
from segcore.models.saved import save_weights
from segcore.models.unet import UNet
from segcore.strides import pooling_plan

TITLE = "Memory and size"
SIZES = (0.25, 1.0, 4.0, 16.0)
"""GB of an image of 8 bits per pixel."""
TRAINING = (2.5, 20.0)
"""GB of the images of a training, 16 bits per pixel; their labels take half as much."""
SIDE = 2048
PLANES_3D = 256

CHILD = """
import json, sys, time
from pathlib import Path
from segcore.config import build_config
from segcore.events import Request
values, kind, folder, seconds = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])
state = {"end": None}
def report(event):
    if event.kind == "progress" and event.stage in ("segmenting", "training") and state["end"] is None:
        state["end"] = time.monotonic() + seconds
def asked():
    return Request.PAUSE if state["end"] and time.monotonic() > state["end"] else None
if kind == "train":
    from segcore.training.run import train as work
else:
    from segcore.inference.run import segment as work
outcome = work(build_config(values), folder, report, asked)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "whole": outcome.request is None}))
"""


def segmentation_peaks(folder: Path, sizes: tuple[float, ...], mode: str, seconds: float) -> dict[float, int]:
    """Return size of the image in GB → peak memory of its segmentation in bytes."""
    model = folder / mode
    model.mkdir()
    _save_model(model, mode)
    peaks = {}
    for size in sizes:
        with TemporaryDirectory(dir=folder) as place:
            image = Path(place) / "image.tif"
            _sparse(image, _plane_shape(size) if mode == "2d" else _volume_shape(size), np.uint8)
            values = {"data": {"images": str(image)}, "inference": {"model": str(model)}}
            peaks[size] = _peak(values, "predict", Path(place) / "result", seconds)
    return peaks


def training_peaks(folder: Path, sizes: tuple[float, ...], seconds: float) -> dict[float, int]:
    """Return size of the images in GB → peak memory in bytes of a training that reads patches from disk."""
    peaks = {}
    for size in sizes:
        with TemporaryDirectory(dir=folder) as place:
            images, labels = (Path(place) / f"{name}.tif" for name in ("images", "labels"))
            shape = (round(size * 1e9 / 2 / SIDE**2), SIDE, SIDE)
            _sparse(images, shape, np.uint16)
            _sparse(labels, shape, np.uint8)
            mapped = tifffile.memmap(labels, mode="r+")
            mapped[:, : SIDE // 64] = 1
            del mapped
            values: dict[str, dict[str, object]] = {
                "data": {
                    "images": str(images), "labels": str(labels), "loading": "disk", "patch_size": 128,
                    "validation_slices": "0-3", "patches_per_image": 1,
                },
                "model": {"features": 16, "layers": 3},
                "training": {"epochs": 1},
            }  # fmt: skip
            peaks[size] = _peak(values, "train", Path(place) / "run", seconds)
    return peaks


def row(kind: str, peaks: dict[float, int], command: str) -> str:
    """Return the table line."""
    shown = "; ".join(f"{size:g} GB: {peak / 1e6:.0f} MB" for size, peak in peaks.items())
    spread = max(peaks.values()) / min(peaks.values())
    cells = (
        date.today().isoformat(), describe_machine(), kind, shown, f"**{spread:.2f} ×**", f"`{command}`",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _peak(values: Mapping[str, Mapping[str, object]], kind: str, folder: Path, seconds: float) -> int:
    folder.mkdir()
    command = [sys.executable, "-c", CHILD, json.dumps(values), kind, str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: int = json.loads(done.stdout.splitlines()[-1])["peak"]
    return found


def _sparse(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    tifffile.memmap(path, shape=shape, dtype=dtype, bigtiff=True, metadata={"axes": "ZYX"[-len(shape) :]})


def _plane_shape(size: float) -> tuple[int, int]:
    side = round((size * 1e9) ** 0.5)
    return side, side


def _volume_shape(size: float) -> tuple[int, int, int]:
    side = round((size * 1e9 / PLANES_3D) ** 0.5)
    return PLANES_3D, side, side


def _save_model(folder: Path, mode: str) -> None:
    torch.manual_seed(0)
    strides = pooling_plan(None, (32, 64, 64), 3) if mode == "3d" else ()
    network = UNet(1, 2, 16 if mode == "2d" else 8, 4 if mode == "2d" else 3, strides)
    card = ModelCard(
        channels=1,
        class_values=(0, 1),
        class_names=("background", "cell"),
        normalization=Normalization(kind="min-max", offset=(0.0,), scale=(128.0,), clip=(-3.0, 3.0)),
        axes="YX",
        dtype="uint8",
        mode=mode,
        strides=strides,
    )
    save_weights(network, folder / "best_model.pth")
    model = {"features": network.features, "layers": network.layers}
    write_config(folder / "config.json", build_config({"model": model}), card)


def main() -> int:
    """Measure what was asked for and print, and on request record, the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("2d", "3d", "train"))
    parser.add_argument("--largest", type=float, default=16.0, help="GB of the largest image (default: 16)")
    parser.add_argument("--seconds", type=float, default=45.0, help="of every segmentation or training")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    sizes = tuple(size for size in SIZES if size <= options.largest)
    with TemporaryDirectory() as folder:
        for kind in ("2d", "3d", "train"):
            if options.only not in (None, kind):
                continue
            if kind == "train":
                peaks = training_peaks(Path(folder), TRAINING, options.seconds)
            else:
                peaks = segmentation_peaks(Path(folder), sizes, kind, options.seconds)
            line = row(
                {"2d": "a plane", "3d": f"{PLANES_3D} slices, 3d", "train": "training, 2d"}[kind],
                peaks,
                f"python -m benchmarks.memory --only {kind} --seconds {options.seconds:g}",
            )
            print(line, flush=True)
            if options.record:
                add_row(TITLE, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
