"""The visual feedback in a real browser: scrub, follow, draw another part, take the pictures along."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from feedback_runs import FIRST, SECOND, make_watched, save_picture
from PIL import Image, ImageColor
from playwright.sync_api import Page, expect
from served_app import ServedApp
from tabs_workspace import epoch

from app.views import class_colour
from segcore.jobs.feedback import wanted
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job

SECONDS = 60
pytestmark = pytest.mark.browser
MIDDLE = """() => {
  const canvas = document.querySelector('#feedback-view canvas.classes'), { width, height } = canvas;
  const pixel = canvas.getContext('2d').getImageData(width >> 1, height >> 1, 1, 1).data;
  return [width, height, ...pixel.slice(0, 3)];
}"""


def report(job: Job, number: int) -> None:
    """Do what the training does at the end of an epoch."""
    save_picture(job.folder, SECOND, number, number % 2)
    FolderReporter(job.folder)(epoch(number, 0.5))


def test_a_run_is_scrubbed_followed_and_redirected(
    serve: Callable[..., ServedApp],
    open_page: Callable[..., Page],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    _, job = make_watched(tmp_path)  # three epochs; the last shows another part
    app = serve(tmp_path / "workspace", worker=False)
    page = open_page("about:blank", width=390)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{app.url}?run={job.id}")
    number, slider = page.locator("#feedback-view .number"), page.locator("#feedback-view input.epoch")

    def shows(at: int) -> None:
        """Wait until the picture of an epoch is there: of the right part, in the colour of its class."""
        expect(number).to_have_text(f"Epoch {at}")
        window = FIRST if at < 3 else SECOND
        picture = [window.width, window.height, *ImageColor.getrgb(class_colour(at % 2))]
        wait_until(lambda: page.evaluate(MIDDLE) == picture, SECONDS)

    shows(3)
    slider.press("Home")
    shows(1)
    loaded = len([url for url in asked if "component_server" in url])
    for key, at in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)):
        slider.press(key)
        shows(at)
    assert len([url for url in asked if "component_server" in url]) == loaded, "scrubbing asked the server"

    report(job, 4)
    expect(slider).to_have_attribute("max", "3")
    shows(2)  # who looks at an epoch is not torn away
    page.locator("#feedback-view .newest").click()
    shows(4)
    report(job, 5)
    shows(5)  # who looks at the newest goes on with it

    with page.expect_download() as started:
        page.locator("#feedback-view .still").click()
    saved = Path(started.value.path()).read_bytes()
    assert started.value.suggested_filename == f"{job.id}-epoch-5.png"
    assert Image.open(io.BytesIO(saved)).size == (SECOND.width, SECOND.height)

    page.get_by_text("Choose the part to watch").click()
    stage = page.locator("#feedback-canvas .stage")
    wait_until(
        lambda: page.evaluate("document.querySelector('#feedback-canvas img').naturalWidth") == 50, SECONDS
    )
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.9 * box["height"], steps=4)
    page.mouse.up()
    expect(page.locator("#feedback-canvas .place")).to_have_text(
        re.compile(r"Rows 8–35, columns 5–34 \(28 × 30 px\)")
    )
    stage.press("ArrowUp")
    page.locator("#feedback-canvas .take").click()
    wait_until(lambda: wanted(job.folder) == "2,0,5,28,30", SECONDS)
    expect(page.locator("#feedback-message")).to_contain_text("next epoch")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
