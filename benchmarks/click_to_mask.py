"""From a click to the mask on the page, in a browser; `python -m benchmarks.click_to_mask [--record]`.

The network has the size and the speed of the published one, but random weights, so that nothing is fetched.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import tifffile

from benchmarks.record import add_row, describe_machine
from benchmarks.serving import answers, started
from benchmarks.startup import BROWSER_MILLISECONDS, CHROMIUM

TITLE = "From a click to its mask"
MODEL = "data/network"
LONGEST_SECONDS = 600.0


def write_network(folder: Path, kind: str) -> None:
    """Write a network as transformers does, of the size of sam-vit-base or sam2.1-hiera-small."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig, SamConfig, SamModel

    if kind == "sam-vit-base":
        SamModel(SamConfig()).save_pretrained(folder)
        return
    stages = Sam2HieraDetConfig(blocks_per_stage=[1, 2, 11, 2], global_attention_blocks=[7, 10, 13])
    Sam2Model(Sam2Config(vision_config=Sam2VisionConfig(backbone_config=stages))).save_pretrained(folder)


def measure(workspace: Path, clicks: int) -> tuple[float, float, list[float], float]:
    """Return seconds of the first preparation, with start-up, of a second slice, and of every click.

    The last number are processor seconds of a click in server and process, whatever else the machine does.
    """
    from playwright.sync_api import sync_playwright

    with started(workspace, "--no-worker") as (url, server), sync_playwright() as playwright:
        while not answers(url):
            time.sleep(0.05)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(BROWSER_MILLISECONDS)
        page.goto(url)
        page.locator("#images-path input").fill("data/cells.tif")
        page.locator("#images-path input").press("Enter")
        page.locator("#images-path input").press("Tab")
        page.get_by_role("button", name="Draw masks by clicking").click()
        page.locator("#masks-model input").fill(MODEL)
        page.locator("#masks-model input").press("Enter")
        page.locator("#masks-model input").press("Tab")
        canvas = page.locator("#masks-canvas")
        told, stage = canvas.locator(".told"), canvas.locator(".stage")
        page.wait_for_function("document.querySelector('#masks-canvas img').naturalWidth > 0")

        def until(text: str, action: Callable[[], None]) -> float:
            began = time.monotonic()
            action()
            told.filter(has_text=text).wait_for(timeout=1000 * LONGEST_SECONDS)
            return time.monotonic() - began

        first = until("Ready after", canvas.locator(".prepare").click)
        seconds = []
        before = processor_seconds(server.pid)
        size = stage.bounding_box() or {"width": 0, "height": 0}
        for number in range(clicks):
            share = (number + 1) / (clicks + 1)
            where = {"x": share * size["width"], "y": share * size["height"]}
            seconds.append(until("Mask 1 of 3", lambda where=where: stage.click(position=where)))  # type: ignore[misc]
            until("Click an object", canvas.locator(".undo").click)
        after = processor_seconds(server.pid)
        used = sum(spent - before.get(one, 0.0) for one, spent in after.items()) / clicks
        canvas.locator("input.slice").fill("1")
        page.wait_for_function(
            "document.querySelector('#masks-canvas .stage').getAttribute('aria-label').startsWith('slice 1')"
        )
        second = until("Ready after", canvas.locator(".prepare").click)
        browser.close()
    return first, second, seconds, used


def processor_seconds(server: int) -> dict[int, float]:
    """Return what a process, and each of those that it started and that still run, have used so far."""
    family = [psutil.Process(server), *psutil.Process(server).children(recursive=True)]
    return {one.pid: sum(one.cpu_times()[:2]) for one in family}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print, and record if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("sam-vit-base", "sam2.1-hiera-small"), default="sam-vit-base")
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of a slice")
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--record", action="store_true", help="add the result to benchmarks/README.md")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        os.environ["SEGCORE_CACHE"] = str(Path(folder) / "cache")
        write_network(workspace / MODEL, options.kind)
        grey = np.random.default_rng(0).integers(0, 255, (2, options.size, options.size)).astype(np.uint8)
        tifffile.imwrite(
            workspace / "data" / "cells.tif", grey, photometric="minisblack", metadata={"axes": "ZYX"}
        )
        first, second, seconds, used = measure(workspace, options.clicks)
    words = " ".join([f"--kind {options.kind}", f"--size {options.size}"])
    cells = [
        date.today().isoformat(), f"{describe_machine()}; load {os.getloadavg()[0]:.0f}",
        f"{options.kind}, {options.size} × {options.size} px", f"{first:.1f} s", f"{second:.1f} s",
        f"{median(seconds):.2f} s (longest of {len(seconds)}: {max(seconds):.2f} s)",
        f"{used:.2f} s",
        f"`python -m benchmarks.click_to_mask {words}`",
    ]  # fmt: skip
    line = f"| {' | '.join(cells)} |"
    sys.stdout.write(f"{line}\n")
    if options.record:
        add_row(TITLE, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
