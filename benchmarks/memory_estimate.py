"""How good the memory estimates are: estimate and dry run beside the peak of the same training, for real.

`python -m benchmarks.memory_estimate` prints a line per configuration; `--record` keeps them in the README.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import add_row, describe_machine
from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.devices import choose
from segcore.dryrun import read_material
from segcore.footprint import MemoryNeed, estimate_footprint, judge_memory

TITLE = "Memory"
SLICES, SIZE = 12, 256
SETTINGS: tuple[dict[str, dict[str, Any]], ...] = (
    {"data": {"patch_size": 64}, "model": {"features": 16, "layers": 4}, "training": {"batch_size": 8}},
    {"data": {"patch_size": 128}, "model": {"features": 16, "layers": 3}, "training": {"batch_size": 32}},
    {"data": {"patch_size": 128}, "model": {"features": 32, "layers": 4}, "training": {"batch_size": 8}},
    {
        "data": {"patch_size": 256},
        "model": {"features": 32, "layers": 4},
        "training": {"batch_size": 8, "micro_batch": 2},
    },
    {"data": {"patch_size": 64}, "model": {"features": 64, "layers": 4}, "training": {"batch_size": 8}},
)
"""What differs between the trainings."""
REAL = """
import sys
from pathlib import Path
from segcore.card import read_config
from segcore.training.run import train
from segcore.training.usage import Usage
from segcore.devices import choose
config, _ = read_config(Path(sys.argv[1]))
train(config, Path(sys.argv[2]))
print(Usage(choose(config.hardware)).memory)
"""


@dataclass(frozen=True)
class Comparison:
    """Bytes one training needed, and what was said before."""

    setting: str
    estimate: int
    measured: int
    real: int

    def row(self) -> str:
        """Return the table line."""
        cells = (
            date.today().isoformat(),
            describe_machine(),
            self.setting,
            f"{self.real / 1e6:.0f} MB",
            f"{self.measured / 1e6:.0f} MB → **{self.measured / self.real:.2f} ×**",
            f"{self.estimate / 1e6:.0f} MB → {self.estimate / self.real:.2f} ×",
        )
        return "| " + " | ".join(cells) + " |"


def compare(config: RunConfig, folder: Path) -> Comparison:
    """Estimate, measure and train one configuration, the latter two each in a process of its own."""
    file = folder / "config.json"
    file.write_text(config.model_dump_json(), encoding="utf-8")
    material, hardware = read_material(config), choose(config.hardware)
    guess = estimate_footprint(
        config, material.stack, hardware.dtype.itemsize, hardware.device.type == "cuda"
    )
    need = MemoryNeed.model_validate_json(_output(["-m", "segcore.dryrun", str(file), str(folder)]))
    real = int(_output(["-c", REAL, str(file), str(folder / "run")]).split()[-1])
    estimate = judge_memory(config, material.stack, need.have, guess).need
    return Comparison(_describe(config), estimate, need.need, real)


def main() -> None:
    """Compare all settings and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_estimate", description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--record", action="store_true", help="add the results to benchmarks/README.md")
    arguments = parser.parse_args()
    for setting in SETTINGS:
        with TemporaryDirectory() as name:
            images, labels = simulate(Path(name, "data"), "2class", SLICES, SIZE, 0)
            files = {"images": str(images), "labels": str(labels), "patches_per_image": 4}
            options = {**setting, "data": {**setting["data"], **files}}
            options["training"] = {**setting["training"], "epochs": 3}
            options["hardware"] = {"device": arguments.device}
            row = compare(build_config(options), Path(name)).row()
        print(row, flush=True)
        if arguments.record:
            add_row(TITLE, row)


def _output(words: list[str]) -> str:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout


def _describe(config: RunConfig) -> str:
    training = config.training
    pieces = f" in micro-batches of {training.micro_batch}" if training.micro_batch else ""
    return (
        f"patch {config.data.patch_size}, batch {training.batch_size}{pieces}, "
        f"{config.model.features} features, {config.model.layers} layers"
    )


if __name__ == "__main__":
    main()
