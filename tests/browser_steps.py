"""What the browser tests do on the page of the four steps, and read from it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

CURVES = "(document.querySelector('#curves .js-plotly-plot')?.data ?? [])"


def take_sample(page: Page) -> None:
    """Choose the sample data."""
    page.click("#use-sample")
    expect(page.locator("#findings")).to_contain_text("The data can be used.")
    expect(page.locator("#next-configure")).to_be_enabled()


def set_number(page: Page, field: str, value: float) -> None:
    """Write a number into a field of the form."""
    box = page.locator(f"#field-{field} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def choose(page: Page, field: str, value: str) -> None:
    """Choose an entry of a list of the form."""
    page.click(f"#field-{field} input")
    page.locator(f'[role=option][aria-label="{value}"]:visible').click()


def configure_tiny(page: Page, epochs: int) -> None:
    """Go from step 1 to step 3 with a network that learns in seconds."""
    page.click("#next-configure")
    page.click("#preset-quick")
    expect(page.locator("#field-data-patch-size input")).to_have_value("128")
    choose(page, "data-patch-size", "32")
    set_number(page, "data-patches-per-image", 4)
    set_number(page, "model-layers", 2)
    set_number(page, "training-epochs", epochs)
    expect(page.locator("#cost")).to_contain_text("117 k")
    page.click("#next-train")
    expect(page.locator("#train-summary")).to_contain_text(f"{epochs} epochs")


def epochs_shown(page: Page) -> int:
    """Return how many epochs the curves show."""
    return int(page.evaluate(f"Math.max(0, ...{CURVES}.map(trace => trace.x?.length ?? 0))"))


def wait_for_epochs(page: Page, count: int) -> None:
    """Wait until the curves show at least `count` epochs."""
    page.wait_for_function(
        f"count => {CURVES}.some(trace => (trace.x?.length ?? 0) >= count)",
        arg=count,
    )


def run_in_address(page: Page) -> str:
    """Return the id of the run in the address, "" without one."""
    found = re.search(r"run=([0-9a-f-]+)", page.url)
    return found[1] if found else ""
