"""The queue in a real browser: lines move, are dropped and paused, and who watches hears of the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from served_app import ServedApp
from tabs_workspace import make_run

from app.services import Services
from segcore.jobs.store import Job, State, end_job, read_job
from segcore.workspace import Workspace

CHROMIUM = Path(os.environ.get("SEGCORE_CHROMIUM") or "/usr/bin/chromium")
pytestmark = pytest.mark.browser


@pytest.fixture
def app(tmp_path: Path) -> Iterator[ServedApp]:
    """Serve a workspace in which nobody works: what is asked of a job stays asked."""
    app = ServedApp(tmp_path / "served", worker=False)
    app.start()
    yield app
    app.close()


@pytest.fixture
def page() -> Iterator[Page]:
    """Open a page that fails the test on any error of a script."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert errors == []


def test_lines_obey_and_a_watched_end_is_told(app: ServedApp, page: Page) -> None:
    services = Services(Workspace.open(app.workspace), worker=False)
    running = make_run(services, (0.4, 0.83), State.RUNNING, session="watched")
    first, second, third = (make_run(services, (), State.QUEUED, session=name) for name in "abc")

    page.goto(f"{app.url}?tab=runs")
    names = page.locator("#queue section").nth(1).locator(".name")
    expect(names).to_have_text(["Training a", "Training b", "Training c"])
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
    expect(page).to_have_title("starting – Segcore Studio")
    end_job(running.folder, State.FINISHED)
    expect(page).to_have_title("✓ Dice 0.83 – Segcore Studio")
    expect(page.locator(".toast-body")).to_contain_text("The training watched finished")
    page.mouse.click(200, 20)  # somebody is there: the title needs to say it no longer
    expect(page).to_have_title("Segcore Studio")


def click(page: Page, action: str, job: Job) -> None:
    page.get_by_role("button", name=f"{action}: Training {job.session} {job.id}").click()
