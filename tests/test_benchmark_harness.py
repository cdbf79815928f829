"""The benchmarks' harness: fair turns, honest ratios, results in the right table."""

from __future__ import annotations

import pytest

from benchmarks.contest import OURS, Contest, hold
from benchmarks.record import README, record, row


def contest(title: str = "Training") -> Contest:
    return Contest(title, "a setting", "patches/s", {OURS: (20.0, 30.0, 90.0), "peer": (10.0, 10.0, 90.0)})


def test_ratio_compares_within_a_round():
    assert contest().ratio("peer") == 2.0
    assert contest().rate(OURS) == 30.0


def test_contestants_take_turns_after_a_turn_that_does_not_count():
    turns = []

    def contestant(name):
        def work(seconds):
            turns.append(name)
            return float(len(turns))

        return work

    rates = hold({"a": contestant("a"), "b": contestant("b")}, rounds=2, seconds=0.0)
    assert turns == ["a", "b"] * 3
    assert rates == {"a": (3.0, 5.0), "b": (4.0, 6.0)}


@pytest.mark.parametrize("title", ["Training", "Inference", "Monitor"])
def test_record_adds_one_line_to_the_table_of_its_title(tmp_path, title):
    path = tmp_path / "README.md"
    path.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    before = path.read_text(encoding="utf-8").split("\n")
    record(contest(title), "make bench", path)
    after = path.read_text(encoding="utf-8").split("\n")
    new = row(contest(title), "make bench")
    place = after.index(new)
    assert after[:place] + after[place + 1 :] == before
    heading = max(number for number, line in enumerate(after[:place]) if line.startswith("## "))
    assert after[heading] == f"## {title}"
    assert after[place - 1].startswith("|")
    assert "2.00 ×" in new
