"""Curves: what is chosen is drawn, what happened is marked where it happened, and gaps stay gaps."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go
import pytest
from tabs_workspace import epoch

from app.curves import BEST, TROUBLE, Look, Marks, figure, plateau
from app.series import KINDS, USUAL, VALIDATION
from segcore.events import EpochEvent, InterventionEvent, ResumeEvent


def history(count: int = 10) -> list[EpochEvent]:
    new = {
        "loader_wait": 0.1,
        "memory": 10**9,
        "device_use": 0.9,
        "val_predicted_share": {"0": 0.7, "255": 0.3},
        "val_f1": 0.8,
        "val_ap50": 0.7,
        "val_pq": 0.6,
        "train_adversarial": 0.7,
        "train_discriminator": 0.6,
    }
    return [epoch(number, number / count, count).model_copy(update=new) for number in range(1, count + 1)]


def titles(drawn: dict[str, Any]) -> list[str]:
    return [one["text"] for one in drawn["layout"]["annotations"] if one["text"].startswith("<b>")]


@pytest.mark.parametrize("kinds", [(kind,) for kind in KINDS] + [USUAL, tuple(KINDS), ()])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_the_drawing_library_takes_every_choice(kinds: tuple[str, ...], log: bool, smoothing: float) -> None:
    drawn = figure(history(), Look(kinds, smoothing, log), Marks(best=3, gain=3, kept=(5, 10)))
    assert titles(drawn) == [f"<b>{KINDS[kind].title}</b>" for kind in KINDS if kind in kinds]
    assert drawn["layout"]["meta"]["charts"] == len(kinds)
    go.Figure(drawn).to_json()  # raises on anything it does not know
    json.dumps(drawn, allow_nan=False)


def test_the_raw_curve_stays_faintly_under_the_smoothed_one() -> None:
    plain = figure(history(), Look(("loss",)))["data"]
    drawn = figure(history(), Look(("loss",), smoothing=0.8))["data"]
    faint = [trace for trace in drawn if trace.get("opacity", 1) < 1]
    strong = [trace for trace in drawn if trace.get("opacity", 1) == 1]
    assert [trace["y"] for trace in faint] == [trace["y"] for trace in plain]
    assert [trace["name"] for trace in strong] == [trace["name"] for trace in plain]
    assert all(a["y"] != b["y"] for a, b in zip(strong, faint, strict=True))


def test_a_missing_epoch_leaves_a_gap_in_every_curve() -> None:
    events = [event for event in history() if event.epoch != 4]
    for trace in figure(events, Look(tuple(KINDS)))["data"]:
        assert trace["x"] == list(range(1, 11))
        assert [x for x, y in zip(trace["x"], trace["y"], strict=True) if y is None] == [4]


def test_marks_stand_where_it_happened() -> None:
    change = InterventionEvent(
        epoch=2,
        number=1,
        what="flat",
        text="The loss does not move.",
        cause="A huge rate.",
        action="Rate ÷ 3.",
    )
    marks = Marks(best=6, gain=6, interventions=(change,), resumes=(ResumeEvent(epoch=4, step=40),))
    layout = figure(history(), Look(USUAL), marks)["layout"]
    for axis in ("x", "x2"):
        own = [shape for shape in layout["shapes"] if shape["xref"] == axis]
        lines = {shape["x0"]: shape["line"]["color"] for shape in own if shape["type"] == "line"}
        assert lines[6] == BEST
        assert lines[2.5] == TROUBLE
        assert 4.5 in lines
        assert [(shape["x0"], shape["x1"]) for shape in own if shape["type"] == "rect"] == [(6, 10)]
    told = {one["text"]: one.get("hovertext", "") for one in layout["annotations"]}
    assert all(part in told["▲1"] for part in (change.text, change.cause, change.action))
    assert "epoch 4" in told["↻"]


def test_saved_epochs_are_bold_on_the_validation_curve_and_can_be_clicked() -> None:
    drawn = figure(history(), Look(("loss", "dice")), Marks(best=6, kept=(5, 10, 99)))
    saved = [trace for trace in drawn["data"] if trace["name"] == "saved"]
    curve = {trace["yaxis"]: trace for trace in drawn["data"] if trace["name"] == "validation"}
    assert {trace["yaxis"] for trace in saved} == {"y", "y2"}
    for trace in saved:
        assert trace["x"] == [5, 10]
        assert trace["y"] == [curve[trace["yaxis"]]["y"][x - 1] for x in trace["x"]]
        assert trace["marker"]["size"] > curve[trace["yaxis"]]["marker"]["size"]
        assert trace["marker"]["color"] == VALIDATION
    assert set(drawn["layout"]["meta"]["clickable"]) >= {5, 6, 10}


def test_all_charts_zoom_together_and_keep_the_zoom() -> None:
    layout = figure(history(), Look(tuple(KINDS)))["layout"]
    axes = [layout[name] for name in layout if name.startswith("xaxis")]
    assert len(axes) == len(KINDS)
    assert all(axis.get("matches") == "x" for axis in axes[1:])
    assert layout["uirevision"] == figure(history(11))["layout"]["uirevision"]


def test_only_loss_and_learning_rate_become_logarithmic() -> None:
    kinds = tuple(KINDS)
    layout = figure(history(), Look(kinds, log=True))["layout"]
    logarithmic = {
        kind for number, kind in enumerate(kinds, 1)
        if layout["yaxis" if number == 1 else f"yaxis{number}"].get("type") == "log"
    }  # fmt: skip
    assert logarithmic == {"loss", "learning_rate", "contest"}


@pytest.mark.parametrize(("gain", "expected"), [(None, None), (10, None), (8, None), (7, 7), (1, 1)])
def test_a_plateau_is_marked_only_when_it_is_one(gain: int | None, expected: int | None) -> None:
    assert plateau(Marks(gain=gain), range(1, 11)) == expected


def test_before_the_first_epoch_the_chosen_charts_are_there_empty() -> None:
    drawn = figure([], Look(("loss", "memory")))
    assert titles(drawn) == ["<b>Loss</b>", "<b>Peak memory, GB</b>"]
    # The drawing library leaves out a chart without any curve.
    assert [(curve["xaxis"], curve["x"]) for curve in drawn["data"]] == [("x", []), ("x2", [])]


def test_objects_are_drawn_unasked_where_they_are_learned_only() -> None:
    usual = ["<b>Loss</b>", "<b>Dice</b>"]
    assert titles(figure(history(), Look(USUAL))) == [*usual, "<b>Objects</b>"]
    assert titles(figure([epoch(1, 0.5)], Look(USUAL))) == titles(figure([], Look(USUAL))) == usual
    assert titles(figure([], Look(("objects",)))) == ["<b>Objects</b>"]


def test_a_legend_names_everything_once() -> None:
    drawn = figure(history(), Look(tuple(KINDS)), Marks(best=2, kept=(5,)), {"255": "cell"})
    listed = [trace["name"] for trace in drawn["data"] if trace["showlegend"]]
    assert sorted(listed) == sorted(
        [
            "training",
            "validation",
            "F1",
            "average precision",
            "panoptic quality",
            "predictions",
            "adversary",
            "class 0",
            "255 cell",
            "saved",
            "best: epoch 2",
        ]
    )


def test_a_loss_that_exploded_for_an_epoch_leaves_the_others_readable() -> None:
    calm = [epoch(number, 0.5) for number in range(1, 30)]
    whole = figure(calm)["layout"]["yaxis"]
    burst = [one.model_copy(update={"val_loss": 2491.0}) if one.epoch == 8 else one for one in calm]
    drawn = figure(burst)["layout"]
    assert "range" not in whole
    assert drawn["yaxis"]["range"][1] < 3
    assert "cut off" in titles({"layout": drawn})[0]
    assert "range" not in figure(burst, Look(log=True))["layout"]["yaxis"]
