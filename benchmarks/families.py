"""Families: the semantic ones trained for equal minutes on ISBI and sandstone, one after the other.

`python -m benchmarks.families` prints a line per set and family: Dice on the validation slices, parameters,
what a megapixel takes to predict, and the size of the file. `--record` keeps them in the README, `--minutes`,
`--families` and `--only` make it short. Every family has 16 features where it lets one choose, and the
encoder resnet34 with random weights where it takes one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.datasets import CASES, SMALL, Case, flags, segcore
from benchmarks.record import add_row, describe_machine
from segcore.families import FAMILIES, Facts
from segcore.families.choosing import fits

TITLE = "Families"
SETS = ("ISBI 2012, membrane", "Sandstone, 4 phases")
MINUTES = 10.0


@dataclass(frozen=True)
class Outcome:
    """What one family reached on one set; what it did not reach is None."""

    case: str
    minutes: float
    family: str
    dice: float | None
    epochs: int | None
    parameters: int | None
    seconds_per_megapixel: float | None
    model_bytes: int | None

    def row(self) -> str:
        """Return the table line."""
        cells = (
            date.today().isoformat(),
            describe_machine(),
            self.case,
            f"{self.minutes:g} min",
            f"`{self.family}`",
            "failed" if self.dice is None else f"**{self.dice:.3f}**",
            "–" if self.epochs is None else str(self.epochs),
            "–" if self.parameters is None else f"{self.parameters / 1e6:.2f} M",
            "–" if self.seconds_per_megapixel is None else f"{self.seconds_per_megapixel:.3g} s",
            "–" if self.model_bytes is None else f"{self.model_bytes / 1e6:.1f} MB",
        )
        return "| " + " | ".join(cells) + " |"


def semantic_families(patch: int) -> tuple[str, ...]:
    """Return the families for planes that can work with patches of this size and are installed."""
    facts = Facts("2d", patch, int(SMALL["model"]["layers"]), features=int(SMALL["model"]["features"]))
    return tuple(
        name for name, family in FAMILIES.items() if "semantic" in family.kinds and fits(family, facts)
    )


def run_family(case: Case, family: str, minutes: float, folder: Path) -> Outcome:
    """Train one family alone on a set, in a process of its own.

    Raises
    ------
    RuntimeError
        The command failed for another reason than that the family learned nothing.
    """
    answer = segcore(
        "try", *flags(case.values()), "--families", family, "--minutes", str(minutes),
        "--workspace", str(folder), "--json",
    )  # fmt: skip
    (found,) = answer["families"]
    measured: dict[str, Any] = {
        name: found[name] for name in ("parameters", "seconds_per_megapixel", "model_bytes")
    }
    return Outcome(case.name, minutes, family, found["score"], found["best_epoch"], **measured)


def outcomes(names: tuple[str, ...], only: str, minutes: float) -> Iterator[Outcome]:
    """Train the families on the sets whose name contains `only`; what fails is told with its reason."""
    for case in CASES:
        if case.name not in SETS or only.lower() not in case.name.lower():
            continue
        there = semantic_families(int(case.data["patch_size"]))
        for family in names or there:
            with TemporaryDirectory() as folder:
                try:
                    yield run_family(case, family, minutes, Path(folder))
                except RuntimeError as error:
                    sys.stderr.write(f"{case.name}, {family}: {error}\n")
                    yield Outcome(case.name, minutes, family, *[None] * 5)


def main() -> int:
    """Train, and print, on request record, a line for each; 1 if one could not be trained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"of every training (default: {MINUTES:g})"
    )
    parser.add_argument(
        "--families", default="", help="names with commas between (default: all that can work)"
    )
    parser.add_argument("--only", default="", help="sets whose name contains this")
    parser.add_argument("--record", action="store_true", help="add the lines to benchmarks/README.md")
    options = parser.parse_args()
    names = tuple(name.strip() for name in options.families.split(",") if name.strip())
    failed = 0
    for outcome in outcomes(names, options.only, options.minutes):
        failed += outcome.dice is None
        print(outcome.row(), flush=True)
        if options.record and outcome.dice is not None:
            add_row(TITLE, outcome.row())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
