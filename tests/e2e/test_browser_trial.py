"""Choosing a family in a real browser: the proposal is used, and two are tried and stand side by side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser_steps import choose, set_number, take_sample
from playwright.sync_api import Page, expect
from served_app import ServedApp

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(serve: Callable[..., ServedApp], tmp_path_factory: pytest.TempPathFactory) -> ServedApp:
    """Serve an empty workspace."""
    return serve(tmp_path_factory.mktemp("trial") / "workspace")


def test_the_proposal_is_used_and_two_families_stand_side_by_side(
    open_page: Callable[..., Page], app: ServedApp
) -> None:
    page = open_page(app.url, 1280)
    take_sample(page)
    page.click("#next-configure")
    choose(page, "data-patch-size", "32")
    set_number(page, "data-patches-per-image", 2)
    expect(page.locator("#family-proposal")).to_contain_text("U-Net, small")
    page.click("#use-family")
    expect(page.locator("#field-model-family input")).to_have_value("unet-small")
    expect(page.locator("#family-proposal")).to_contain_text("This is what is proposed")
    expect(page.locator("#use-family")).to_be_hidden()

    page.get_by_role("button", name="Try several families").click()
    boxes = page.locator("#tried-families")
    # 32 px are too few for the others that would be worth trying.
    expect(boxes.get_by_label("DeepLabV3+", exact=True)).to_have_count(0)
    for name in ("U-Net, small", "U-Net with attention gates"):
        boxes.get_by_label(name, exact=True).check()
    boxes.get_by_label("U-Net", exact=True).uncheck()
    for field, value in (("minutes", "0.1"), ("crop", "64")):
        page.fill(f"#try-{field} input", value)
        page.press(f"#try-{field} input", "Tab")
    page.click("#start-trial")
    trial = page.locator("#trial")
    expect(trial).to_contain_text("2 families tried for equal minutes")
    expect(trial).to_contain_text("2 ended")
    expect(trial.locator("img")).to_have_count(2)
    expect(trial.locator("tbody tr")).to_have_count(2)
    expect(trial.locator("a")).to_have_text("U-Net with attention gates")
    trial.locator("a").click()
    expect(page.locator("#trial a")).to_have_text("U-Net, small")
    expect(page.locator("#train-summary")).to_contain_text("attention gates")
    expect(page.get_by_text("is not in the list of choices")).to_have_count(0)
