"""Scaling: the same work done by one process of one thread and by several of them, in turns.

`python -m benchmarks.scaling` prints the rates, `--record` keeps them in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contest import OURS, Contest, hold
from benchmarks.record import record

TITLE = "Scaling"
SKIPPED_STEPS = 3
"""First steps, in which kernels are chosen and connections made."""
TURN = "turn"


def compare_training(*, processes: int, rounds: int, seconds: float, features: int = 16) -> Contest:
    """Measure patches per second of a training by one process and by several, with the same batch.

    Parameters
    ----------
    processes : int
        How many share the batch of 8 patches of 128 px; each computes with one thread.
    rounds : int
        Turns of each.
    seconds : float
        Length of a turn, its start not counted.
    features : int
        Feature maps of the first level of the network, which has 4 levels.
    """

    def turn(devices: int) -> Callable[[float], float]:
        return lambda seconds: _in_new_process(devices, features, seconds)

    contestants = {OURS: turn(processes), "one process": turn(1)}
    setting = (
        f"training, {processes} processes of one thread, patch 128, batch 8, {features} features, 4 layers"
    )
    return Contest(TITLE, setting, "patches/s", hold(contestants, rounds=rounds, seconds=seconds))


def _in_new_process(devices: int, features: int, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.scaling", TURN, str(devices), str(features), str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _train_a_turn(devices: int, features: int, seconds: float) -> float:
    """Train for some seconds and return patches per second."""
    from segcore.config import build_config
    from segcore.data.simulate import simulate
    from segcore.events import Request
    from segcore.training.run import train

    marks: list[float] = []

    def asked() -> Request | None:
        marks.append(time.perf_counter())
        full = len(marks) > SKIPPED_STEPS + 1 and marks[-1] - marks[SKIPPED_STEPS] > seconds
        return Request.DISCARD if full else None

    with TemporaryDirectory() as name:
        folder = Path(name)
        images, labels = simulate(folder, "2class", 32, 256, 0)
        options = {
            "data": {
                "images": str(images),
                "labels": str(labels),
                "patch_size": 128,
                "patches_per_image": 100,  # an epoch longer than any turn: no validation in between
                "validation_slices": "31",
            },
            "model": {"features": features, "layers": 4},
            "training": {"batch_size": 8, "devices": devices, "epochs": 1},
            "hardware": {"device": "cpu"},
        }
        (folder / "run").mkdir()
        train(build_config(options), folder / "run", asked=asked)
    return 8 * (len(marks) - 1 - SKIPPED_STEPS) / (marks[-1] - marks[SKIPPED_STEPS])


def main(words: Sequence[str]) -> None:
    """Measure and print; with `turn` as first word, be one turn of one contestant."""
    if words and words[0] == TURN:
        print(json.dumps(_train_a_turn(int(words[1]), int(words[2]), float(words[3]))))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a turn")
    parser.add_argument("--record", action="store_true", help="add the results to benchmarks/README.md")
    arguments = parser.parse_args(words)
    contest = compare_training(
        processes=arguments.processes,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        features=arguments.features,
    )
    for name, rates in contest.rates.items():
        label = f"{arguments.processes} processes" if name == OURS else name
        print(
            f"{label:14} {contest.rate(name):8.3g} patches/s   ({' '.join(f'{rate:.3g}' for rate in rates)})"
        )
    print(f"{contest.ratio('one process'):.2f} times as fast")
    if arguments.record:
        record(contest, " ".join(["python -m benchmarks.scaling", *words]).replace(" --record", ""))


if __name__ == "__main__":
    main(sys.argv[1:])
