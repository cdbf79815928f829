"""The four steps in a real browser: train and segment, come back after a refresh, stop, bring a model."""

from __future__ import annotations

import json
import os
import pickle
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
import tifffile
from browser_steps import (
    choose,
    configure_tiny,
    epochs_shown,
    run_in_address,
    set_number,
    take_sample,
    wait_for_epochs,
)
from playwright.sync_api import Page, expect
from served_app import ServedApp

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(serve: Callable[..., ServedApp], tmp_path_factory: pytest.TempPathFactory) -> ServedApp:
    """Serve an empty workspace."""
    return serve(tmp_path_factory.mktemp("steps") / "workspace")


@pytest.fixture
def new_page(open_page: Callable[..., Page], app: ServedApp) -> Callable[..., Page]:
    """Return a function that opens the app as a new person would."""

    def start(width: int = 1280) -> Page:
        page = open_page(app.url, width)
        expect(page.locator("#header")).to_contain_text("device: CPU")
        return page

    return start


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


def job_state(app: ServedApp, run: str) -> str:
    folder = next((app.workspace / "models").glob(f"*/{run}"))
    return str(json.loads((folder / "job.json").read_text())["state"])


def test_train_refresh_and_segment(page: Page, app: ServedApp) -> None:
    expect(page.locator("#next-configure")).to_be_disabled()
    take_sample(page)
    expect(page.locator("#data-picture img")).to_be_visible()
    expect(page.locator("#data-legend")).to_contain_text("12 × 192 × 192")
    first = page.locator("#data-picture img").get_attribute("src")
    box = page.locator("#data-slice input[type=number]")
    box.fill("7")
    box.press("Tab")
    expect(page.locator("#data-picture img")).not_to_have_attribute("src", first or "")

    configure_tiny(page, epochs=60)
    page.click("#start-training")
    wait_for_epochs(page, 2)
    run = run_in_address(page)
    expect(page.locator("#train-progress")).to_contain_text("of 60")
    assert page.evaluate("document.documentElement.dataset.lean") == "true", (
        "app/lean.js does not fit this Gradio"
    )

    assert job_state(app, run) == "running"
    page.reload()
    wait_for_epochs(page, 3)
    assert run_in_address(page) == run
    expect(page.locator("#train-summary")).to_contain_text(run)

    expect(page.locator("#next-inference")).to_be_visible()
    expect(page.locator("#train-progress")).to_contain_text("Finished")
    wait_for_epochs(page, 60)
    assert epochs_shown(page) == 60
    names = page.evaluate("document.querySelector('#curves .js-plotly-plot').data.map(trace => trace.name)")
    assert {"training", "validation"} <= set(names)
    assert any(name.startswith("best: epoch") for name in names)
    numbers = [float(text) for text in page.locator("#train-numbers dd").all_inner_texts()]
    assert len(numbers) == 4
    # The options came back with the run, so that the same can be trained again.
    expect(page.locator("#start-training")).to_have_text("Train once more")
    page.get_by_role("button", name="The same as a command").click()
    expect(page.locator("#train-command")).to_contain_text("--training.epochs 60")

    page.click("#next-inference")
    expect(page.locator("#infer-model input")).to_have_value(re.compile(run))
    page.click("#infer-images-path input")
    page.locator("[role=option]:visible", has_text="raw.tif").click()
    page.click("#run-segmentation")
    link = page.locator("#download-segmentation a.download").first
    expect(link).to_be_visible()
    expect(page.locator("#infer-picture img")).to_have_count(2)
    expect(page.locator("#infer-classes")).to_contain_text("Pixels")
    with urllib.request.urlopen(urljoin(app.url, link.get_attribute("href"))) as answer:
        copy = app.workspace.parent / "download.tif"
        copy.write_bytes(answer.read())
    assert tifffile.imread(copy).shape == (12, 192, 192)

    page.click("#open-viewer")
    expect(page.locator("#viewer-picture img.base")).to_be_visible()
    page.get_by_role("tab", name="Segment", exact=True).first.click()
    page.get_by_role("button", name="Compare with annotations").click()
    page.get_by_role("radio", name="The model's validation images").check()
    page.click("#run-comparison")
    expect(page.locator("#infer-classes")).to_contain_text("what validated the model")
    expect(page.locator("#infer-picture")).to_contain_text("too much")
    evaluation = run_in_address(page)
    page.reload()
    expect(page.locator("#infer-classes")).to_contain_text("what validated the model")
    assert run_in_address(page) == evaluation
    page.click("#new-analysis")
    expect(page.locator("#use-sample")).to_be_visible()
    expect(page.locator("#next-configure")).to_be_disabled()
    page.wait_for_function("!window.location.search.includes('run=')")


