"""The queue in a real browser: lines move, are dropped and paused, and who watches hears of the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from served_app import ServedApp
from tabs_workspace import make_run

from app.services import Services
from segcore.events import Progress
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, end_job, read_job
from segcore.workspace import Workspace

pytestmark = pytest.mark.browser


def test_lines_obey_and_a_watched_end_is_told(
    serve: Callable[..., ServedApp], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    # Nobody works there: what is asked of a job stays asked.
    app = serve(tmp_path / "served", worker=False)
    services = Services(Workspace.open(app.workspace), worker=False)
    running = make_run(services, (0.4, 0.83), State.RUNNING, session="watched")
    first, second, third = (make_run(services, (), State.QUEUED, session=name) for name in "abc")

    page = open_page(f"{app.url}?tab=runs", width=390)
    names = page.locator("#queue section").nth(1).locator(".name")
    expect(names).to_have_text(["Training a", "Training b", "Training c"])
    pause = page.get_by_role("button", name=f"Pause: Training watched {running.id}")
    pause.evaluate("button => { window.pressed = button; }")
    progress = Progress(stage="training", done=1, total=10, unit="step", epoch=7, epochs=10)
    FolderReporter(running.folder)(progress)
    expect(page.locator("#queue section").first).to_contain_text("epoch 7 of 10")
    assert page.evaluate("window.pressed.isConnected"), "a click that had begun there would be lost"
    click(page, "Make it the first", third)
    expect(names).to_have_text(["Training c", "Training a", "Training b"])
    click(page, "Drop", first)
    expect(page.locator("#queue .ask")).to_contain_text("nothing is lost")
    page.locator("#queue .ask").get_by_text("Drop").click()
    expect(names).to_have_text(["Training c", "Training b"])
    assert read_job(first.folder).state is State.DISCARDED
    click(page, "Pause", second)
    held = page.locator("#queue section").last
    expect(held).to_contain_text("Paused")
    expect(held.get_by_role("button", name="Resume")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.goto(f"{app.url}?run={running.id}")
    expect(page).to_have_title("epoch 7/10 – Segcore Studio")
    end_job(running.folder, State.FINISHED)
    expect(page).to_have_title("✓ Dice 0.83 – Segcore Studio")
    expect(page.locator(".toast-body")).to_contain_text("The training watched finished")
    page.mouse.click(200, 20)  # somebody is there: the title needs to say it no longer
    expect(page).to_have_title("Segcore Studio")


def click(page: Page, action: str, job: Job) -> None:
    page.get_by_role("button", name=f"{action}: Training {job.session} {job.id}").click()
