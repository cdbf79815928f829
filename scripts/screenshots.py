"""Renews docs/screenshots: drives every step and tab of the demo in Chromium, on a laptop and on a phone."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright
from screenshots_monitor import Cast, cast

ROOT = Path(__file__).resolve().parents[1]
LAPTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
EPOCHS_SHOWN = 5
"""How many epochs the curves should have when the training is photographed."""
PATIENCE_MS = 180_000
DRAWN = "document.querySelector('#curves .js-plotly-plot')?.data?.some(curve => curve.x.length)"
TRAINING_MS = 1_200_000


@dataclass(frozen=True)
class Camera:
    """Takes the pictures of one page."""

    page: Page
    address: str
    folder: Path
    suffix: str = ""

    def open(self, query: str = "") -> None:
        """Open the app anew."""
        self.page.goto(self.address + query)
        expect(self.page.locator("#header")).to_contain_text("device", timeout=PATIENCE_MS)

    def take(self, name: str) -> None:
        """Wait until nothing moves any more, then write `name`.png."""
        self.page.wait_for_timeout(1000)  # the page's transitions have no event to wait for
        path = self.folder / f"{name}{self.suffix}.png"
        self.page.screenshot(path=path)
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path, flush=True)

    def show(self, selector: str) -> None:
        """Scroll until an element stands at the top of the screen."""
        self.page.locator(selector).evaluate("element => element.scrollIntoView({ block: 'start' })")

    def click(self, selector: str) -> None:
        """Press a button as soon as it can be pressed."""
        expect(self.page.locator(selector)).to_be_enabled(timeout=PATIENCE_MS)
        self.page.locator(selector).click()

    def choose(self, selector: str, text: str | re.Pattern[str]) -> None:
        """Choose the first entry with `text` from a list."""
        self.page.locator(f"{selector} input").first.click()
        self.page.get_by_role("option").filter(has_text=text).first.click(timeout=PATIENCE_MS)

    def slide(self, selector: str, value: int) -> None:
        """Move a slider."""
        number = self.page.locator(f"{selector} input[type=number]")
        number.fill(str(value))
        number.press("Enter")

    def tab(self, name: str) -> None:
        """Open one of the tabs; on a narrow page some are in the menu behind the dots."""
        tab = self.page.locator("#tabs").get_by_role("tab", name=name, exact=True).first
        if tab.is_visible():
            tab.click()
        else:
            self.open(f"?tab={name.lower()}")


def main() -> None:
    """Make or reuse the demo, serve it, and take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=ROOT / "demo" / "workspace")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--only", choices=("laptop", "phone"))
    parser.add_argument("--part", choices=("steps", "monitor", "tabs"), help="take these pictures only")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("No Chromium was found. Install it, for example: sudo apt install chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with serving(arguments.workspace) as address, sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, as in a container.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        cameras = []
        if arguments.only != "phone":
            cameras.append(Camera(browser.new_page(viewport=LAPTOP), address, arguments.out))
        if arguments.only != "laptop":
            phone = browser.new_page(viewport=PHONE, has_touch=True, device_scale_factor=2)
            cameras.append(Camera(phone, address, arguments.out, "-phone"))
        for camera in cameras:
            camera.page.set_default_timeout(PATIENCE_MS)
        if arguments.part in (None, "steps"):
            for camera in cameras:
                steps(camera)
        if arguments.part in (None, "monitor", "tabs"):
            with cast(arguments.workspace) as runs:
                for camera in cameras:
                    if arguments.part != "tabs":
                        monitor(camera, runs)
                    if arguments.part != "monitor":
                        tabs(camera)
        browser.close()


@contextmanager
def serving(workspace: Path) -> Iterator[str]:
    """Run `segcore demo --serve` while the pictures are taken."""
    port, mlflow_port = _free_port(), _free_port()
    ports = ["--port", str(port), "--mlflow-port", str(mlflow_port)]
    command = [sys.executable, "-m", "segcore.cli", "demo", "--workspace", str(workspace), "--serve", *ports]
    process = subprocess.Popen(command, cwd=ROOT)
    address = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + 600
        while not _answers(address):
            if process.poll() is not None:
                sys.exit("The demo ended by itself; see above.")
            if time.monotonic() > deadline:
                sys.exit("The app did not come up within ten minutes.")
            time.sleep(0.5)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=90)


def steps(camera: Camera) -> None:
    """Go through the four steps with the sample data."""
    camera.open()
    steps_one_and_two(camera)
    step_three(camera)
    step_four(camera)


