"""Masks drawn by clicking in a real browser: prepare, click, accept, use as labels, and find it again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from browser_steps import take_sample
from known_objects import write_sam
from playwright.sync_api import Page, expect
from served_app import ServedApp

pytestmark = pytest.mark.browser
MODEL = "data/networks/tiny"
PAINTED = """(name) => {
  const canvas = document.querySelector(`#masks-canvas canvas.${name}`);
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let index = 3; index < data.length; index += 4) count += data[index] > 0;
  return count;
}"""


def open_panel(page: Page) -> None:
    """Open the panel and choose the network of the workspace."""
    page.get_by_role("button", name="Draw masks by clicking").click()
    network = page.locator("#masks-model input")
    network.fill(MODEL)
    network.press("Enter")
    network.press("Tab")
    expect(page.locator("#masks-canvas .stage")).to_have_attribute("aria-label", re.compile("slice 0: click"))


def test_a_person_clicks_objects_and_trains_on_them(
    serve: Callable[..., ServedApp], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    write_sam(workspace / MODEL)
    app = serve(workspace, worker=False)
    page = open_page(app.url)
    take_sample(page)
    open_panel(page)
    canvas = page.locator("#masks-canvas")
    told, worked = canvas.locator(".told"), canvas.locator(".worked")
    expect(worked).to_have_text("No object is accepted yet.")
    expect(canvas.locator(".use")).to_be_disabled()

    # Who looks at another slice while one is prepared is told which one is ready.
    canvas.locator(".prepare").click()
    canvas.locator("input.slice").fill("3")
    expect(told).to_contain_text("Slice 0: done after")
    expect(canvas.locator(".stage")).to_have_attribute("aria-label", re.compile("slice 3: click"))
    canvas.locator(".prepare").click()
    expect(told).to_contain_text("Ready after")
    stage = canvas.locator(".stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    stage.click(position={"x": 0.4 * box["width"], "y": 0.6 * box["height"]})
    expect(told).to_contain_text("Mask 1 of 3")
    assert page.evaluate(PAINTED, "mask") > 0
    canvas.locator(".other").click()
    expect(told).to_contain_text("Mask 2 of 3")
    canvas.get_by_text("Outside", exact=True).click()
    stage.click(position={"x": 0.9 * box["width"], "y": 0.1 * box["height"]})
    expect(canvas.locator(".dot")).to_have_count(2)
    expect(canvas.locator(".other")).to_be_disabled()  # two points mean one mask
    canvas.locator(".undo").click()
    expect(canvas.locator(".dot")).to_have_count(1)
    expect(canvas.locator(".accept")).to_be_enabled()
    canvas.locator(".accept").click()
    expect(worked).to_contain_text("1 object on this slice; slices with objects: 3")
    assert page.evaluate(PAINTED, "numbers") > 0
    assert page.evaluate(PAINTED, "mask") == 0

    canvas.locator(".use").click()
    expect(page.locator("#masks-message")).to_contain_text("1 object on 1 slice")
    expect(page.locator("#findings")).to_contain_text(
        "The image is a single slice"
    )  # of which labels are known
    expect(page.locator("#labels-path input")).to_have_value("data/drawn/raw_labels.tif")
    expect(page.locator("#next-configure")).to_be_enabled()

    # By keyboard, after a refresh, on a phone: what was accepted is there, and can be removed.
    phone = open_page(app.url, width=390)
    phone.click("#use-sample")
    expect(phone.locator("#findings")).to_contain_text("The data can be used.")
    open_panel(phone)
    canvas = phone.locator("#masks-canvas")
    expect(canvas.locator(".worked")).to_contain_text("slices with objects: 3")
    slider = canvas.locator("input.slice")
    for _ in range(3):
        slider.press("ArrowRight")
    expect(canvas.locator(".worked")).to_contain_text("1 object on this slice")
    stage = canvas.locator(".stage")
    stage.press("ArrowRight")
    stage.press("Enter")
    expect(canvas.locator(".told")).to_contain_text("Expected overlap")
    assert phone.evaluate(PAINTED, "mask") > 0
    stage.press("Backspace")
    expect(canvas.locator(".told")).to_have_text("Click an object.")
    phone.on("dialog", lambda dialog: dialog.accept())
    canvas.locator(".clear").click()
    expect(canvas.locator(".worked")).to_have_text("No object is accepted yet.")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_large_slice_is_worked_on_in_parts(
    serve: Callable[..., ServedApp], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    write_sam(workspace / MODEL)
    grey = np.random.default_rng(0).integers(0, 255, (1500, 1200)).astype(np.uint8)
    tifffile.imwrite(workspace / "data" / "large.tif", grey, photometric="minisblack")
    page = open_page(serve(workspace, worker=False).url)
    images = page.locator("#images-path input")
    images.fill("data/large.tif")
    images.press("Enter")
    images.press("Tab")
    open_panel(page)
    canvas = page.locator("#masks-canvas")
    stage = canvas.locator(".stage")
    canvas.get_by_text("Look closer", exact=True).click()
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    stage.click(position={"x": 0.9 * box["width"], "y": 0.9 * box["height"]})
    expect(stage).to_have_attribute("aria-label", re.compile("rows 476 to 1499, columns 176 to 1199"))
    assert page.evaluate("document.querySelector('#masks-canvas img').naturalWidth") == 1024
    stage.click(position={"x": 10, "y": 10})
    expect(canvas.locator(".told")).to_contain_text("Expected overlap")
    canvas.locator(".accept").click()
    expect(canvas.locator(".worked")).to_contain_text("1 object on this slice")
    canvas.locator(".whole").click()
    expect(stage).to_have_attribute("aria-label", re.compile("slice 0: click"))
    assert page.evaluate(PAINTED, "numbers") > 0
