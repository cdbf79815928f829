"""Step 1 in a real browser: a folder with numbered objects, its axes, and the data doctor's repair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Page, expect
from served_app import ServedApp

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(serve: Callable[..., ServedApp], tmp_path_factory: pytest.TempPathFactory) -> ServedApp:
    """Serve a folder of three images of two channels, in which every object has its own number."""
    workspace = tmp_path_factory.mktemp("data") / "workspace"
    rng = np.random.default_rng(0)
    rows, columns = np.indices((96, 96))
    for folder in ("images", "masks"):
        (workspace / "data" / "cells" / folder).mkdir(parents=True)
    for number in range(3):
        image, labels = rng.normal(50, 5, (2, 96, 96)), np.zeros((96, 96), np.uint16)
        for cell in range(36):
            row, column = 8 + 16 * (cell // 6), 8 + 16 * (cell % 6)
            inside = (rows - row) ** 2 + (columns - column) ** 2 < 25
            image[:, inside] += 100
            labels[inside] = cell + 1
        for folder, pixels, axes in (("images", image.astype(np.uint16), "CYX"), ("masks", labels, "YX")):
            path = workspace / "data" / "cells" / folder / f"{number}.tif"
            tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes})
    return serve(workspace, worker=False)


def choose(page: Page, name: str, text: str) -> None:
    page.click(f"#{name}-path input")
    page.locator("[role=option]:visible", has_text=text).first.click()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_folder_is_read_examined_and_repaired(
    open_page: Callable[..., Page], app: ServedApp, width: int
) -> None:
    page = open_page(app.url, width)
    expect(page.locator("#header")).to_contain_text("device")
    choose(page, "images", "data/cells/images/ · 3 files")
    expect(page.locator("#findings")).to_contain_text("Now choose the annotations")
    choose(page, "labels", "data/cells/masks/ · 3 files")
    reading = page.locator("#reading")
    expect(reading.locator(".chip[aria-pressed=true]")).to_have_text("C 2 · Y 96 · X 96")
    expect(reading.locator(".channels tbody tr")).to_have_count(2)
    expect(reading).to_contain_text("3 images, all with annotations")

    reading.locator(".channels input[type=text]").first.fill("DNA")
    reading.locator(".channels input[type=checkbox]").nth(1).uncheck()
    expect(reading.locator(".channels input[type=text]").nth(1)).to_be_disabled()
    expect(reading.locator(".channels input[type=text]").first).to_have_value("DNA")

    proposal = page.locator("#doctor-proposals article", has_text="number")
    expect(proposal.locator("img")).to_have_count(2)
    proposal.get_by_role("button", name="Apply").click()
    expect(page.locator("#data-legend li")).to_have_count(2)
    expect(page.locator("#doctor-proposals")).to_contain_text("nothing to object to")
    expect(page.locator("#next-configure")).to_be_enabled()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
