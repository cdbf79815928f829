"""Insight: what the doctor proposes is applied to the options, and undone; classes and grey values."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tabs_workspace import make_services

from app import doctor_panel, forms, insight
from app.examinations import Examination
from app.services import Services
from segcore.card import Histogram
from segcore.config import DataConfig, RunConfig
from segcore.data.doctor.proposal import ClassRow, Diagnosis, Normalized, Proposal
from segcore.data.report import Finding

VALUES = forms.from_config(RunConfig(session="em"), insight.FIELDS)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Blobs whose labels are upside down."""
    services = make_services(tmp_path)
    grid = np.indices((128, 128))
    images, labels = np.full((4, 128, 128), 40, np.uint8), np.zeros((4, 128, 128), np.uint8)
    rng = np.random.default_rng(0)
    for plane in range(4):
        for row, column in rng.integers(12, 116, (9, 2)) * [[0.5, 1]]:
            inside = (grid[0] - row) ** 2 + (grid[1] - column) ** 2 < 90
            images[plane][inside], labels[plane][inside] = 200, 1
    for name, stack in (("images", images), ("labels", labels[:, ::-1])):
        tifffile.imwrite(
            services.workspace.data / f"{name}.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"}
        )
    return services


def chosen(**options: Any) -> list[Any]:
    data = DataConfig(images="data/images.tif", labels="data/labels.tif", **options)
    return list(forms.shown_data(data).values())


def shown(services: Services, data: list[Any]) -> dict[str, Any]:
    names = list(insight.Insight.__dataclass_fields__)
    deadline = time.monotonic() + 60
    while True:
        updates = dict(zip(names, insight.show(services, data, VALUES), strict=True))
        if not updates["timer"].active:
            return updates
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_repair_is_proposed_applied_and_undone(services: Services) -> None:
    updates = shown(services, chosen())
    cards = {card["key"]: card for card in updates["doctor"]["proposals"]}
    key = next(key for key in cards if "labels.flip Y" in key)
    assert cards[key]["before"].startswith("data:image/png")
    assert "repair" in updates["doctor_box"].label

    changed = insight.apply_proposal(services, key, chosen(), VALUES)
    assert changed[forms.DATA.index("recipe")] == "labels.flip Y"
    assert sum(isinstance(one, str) for one in changed) == 1, "nothing else is touched"

    repaired = shown(services, chosen(recipe=["labels.flip Y"]))
    assert not any("flip" in card["key"] for card in repaired["doctor"]["proposals"])
    assert [step["line"] for step in repaired["doctor"]["applied"]] == ["labels.flip Y"]
    back = insight.undo_line("labels.flip Y", chosen(recipe=["labels.flip Y"]), VALUES)
    assert back[forms.DATA.index("recipe")] == ""


def test_options_that_a_proposal_changes_reach_their_fields(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding(level="warning", what="numbered", where="labels.tif")
    proposal = Proposal("instances", finding, options={"labels_as": "foreground"})
    monkeypatch.setattr(
        services.examinations, "of", lambda data: Examination(diagnosis=Diagnosis(proposals=(proposal,)))
    )
    changed = insight.apply_proposal(services, proposal.key, chosen(), VALUES)
    paths = [*(f"data.{name}" for name in forms.DATA), *(field.path for field in insight.FIELDS)]
    touched = {path: one for path, one in zip(paths, changed, strict=True) if isinstance(one, str)}
    assert touched == {"data.labels_as": "foreground"}


def test_a_proposal_that_is_gone_changes_nothing(services: Services) -> None:
    changed = insight.apply_proposal(services, "nothing: like this", chosen(), VALUES)
    assert not any(isinstance(one, str) for one in changed)


def test_without_labels_nothing_is_examined(services: Services) -> None:
    names = list(insight.Insight.__dataclass_fields__)
    data = list(forms.shown_data(DataConfig(images="data/images.tif")).values())
    updates = dict(zip(names, insight.show(services, data, VALUES), strict=True))
    assert not updates["timer"].active
    assert not updates["doctor_box"].visible


def test_files_that_cannot_be_read_are_explained(services: Services) -> None:
    (services.workspace.data / "labels.tif").write_bytes(b"II*\0")
    updates = shown(services, chosen())
    assert updates["doctor"]["text"]
    assert updates["doctor"]["proposals"] == []


def test_classes_are_shares_with_weights_and_objects_are_no_classes() -> None:
    rows = (ClassRow("a.tif", {0: 75, 1: 25}, 1, 1), ClassRow("b.tif", {0: 100}, 1, 4))
    text = insight.classes_html(
        Diagnosis(rows=rows, weights={"inverse": {0: 0.6, 1: 4.0}}), ["ground", "cell"]
    )
    for part in ("1 cell", "25 %", "1 of 4", "In all", "88 %", "0.6", "Inverse"):
        assert part in text
    many = ClassRow("a.tif", dict.fromkeys(range(99), 1), 1, 1)
    assert "99 values" in insight.classes_html(Diagnosis(rows=(many,)))


def test_the_normalisation_in_use_is_marked() -> None:
    histogram = Histogram(low=0, high=8, counts=(1, 2, 3, 4))
    normalized = tuple(Normalized(kind, "set", 0, histogram) for kind in ("percentile", "z-score"))
    html = insight.grey_html(Diagnosis(raw=(histogram,), normalized=normalized), "z-score, set")
    assert html.count("<svg") == 3
    assert html.count("aria-current") == 1
    assert "z-score, set ✓" in html


def test_progress_is_said_while_the_doctor_works() -> None:
    value = doctor_panel.doctor_value(Examination(done=1, total=4), DataConfig())
    assert "25 %" in value["text"]
    assert Examination(done=1, total=4).pending
