"""The results as lines of the tables in `benchmarks/README.md`."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

import torch

from benchmarks.contest import OURS, Contest
from segcore.files import write_atomic

README = Path(__file__).with_name("README.md")


def describe_machine() -> str:
    """Name the processor or GPU, its cores and the limit of its instructions, and the version of torch."""
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        device = f"{_processor()}, {torch.get_num_threads()} cores{f', only {limit}' if limit else ''}"
    return f"{device}; torch {torch.__version__}"


def row(contest: Contest, command: str) -> str:
    """Return the table line of a contest."""
    peers = "; ".join(
        f"{name} {contest.rate(name):.3g} → **{contest.ratio(name):.2f} ×**" for name in contest.peers
    )
    cells = (
        date.today().isoformat(),
        describe_machine(),
        contest.setting,
        f"{contest.rate(OURS):.3g} {contest.unit}" + (f" ({contest.facts})" if contest.facts else ""),
        peers,
        f"`{command}`",
    )
    return "| " + " | ".join(cells) + " |"


def record(contest: Contest, command: str, path: Path = README) -> None:
    """Put the contest's line at the end of its table, see `add_row`."""
    add_row(contest.title, row(contest, command), path)


def add_row(title: str, line: str, path: Path = README) -> None:
    """Put a line at the end of the table under the heading `title`."""
    lines = path.read_text(encoding="utf-8").split("\n")
    place = lines.index(f"## {title}") + 1
    while not lines[place].startswith("|"):
        place += 1
    while place < len(lines) and lines[place].startswith("|"):
        place += 1
    lines.insert(place, line)
    write_atomic(path, "\n".join(lines))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
