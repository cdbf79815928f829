"""The tabs in a real browser: what one sees, clicks, types and scrolls, on a large and on a small screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Locator, Page, expect
from served_app import ServedApp
from tabs_workspace import make_result, make_run, make_services, write_labels, write_stack

from app.services import Services
from segcore.jobs.store import State

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    services = make_services(tmp_path_factory.mktemp("tabs"))
    write_stack(services)
    write_labels(services)
    wide = (np.indices((2400, 3600)).sum(0) % 251).astype(np.uint8)
    tifffile.imwrite(services.workspace.data / "wide.tif", wide, tile=(256, 256))
    return services


@pytest.fixture(scope="module")
def address(services: Services, serve: Callable[..., ServedApp], empty_store: Path) -> str:
    """Serve the workspace."""
    mlruns = services.workspace.root.parent / "mlruns"
    mlruns.mkdir()
    (mlruns / "mlflow.db").write_bytes(empty_store.read_bytes())
    return serve(services.workspace.root, worker=False).url.rstrip("/")


@pytest.fixture
def page(open_page: Callable[..., Page], request: pytest.FixtureRequest) -> Page:
    return open_page("about:blank", getattr(request, "param", 1280))


def open_tab(page: Page, address: str, name: str, query: str = "") -> None:
    page.goto(f"{address}/?tab={name.lower()}{query}")
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def source(page: Page) -> str:
    return page.locator("#viewer-picture img.base").get_attribute("src") or ""


def scale(page: Page) -> float:
    match = re.search(
        r"scale\(([\d.]+)\)", page.locator("#viewer-picture .layers").get_attribute("style") or ""
    )
    return float(match[1]) if match else 0.0


def expect_another(page: Page, before: str) -> str:
    expect(page.locator("#viewer-picture img.base")).not_to_have_attribute("src", before)
    return source(page)


def wheel(page: Page, stage: Locator, turns: int) -> None:
    stage.hover()
    for _ in range(turns):
        page.mouse.wheel(0, -300)


def test_a_link_shows_a_result_over_its_image_and_zoom_outlives_a_change_of_slice(
    page: Page, address: str, services: Services
) -> None:
    result = make_result(services)
    open_tab(page, address, "Viewer", f"&path={result}")
    stage = page.locator("#viewer-picture .stage")
    expect(stage).to_have_attribute("aria-label", f"data/images.tif, slice 1, with {result}")
    fitted, first = scale(page), source(page)
    wheel(page, stage, 4)
    expect(page.locator("#viewer-picture .zoomed")).to_be_visible()
    zoomed = scale(page)
    assert zoomed > 2 * fitted
    page.locator("#viewer-slice input[type=number]").fill("2")
    page.keyboard.press("Enter")
    second = expect_another(page, first)
    assert scale(page) == zoomed
    page.locator("#viewer-classes").get_by_label("255").uncheck()
    expect_another(page, second)
    stage.press("0")
    expect(page.locator("#viewer-picture .zoomed")).to_have_count(0)
    assert scale(page) == fitted


def test_a_huge_plane_is_shown_in_full_detail_where_one_zooms_in(page: Page, address: str) -> None:
    open_tab(page, address, "Viewer", "&path=data/wide.tif")
    stage = page.locator("#viewer-picture .stage")
    expect(stage).to_have_attribute("aria-label", "data/wide.tif, slice 0")
    detail = page.locator("#viewer-picture img.detail")
    expect(detail).to_be_hidden()
    wheel(page, stage, 6)
    expect(detail).to_be_visible()
    # One pixel of the detail is one of the plane: its size in the plane's pixels is its own size.
    sizes = detail.evaluate("img => [img.naturalWidth, parseFloat(img.style.width)]")
    assert sizes[0] == sizes[1] > 0


def test_the_runs_are_listed_compared_and_shown_by_keyboard(
    page: Page, address: str, services: Services
) -> None:
    first = make_run(services, (0.4, 0.6), model={"features": 16})
    second = make_run(services, (0.5,), State.FAILED, model={"features": 32})
    open_tab(page, address, "Runs")
    lines = page.locator("#runs-table tbody tr")
    expect(lines).to_have_count(2)
    expect(lines.first).to_contain_text("failed")
    page.get_by_role("button", name=first.id).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#runs-details h3")).to_contain_text(first.id)
    expect(page.locator("#runs-details .js-plotly-plot")).to_be_visible()
    for run in (first, second):
        page.get_by_label(f"Compare {run.id}").check()
    expect(page.locator("#runs-comparison")).to_contain_text("model.features")
    expect(page.locator("#runs-comparison .js-plotly-plot")).to_be_visible()


def test_a_registry_without_models_says_how_to_make_one(page: Page, address: str) -> None:
    open_tab(page, address, "Models")
    expect(page.locator("#models-status")).to_contain_text("No model is registered yet", timeout=60_000)
    page.locator("#models-remove").click()
    expect(page.locator("#models-remove-confirm")).to_contain_text("No version is chosen")
    expect(page.locator("#models-remove-yes")).to_be_hidden()


def test_a_file_is_deleted_only_after_the_question(page: Page, address: str, services: Services) -> None:
    path = services.workspace.data / "spare.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8))
    open_tab(page, address, "Files")
    page.get_by_role("button", name="data/").click()
    page.get_by_role("button", name="spare.tif").click()
    expect(page.locator("#files-facts")).to_contain_text("20 × 30")
    with page.expect_download() as download:
        page.locator("#files-facts").get_by_text("Download").click()
    assert Path(download.value.path()).read_bytes() == path.read_bytes()
    page.locator("#files-delete").click()
    expect(page.locator("#files-delete-confirm")).to_contain_text("data/spare.tif")
    page.locator("#files-delete-no").click()
    expect(page.locator("#files-delete-confirm")).to_be_hidden()
    assert path.exists()
    page.locator("#files-delete").click()
    page.locator("#files-delete-yes").click()
    expect(page.locator("#files-message")).to_contain_text("is deleted")
    assert not path.exists()
    expect(page.get_by_role("button", name="spare.tif")).to_have_count(0)
    expect(page.get_by_role("button", name="images.tif")).to_be_visible()


def test_the_help_is_found_by_a_word(page: Page, address: str) -> None:
    open_tab(page, address, "Help")
    expect(page.locator("#help-text")).to_contain_text("Quick start")
    page.get_by_label("Search").fill("focal")
    expect(page.locator("#help-text")).to_contain_text("cross-entropy")
    expect(page.locator("#help-text")).to_contain_text("--training.loss")


@pytest.mark.parametrize("page", [390], indirect=True)
def test_nothing_is_cut_off_on_a_phone(page: Page, address: str) -> None:
    for name in ("Runs", "Models", "Viewer", "Files", "Help"):
        open_tab(page, address, name, "&path=data/images.tif")
        if name == "Viewer":
            expect(page.locator("#viewer-picture img.base")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
