"""The benchmark of families: those that can work, a line for each in its table, also for one that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import families
from benchmarks.datasets import CASES
from benchmarks.record import README, add_row
from segcore.families import FAMILIES


def test_the_sets_are_among_those_of_the_data_benchmark() -> None:
    assert {case.name for case in CASES} >= set(families.SETS)


def test_only_families_for_planes_are_trained() -> None:
    for size in (128, 192):
        names = families.semantic_families(size)
        assert "unet-small" in names
        assert all("2d" in FAMILIES[name].modes and "semantic" in FAMILIES[name].kinds for name in names)


def test_every_family_is_trained_alone_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*words: str) -> dict[str, Any]:
        asked.append(words)
        family = words[words.index("--families") + 1]
        if family == "fpn":
            raise RuntimeError("It learned nothing.")
        row = {"score": 0.5, "parameters": 10**6, "seconds_per_megapixel": 0.5, "model_bytes": 10**6}
        return {"families": [{**row, "family": family, "best_epoch": 3}]}

    monkeypatch.setattr(families, "segcore", answer)
    found = list(families.outcomes(("unet", "fpn"), "sandstone", 2.0))
    assert [(one.family, one.dice) for one in found] == [("unet", 0.5), ("fpn", None)]
    assert all(words[0] == "try" and words[-1] == "--json" for words in asked)
    assert "failed" in found[1].row()


def test_a_line_belongs_into_its_table(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    row = families.Outcome("a set", 2.0, "unet", 0.5, 3, 10**6, 0.5, 10**6).row()
    add_row(families.TITLE, row, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    place = lines.index(row)
    assert row.count("|") == next(line for line in reversed(lines[:place]) if line.startswith("|---")).count(
        "|"
    )
