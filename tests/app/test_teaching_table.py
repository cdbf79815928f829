"""Step 3 shows a network beside its teacher once both have been compared, and nothing otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tabs_workspace import make_run, make_services

from app.services import Services
from app.steps import train
from app.teaching_table import teaching_html

LEARNED = {
    "reference": "/somewhere",
    "student": {"dice": 0.81, "parameters": 4_400_000, "seconds_per_megapixel": 0.1, "bytes": 17_500_000},
    "teacher": {"dice": 0.83, "parameters": 31_000_000, "seconds_per_megapixel": 0.9, "bytes": 124_000_000},
    "agreement": 0.9512,
}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def html(services: Services, results: dict[str, object] | None) -> str:
    run = make_run(services)
    if results is not None:
        (run.folder / "results.json").write_text(json.dumps(results))
    shown = dict(zip(train.SHOWN, train.show(services, run.id), strict=False))
    told = teaching_html(services.job(run.id))
    assert shown["numbers"].endswith(told)
    return told


def test_network_and_teacher_stand_side_by_side(services: Services) -> None:
    told = html(services, {"teaching": LEARNED})
    for text in (
        "0.810",
        "0.830",
        "4.4 M",
        "31 M",
        "0.9",
        "18 MB",
        "124 MB",
        "0.951",
        "-0.020",
        "9.0 × less",
    ):
        assert text in told, text
    assert told.index("This network") < told.index("Its teacher")


def test_masks_as_a_teacher_cost_nothing_that_is_known(services: Services) -> None:
    told = html(services, {"teaching": LEARNED | {"teacher": {"dice": 0.8}}})
    assert "+0.010" in told
    assert "less" not in told
    assert told.count("<td") == 4 * 4


def test_a_network_that_costs_more_than_its_teacher_is_told_so(services: Services) -> None:
    told = html(services, {"teaching": {"student": LEARNED["teacher"], "teacher": LEARNED["student"]}})
    assert "9.0 × more" in told
    assert "less" not in told


def test_without_a_comparison_there_is_no_table(services: Services) -> None:
    for results in (None, {}, {"teaching": {"reference": "/masks"}}, {"teaching": "nonsense"}):
        assert html(services, results) == ""


def test_what_is_not_known_is_a_dash(services: Services) -> None:
    told = html(services, {"teaching": {"student": {"dice": 0.5}}})
    assert "–" in told
    assert "Its teacher" not in told
    assert "Compared" not in told
