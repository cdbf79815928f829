"""Scaling of prediction: the same image by one and by several workers of a Dask cluster, in turns.

`python -m benchmarks.scaling_dask` prints the rates and what handing out a tile costs, `--record` keeps them
in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.contest import OURS, Contest, hold
from benchmarks.record import record

TITLE = "Scaling"
ONE = "one worker"
ALONE = "no cluster"
TILE = 512
SIDE = 2048


def compare_prediction(*, workers: int, rounds: int, planes: int = 2, features: int = 16) -> Contest:
    """Measure megapixels per second of a segmentation by several workers, by one and without a cluster.

    Counted from the first blocks that are noted to the last, without the start of workers and opening files.

    Parameters
    ----------
    workers : int
        Processes of one thread each.
    rounds : int
        Turns of each.
    planes : int
        Planes of 2048 × 2048 px of the image, in tiles of 512 px.
    features : int
        Feature maps of the first level of the network, which has 4 levels.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        options = _make(folder, planes, features)
        several, one = (stack.enter_context(_cluster(count)) for count in (workers, 1))
        contestants = {
            OURS: _turn(options, folder, several),
            ONE: _turn(options, folder, one),
            ALONE: _turn(options, folder, None),
        }
        rates = hold(contestants, rounds=rounds, seconds=0)
    setting = (
        f"segmenting, {workers} Dask workers of one thread, {planes} × {SIDE} × {SIDE} px, "
        f"tiles of {TILE} px, {features} features, 4 layers"
    )
    contest = Contest(TITLE, setting, "Mpx/s", rates)
    return replace(contest, facts=f"handing out a tile costs {overhead(contest) * 1e3:.0f} ms")


def overhead(contest: Contest) -> float:
    """Return the seconds that a tile takes longer on one worker than without a cluster."""
    megapixels = TILE * TILE / 1e6
    return megapixels / contest.rate(ONE) - megapixels / contest.rate(ALONE)


@contextmanager
def _cluster(count: int) -> Iterator[str]:
    """Start workers and return the address of their scheduler."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


def _make(folder: Path, planes: int, features: int) -> dict[str, dict[str, Any]]:
    """Write an image and an untrained model; return the options that apply it."""
    import tifffile

    from segcore.card import ModelCard, Normalization, write_config
    from segcore.config import build_config
    from segcore.models.saved import save_weights
    from segcore.models.unet import UNet

    noise = np.random.default_rng(0).integers(0, 256, (planes, SIDE, SIDE)).astype(np.uint8)
    tifffile.imwrite(folder / "image.tif", noise, imagej=True, metadata={"axes": "ZYX"})
    card = ModelCard(
        channels=1,
        class_values=(0, 1),
        class_names=("background", "foreground"),
        normalization=Normalization(kind="percentile", offset=(128.0,), scale=(64.0,)),
        axes="ZYX",
        dtype="uint8",
    )
    (folder / "model").mkdir()
    save_weights(UNet(1, 2, features, 4), folder / "model" / "best_model.pth")
    network = build_config({"model": {"features": features, "layers": 4}})
    write_config(folder / "model" / "config.json", network, card)
    return {
        "data": {"images": str(folder / "image.tif")},
        "inference": {"model": str(folder / "model"), "tile_size": TILE},
        "hardware": {"device": "cpu"},
    }


def _turn(options: dict[str, dict[str, Any]], folder: Path, cluster: str | None) -> Callable[[float], float]:
    from segcore.config import build_config
    from segcore.events import Event, Progress
    from segcore.inference.run import segment

    config = build_config(options | {"inference": options["inference"] | {"cluster": cluster}})

    def work(seconds: float) -> float:
        marks: list[Progress] = []

        def heard(event: Event) -> None:
            if isinstance(event, Progress) and event.stage == "segmenting":
                marks.append(event)

        segment(config, folder / "run", heard)
        first, last = marks[0], marks[-1]
        return (last.done - first.done) * TILE * TILE / 1e6 / (last.time - first.time)

    return work


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_dask", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--planes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--record", action="store_true", help="add the results to benchmarks/README.md")
    arguments = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    contest = compare_prediction(
        workers=arguments.workers,
        rounds=arguments.rounds,
        planes=arguments.planes,
        features=arguments.features,
    )
    for name, rates in contest.rates.items():
        label = f"{arguments.workers} workers" if name == OURS else name
        print(f"{label:14} {contest.rate(name):8.3g} Mpx/s   ({' '.join(f'{rate:.3g}' for rate in rates)})")
    print(f"{contest.ratio(ONE):.2f} times as fast as one worker; {contest.facts}")
    if arguments.record:
        record(contest, " ".join(["python -m benchmarks.scaling_dask", *words]).replace(" --record", ""))


if __name__ == "__main__":
    main(sys.argv[1:])