def steps_one_and_two(camera: Camera) -> None:
    """Choose the sample data, look at the other way to begin, configure."""
    page = camera.page
    camera.click("#use-sample")
    # The legend comes with the picture; before it, the slider is still being set.
    expect(page.locator("#data-legend")).to_contain_text("%", timeout=PATIENCE_MS)
    camera.slide("#data-slice", 5)
    camera.take("step1-data")
    page.locator("#use-pretrained > button").click()
    camera.choose("#registered-model", "sample-unet")
    expect(page.locator("#next-segment")).to_be_enabled(timeout=PATIENCE_MS)
    camera.take("step1-pretrained")
    page.locator("#from-scratch > button").click()
    camera.click("#next-configure")
    camera.click("#preset-quick")
    expect(page.locator("#cost")).to_contain_text("parameters", timeout=PATIENCE_MS, ignore_case=True)
    camera.take("step2-configure")


def step_three(camera: Camera) -> None:
    """Train for a few epochs, stop, keep the best."""
    page = camera.page
    camera.click("#next-train")
    camera.click("#start-training")
    later = re.compile(
        rf"epoch ({'|'.join(str(number) for number in range(EPOCHS_SHOWN + 1, 100))}) of", re.I
    )
    expect(page.locator("#train-progress")).to_contain_text(later, timeout=TRAINING_MS)
    curves = page.locator("#curves .js-plotly-plot")
    expect(curves).to_be_visible(timeout=PATIENCE_MS)
    camera.take("step3-train")
    camera.click("#stop-training")
    camera.click("#stop-training-yes")
    expect(page.locator("#next-inference")).to_be_visible(timeout=PATIENCE_MS)
    expect(curves).to_be_visible(timeout=PATIENCE_MS)
    camera.take("step3-trained")


def step_four(camera: Camera) -> None:
    """Segment new images with the model, and look at them in the viewer."""
    page = camera.page
    camera.click("#next-inference")
    camera.choose("#infer-images-path", "new.tif")
    camera.click("#run-segmentation")
    expect(page.locator("#download-segmentation")).to_be_visible(timeout=PATIENCE_MS)
    camera.slide("#infer-slice", 2)
    camera.take("step4-segment")
    camera.click("#open-viewer")
    expect(page.locator("#viewer-legend")).not_to_be_empty(timeout=PATIENCE_MS)
    camera.take("tab-viewer")


def monitor(camera: Camera, runs: Cast) -> None:
    """Look at a run in every way; then at one that is paused, and at what waits."""
    page = camera.page
    camera.open(f"?run={runs.steep.id}")
    page.wait_for_function(DRAWN)
    expect(page.locator("#train-message")).to_contain_text("autopilot", timeout=PATIENCE_MS)
    if camera.suffix:
        camera.show("#curves")
    camera.take("monitor")
    expect(page.locator("#feedback-view .view")).to_be_visible(timeout=PATIENCE_MS)
    page.locator("#feedback-view input.epoch").press("ArrowLeft")
    camera.show("#feedback-view")
    camera.take("monitor-feedback")
    page.locator("#train-tabs").get_by_role("tab", name="Checkpoints").click()
    page.locator("#checkpoints-table tbody button").nth(1).click(timeout=PATIENCE_MS)
    expect(page.locator("#checkpoints-status")).to_contain_text("differ", timeout=PATIENCE_MS)
    camera.show("#checkpoints-table")
    camera.take("monitor-checkpoints")
    page.locator("#train-tabs").get_by_role("tab", name="Table").click()
    camera.show("#train-tabs")
    camera.take("monitor-table")
    camera.open(f"?run={runs.paused.id}")
    expect(page.locator("#train-progress")).to_contain_text("Paused", timeout=PATIENCE_MS)
    page.wait_for_function(DRAWN)
    camera.take("step3-paused")
    camera.open("?tab=runs")
    expect(page.locator("#queue section")).to_have_count(3, timeout=PATIENCE_MS)
    camera.take("queue")


def tabs(camera: Camera) -> None:
    """Compare two runs, then show the registry, the files and the help."""
    page = camera.page
    camera.open("?tab=runs")
    expect(page.locator("#runs-table")).to_be_visible(timeout=PATIENCE_MS)
    for number in (0, 1):
        page.locator("#runs-table input[type=checkbox]").nth(number).check(timeout=PATIENCE_MS)
    expect(page.locator("#runs-comparison .js-plotly-plot")).to_be_visible(timeout=PATIENCE_MS)
    camera.take("tab-runs")
    camera.tab("Models")
    expect(page.locator("#models-table")).to_be_visible(timeout=PATIENCE_MS)
    camera.take("tab-models")
    camera.tab("Files")
    expect(page.locator("#files-place")).to_contain_text("free", timeout=PATIENCE_MS, ignore_case=True)
    camera.take("tab-files")
    camera.tab("Help")
    expect(page.locator("#help-text")).to_be_visible(timeout=PATIENCE_MS)
    camera.take("tab-help")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
