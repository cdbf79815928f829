"""Charts: every epoch where it belongs, the same colours everywhere, nothing invented."""

from __future__ import annotations

import json

import pytest
from tabs_workspace import epoch

from app import charts
from app.series import TRAIN, VALIDATION


@pytest.mark.parametrize("count", [1, 2, 500])
def test_curves_show_every_epoch_of_training_and_validation(count: int) -> None:
    history = [epoch(number, 0.5 + number / 2000, count) for number in range(1, count + 1)]
    traces = charts.curves(history).data
    drawn = {(trace.name, trace.yaxis): trace for trace in traces}
    for name, axis, key in (
        ("training", "y", "train_loss"), ("validation", "y", "val_loss"),
        ("training", "y2", "train_dice"), ("validation", "y2", "val_dice"),
    ):  # fmt: skip
        trace = drawn[name, axis]
        assert list(trace.x) == list(range(1, count + 1))
        assert list(trace.y) == pytest.approx([getattr(event, key) for event in history], rel=1e-4)
        assert trace.line.color == {"training": TRAIN, "validation": VALIDATION}[name]


def test_the_kept_epoch_is_marked() -> None:
    history = [epoch(1, 0.3), epoch(2, 0.6), epoch(3, 0.5, best=False)]
    marks = [trace for trace in charts.curves(history).data if "best" in trace.name]
    assert [(mark.x[0], mark.y[0]) for mark in marks] == [(2, 0.75), (2, 0.6)]
    chosen = [trace for trace in charts.curves(history, best=1).data if "best" in trace.name]
    assert chosen[0].x[0] == 1


def test_a_value_that_is_no_number_leaves_a_gap() -> None:
    figure = charts.curves([epoch(1, 0.3), epoch(2, float("nan"), best=False)])
    assert "NaN" not in figure.to_json()
    assert [trace.y[1] for trace in figure.data if trace.name == "training" and trace.yaxis == "y2"] == [None]


def test_charts_without_epochs_can_be_drawn() -> None:
    json.loads(charts.curves([]).to_json())
    json.loads(charts.compare({"one": []}).to_json())


@pytest.mark.parametrize("metric", charts.METRICS)
def test_compared_runs_keep_their_names_and_values(metric: str) -> None:
    histories = {"first": [epoch(1, 0.3), epoch(2, 0.4)], "second": [epoch(1, 0.5)]}
    traces = charts.compare(histories, metric).data
    assert {trace.name: list(trace.y) for trace in traces} == {
        name: [getattr(event, metric) for event in history] for name, history in histories.items()
    }
    assert len({trace.line.color for trace in traces}) == 2