def test_a_run_survives_the_server_and_is_stopped_from_another_browser(
    page: Page, new_page: Callable[..., Page], app: ServedApp
) -> None:
    take_sample(page)
    configure_tiny(page, epochs=500)
    page.click("#start-training")
    wait_for_epochs(page, 1)
    run = run_in_address(page)

    app.kill()
    app.start()
    other = new_page()
    expect(other.locator("#resume")).to_contain_text("A training of this workspace is under way")
    other.click("#watch-run")
    seen = epochs_shown(other)
    wait_for_epochs(other, seen + 2)
    other.wait_for_url(re.compile(f"run={run}"))

    other.click("#stop-training")
    expect(other.locator("#stop-training-confirm")).to_contain_text("the best model so far is kept")
    other.click("#stop-training-no")
    expect(other.locator("#stop-training-confirm")).to_be_hidden()
    other.click("#stop-training")
    other.click("#stop-training-yes")
    expect(other.locator("#train-progress")).to_contain_text("Stopped")
    expect(other.locator("#next-inference")).to_be_visible()
    folder = next((app.workspace / "models").glob(f"*/{run}"))
    assert (folder / "best_model.pth").is_file()
    assert job_state(app, run) == "cancelled"


class Bomb:
    """What a malicious model file holds: opening it by pickle would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def model_files(tmp_path: Path) -> dict[str, Path]:
    """Make a model, the configuration of another one, and a model file with code in it."""
    from segcore.card import ModelCard, Normalization, write_config
    from segcore.config import build_config
    from segcore.models.build import build_model
    from segcore.models.saved import save_weights

    card = ModelCard(
        channels=1, class_values=(0, 255), class_names=("outside", "inside"), axes="ZYX", dtype="uint16",
        normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
    )  # fmt: skip
    files = {name: tmp_path / name for name in ("Modell über.pth", "right.json", "other.json", "bomb.pth")}
    for name, features in (("right.json", 4), ("other.json", 8)):
        config = build_config({"session": "import", "model": {"features": features, "layers": 2}})
        write_config(files[name], config, card)
        if name == "right.json":
            save_weights(build_model(config.model, 1, 2), files["Modell über.pth"])
    files["bomb.pth"].write_bytes(pickle.dumps({"weight": Bomb(tmp_path / "exploded")}))
    tifffile.imwrite(tmp_path / "new.tif", np.zeros((2, 40, 50), np.uint16), metadata={"axes": "ZYX"})
    return files | {"new.tif": tmp_path / "new.tif", "exploded": tmp_path / "exploded"}


def upload(page: Page, name: str, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click(f"#{name}-upload")
    chooser.value.set_files(path)
    expect(page.locator(f"#{name}-path input")).to_have_value(re.compile(re.escape(path.stem)))


def test_a_model_is_brought_along(page: Page, app: ServedApp, model_files: dict[str, Path]) -> None:
    page.get_by_role("button", name="Use a pretrained model").click()
    expect(page.locator("#use-sample")).to_be_hidden()
    page.locator("#model-kind").get_by_text("Files", exact=True).click()
    status = page.locator("#model-status")

    upload(page, "weights", model_files["bomb.pth"])
    upload(page, "model-config", model_files["right.json"])
    expect(status).to_contain_text("could run code")
    assert not model_files["exploded"].exists()
    expect(page.locator("#next-segment")).to_be_disabled()

    upload(page, "weights", model_files["Modell über.pth"])
    expect(status).to_contain_text("4 features and 2 layers, classes 0, 255")
    upload(page, "model-config", model_files["other.json"])
    expect(status).to_contain_text("does not belong to this configuration")
    expect(page.locator("#next-segment")).to_be_disabled()
    upload(page, "model-config", model_files["right.json"])  # saved as right-1.json: nothing is overwritten
    expect(page.locator("#next-segment")).to_be_enabled()
    assert (app.workspace / "data" / "right-1.json").is_file()

    page.click("#next-segment")
    expect(page.locator("#infer-model input")).to_have_value("Modell über.pth")
    upload(page, "infer-images", model_files["new.tif"])
    page.click("#run-segmentation")
    expect(page.locator("#download-segmentation a.download").first).to_be_visible()
    expect(page.locator("#infer-classes")).to_contain_text("inside")
    newest = max((app.workspace / "results").iterdir())
    written = tifffile.imread(newest / "segmentation.tif")
    assert written.shape == (2, 40, 50)
    assert set(np.unique(written)) <= {0, 255}


def test_bad_data_is_explained_and_the_remedy_is_a_button(page: Page, tmp_path: Path) -> None:
    notes = tmp_path / "notes.tif"
    notes.write_text("not an image")
    upload(page, "images", notes)
    expect(page.locator("#findings")).to_contain_text("text file")
    take_sample(page)
    expect(page.locator("#next-configure")).to_be_enabled()
    page.click("#images-path input")
    page.locator("[role=option]:visible", has_text="notes.tif").click()
    expect(page.locator("#findings")).to_contain_text("text file")
    expect(page.locator("#next-configure")).to_be_disabled()

    take_sample(page)
    for name, other in (("images", "labels.tif"), ("labels", "raw.tif")):
        page.click(f"#{name}-path input")
        page.locator("[role=option]:visible", has_text=f"sample/{other}").click()
    page.click("#swap")
    expect(page.locator("#images-path input")).to_have_value("data/sample/raw.tif")
    expect(page.locator("#next-configure")).to_be_enabled()


def test_errors_and_help_stand_at_the_field(page: Page) -> None:
    take_sample(page)
    page.click("#next-configure")
    page.click("#preset-quick")
    # Only once the preset is in the form: it would overwrite what is typed before.
    expect(page.locator("#field-training-epochs input[type=number]")).to_have_value("20")
    set_number(page, "model-layers", 6)
    expect(page.locator("#field-data-patch-size-error")).to_be_hidden()
    choose(page, "data-patch-size", "96")
    expect(page.locator("#field-data-patch-size-error")).to_contain_text("does not fit model.layers 6")
    expect(page.locator("#next-train")).to_be_disabled()
    set_number(page, "model-layers", 3)
    expect(page.locator("#field-data-patch-size-error")).to_be_hidden()
    expect(page.locator("#next-train")).to_be_enabled()
    choose(page, "data-patch-size", "256")
    expect(page.locator("#form-findings")).to_contain_text("smaller than a patch")
    help_button = page.locator(".field", has=page.locator("#field-data-patch-size")).locator("summary")
    help_button.press("Enter")
    expect(page.locator(".help-body", has_text="The network learns from square pieces")).to_be_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_step_is_wider_than_the_screen(new_page: Callable[..., Page], width: int) -> None:
    page = new_page(width=width)
    take_sample(page)

    def excess() -> int:
        return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    assert excess() <= 0
    page.click("#next-configure")
    expect(page.locator("#next-train")).to_be_visible()
    assert excess() <= 0
    page.click("#next-train")
    expect(page.locator("#start-training")).to_be_visible()
    assert excess() <= 0
