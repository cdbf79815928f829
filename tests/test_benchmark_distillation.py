"""The benchmark of distillation: who is trained with what, and a line that says whether it was reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import distillation
from benchmarks.contest import OURS, Contest
from benchmarks.datasets import CASES
from benchmarks.record import README, add_row
from segcore.config import ModelConfig
from segcore.models.build import build_model


def outcome(dice: float = 0.9, rate: float = 8.0) -> distillation.Outcome:
    """Return a teacher of Dice 0.91 and 2 Mpx/s beside a student."""
    learned = distillation.Learned
    speed = Contest("", "", "Mpx/s", {OURS: (rate, rate), "teacher": (2.0, 2.0)})
    return distillation.Outcome(
        "a set", 2.0, learned(0.91, 31_000_000), learned(dice, 4_400_000), learned(0.8, 4_400_000), speed
    )


def test_the_sets_are_among_those_of_the_data_benchmark_and_the_networks_of_the_sizes_asked_for() -> None:
    assert {case.name for case in CASES} >= set(distillation.SETS)
    teacher, student = (
        sum(weight.numel() for weight in build_model(ModelConfig(**options), 1, 2).parameters())
        for options in (distillation.TEACHER, distillation.STUDENT)
    )
    assert teacher > 31_000_000
    assert student <= 4_500_000


def test_the_same_options_train_all_and_only_one_has_a_teacher(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*words: str) -> dict[str, Any]:
        asked.append(words)
        folder = tmp_path / str(len(asked))
        folder.mkdir()
        results = {"metrics": {"val_dice": 0.1 * len(asked)}, "parameters": len(asked)}
        (folder / "results.json").write_text(json.dumps(results))
        return {"run_folder": str(folder)}

    case = next(case for case in CASES if case.name in distillation.SETS)
    monkeypatch.setattr(distillation, "segcore", answer)
    data = distillation.options_of(case)
    teacher = distillation.train(data, distillation.TEACHER, 2.0, tmp_path)
    distillation.train(data, distillation.STUDENT, 2.0, tmp_path, teacher)
    distillation.train(data, distillation.STUDENT, 2.0, tmp_path)
    given = [dict(zip(words[1:-1:2], words[2:-1:2], strict=True)) for words in asked]
    assert [one.pop("--training.teacher", None) for one in given] == [None, str(teacher), None]
    assert given[1] == given[2]
    assert given[0].pop("--model.features") != given[1].pop("--model.features")
    assert given[0] == given[1]
    assert distillation.learned(teacher) == distillation.Learned(0.1, 1)


@pytest.mark.parametrize(
    ("dice", "rate", "reached"), [(0.9, 8.0, True), (0.88, 8.0, False), (0.92, 7.9, False)]
)
def test_near_and_fast_enough_is_reached(dice: float, rate: float, reached: bool) -> None:
    assert outcome(dice, rate).reached is reached
    assert outcome(dice, rate).row().endswith("| yes |" if reached else "| no |")


def test_a_line_belongs_into_its_table(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    row = outcome().row()
    add_row(distillation.TITLE, row, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    place = lines.index(row)
    assert row.count("|") == next(line for line in reversed(lines[:place]) if line.startswith("|---")).count(
        "|"
    )
