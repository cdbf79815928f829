"""Fixtures of the browser tests: one Chromium, the app in a process of its own, pages that must not fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from served_app import ServedApp

CHROMIUM = Path(os.environ.get("SEGCORE_CHROMIUM") or "/usr/bin/chromium")
WAIT = 120_000
"""Milliseconds until something that should be on the page is missed; long, as a busy machine is slow."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium, where there is one."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(browser: Browser) -> Iterator[Callable[..., ServedApp]]:
    """Return a function that serves a workspace, with the arguments of ServedApp."""
    apps: list[ServedApp] = []

    def start(folder: Path, worker: bool = True) -> ServedApp:
        app = ServedApp(folder, worker)
        apps.append(app)
        app.start()
        return app

    yield start
    for app in apps:
        app.close()
    for app in apps:
        assert "Traceback" not in app.log


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens an address as another person would, in a browser of their own.

    Errors of scripts fail the test.
    """
    errors: list[str] = []
    pages: list[Page] = []

    def start(address: str, width: int = 1280) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800 if width > 800 else 844})
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
        pages.append(page)
        page.goto(address)
        return page

    expect.set_options(timeout=WAIT)
    yield start
    for page in pages:
        page.close()
    assert errors == []
