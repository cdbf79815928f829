"""Memory in step 2: estimated at once, measured beside the page, and a proposal that the form takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tabs_workspace import make_services, write_labels, write_stack

from app import forms, memory_desk, memory_panel
from app.memory_desk import MemoryView
from app.services import Services
from segcore.config import RunConfig, build_config
from segcore.footprint import FEATURES, PATCHES, MemoryNeed
from segcore.jobs.store import create_job

MEASURED = MemoryNeed(need=6 * 10**8, have=10**9, measured=True)
DATA = ("data/images.tif", "data/labels.tif", *forms.nothing_chosen()[2:])
TEXT, FIT, PROPOSAL, TIMER = range(4)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Answer of the dry run, instead of one; every call is counted by what is left."""
    waiting = [MEASURED.model_dump_json().encode()] * 3

    begin = subprocess.Popen

    def start(words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert "segcore.dryrun" in words
        return begin([sys.executable, "-c", f"import os; os.write(1, {waiting.pop()!r})"], **options)

    monkeypatch.setattr(memory_desk.subprocess, "Popen", start)
    return waiting


def _shown(services: Services, measure: bool = False, **changes: Any) -> list[Any]:
    values = forms.from_config(RunConfig(), memory_panel.FIELDS)
    shown = [
        changes.get(field.path.replace(".", "_"), value)
        for field, value in zip(memory_panel.FIELDS, values, strict=True)
    ]
    return memory_panel.show(services, DATA, shown, measure)


def test_an_estimate_stands_there_at_once_and_the_measurement_follows(
    services: Services, answers: list[bytes], wait_until: Callable[..., None]
) -> None:
    first = _shown(services)
    assert "measuring" in first[TEXT]
    assert first[TIMER].active
    assert len(answers) == 3
    _shown(services, measure=True)
    wait_until(lambda: not _shown(services)[TIMER].active)
    assert "0.6 of what you have" in _shown(services)[TEXT]
    _shown(services, measure=True)
    assert len(answers) == 2


def test_other_settings_are_measured_anew(
    services: Services, answers: list[bytes], wait_until: Callable[..., None]
) -> None:
    _shown(services, measure=True)
    wait_until(lambda: not _shown(services)[TIMER].active)
    assert _shown(services, training_batch_size=16)[TIMER].active
    # The rate changes what is learned, but no memory.
    assert not _shown(services, training_learning_rate=2e-3)[TIMER].active


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"mode": "2.5d"}},
        {"data": {"context_slices": 5}},
        {"data": {"patch_depth": 32}},
        {"data": {"loading": "disk"}},
        {"training": {"devices": 2}},
        {"model": {"encoder": "resnet50"}},
        {"hardware": {"precision": "fp32"}},
    ],
)
def test_a_measurement_holds_for_nothing_that_needs_other_memory(
    services: Services, changes: dict[str, Any]
) -> None:
    desk = services.memory
    assert desk._key(build_config(changes)) != desk._key(RunConfig())
    assert desk._key(build_config({"training": {"seed": 7, "learning_rate": 0.1}})) == desk._key(RunConfig())


def test_a_dry_run_that_fails_leaves_the_estimate(
    services: Services, answers: list[bytes], wait_until: Callable[..., None]
) -> None:
    answers[:] = [b"", b""]
    _shown(services, measure=True)
    wait_until(lambda: not _shown(services)[TIMER].active)
    assert "estimated" in _shown(services)[TEXT]
    _shown(services, measure=True)
    assert len(answers) == 1


def test_nothing_is_measured_while_a_job_computes(services: Services, answers: list[bytes]) -> None:
    create_job(services.workspace, "train", RunConfig())
    shown = _shown(services, measure=True)
    assert not shown[TIMER].active
    assert "estimated" in shown[TEXT]
    assert len(answers) == 3


def test_without_data_nothing_is_said(services: Services) -> None:
    form = forms.from_config(RunConfig(), memory_panel.FIELDS)
    shown = memory_panel.show(services, forms.nothing_chosen(), form)
    assert shown[TEXT] == ""
    assert not shown[TIMER].active


def test_too_much_warns_and_the_proposal_goes_into_the_form_alone(services: Services) -> None:
    proposal = {"data.patch_size": 32, "training.micro_batch": 2}
    need = MemoryNeed(need=3 * 10**9, have=10**9, measured=True, proposal=proposal)
    html = memory_panel.memory_html(MemoryView(need, pending=False))
    assert "3.0 of what you have" in html
    assert "Patch size 32, Micro-batch 2" in html
    fields = memory_panel.FIELDS
    before = forms.from_config(RunConfig(), fields)
    updates = memory_panel.apply_proposal(json.dumps(proposal), *before)
    changed = {
        field.path: update.value if hasattr(update, "value") else update
        for field, update in zip(fields, updates, strict=True)
        if not (isinstance(update, dict) and update.get("__type__") == "update")
    }
    assert changed.keys() == proposal.keys()
    assert {path: int(value) for path, value in changed.items()} == proposal


def test_where_nothing_fits_it_says_what_else_can_be_done() -> None:
    need = MemoryNeed(need=3 * 10**9, have=10**9, measured=False)
    assert "part of the stack" in memory_panel.memory_html(MemoryView(need, pending=False))


def test_the_settings_proposed_can_be_chosen_in_the_form() -> None:
    choices = {field.path: set(field.choices) for field in forms.all_fields()}
    assert set(FEATURES) <= choices["model.features"]
    assert set(PATCHES) <= choices["data.patch_size"]
