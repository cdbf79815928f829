"""`python -m benchmarks.index_speed`: listing, pairing and reading the headers of a folder of many files."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile

from benchmarks.contest import OURS, Contest
from benchmarks.record import record
from segcore.config import DataConfig
from segcore.data.index import Index, probe_all
from segcore.data.items import list_items

TITLE = "Index"
LISTING, AGAIN = "ours, names only", "ours, the second time"
PEER = "pathlib and tifffile, one after the other"


def compare(folder: Path, files: int, rounds: int) -> Contest:
    """Measure files per second over a folder of images and one of as many labels; only images are opened."""
    images, labels = make_files(folder, files)
    data = DataConfig(images=str(images), labels=str(labels))

    def listing() -> None:
        assert len(list_items(data).items) == files

    def first() -> None:
        Index().path.unlink(missing_ok=True)
        second()

    def second() -> None:
        items = list_items(data).items
        probe_all([item.images[0] for item in items])

    def peer() -> None:
        pairs = {path.stem: path for path in sorted(labels.rglob("*.tif"))}
        for path in sorted(images.rglob("*.tif")):
            assert path.stem in pairs
            with tifffile.TiffFile(path) as file:
                assert file.series[0].shape

    contestants = {OURS: first, AGAIN: second, LISTING: listing, PEER: peer}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            rates[name].append(files / (time.perf_counter() - start))
    setting = f"{files:,} pairs of TIFF files, listed, paired and their headers read"
    return Contest(TITLE, setting, "pairs/s", {name: tuple(values) for name, values in rates.items()})


def make_files(folder: Path, files: int) -> tuple[Path, Path]:
    """Write tiny images and labels in folders of a thousand, as if they had lain there for an hour."""
    first = folder / "first.tif"
    tifffile.imwrite(first, np.zeros((8, 8), np.uint8))
    content, stamp = first.read_bytes(), time.time() - 3600
    for kind in ("images", "labels"):
        for number in range(files):
            path = folder / kind / f"Pos{number // 1000:03}" / f"{number % 1000}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (stamp, stamp))
    return folder / "images", folder / "labels"


def main() -> None:
    """Measure and print; `--record` adds the result to the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_speed", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="add the result to benchmarks/README.md")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.environ["SEGCORE_CACHE"] = f"{folder}/cache"
        contest = compare(Path(folder), arguments.files, arguments.rounds)
    for name, rates in contest.rates.items():
        seconds = arguments.files / contest.rate(name)
        sys.stdout.write(f"{name:42} {contest.rate(name):9.0f} {contest.unit}, {seconds:.1f} s  {rates}\n")
    if arguments.record:
        record(contest, f"python -m benchmarks.index_speed --files {arguments.files}")


if __name__ == "__main__":
    main()
