"""Start-up: what a person waits for before anything happens; `python -m benchmarks.startup [--record]`."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil

from benchmarks.record import add_row, describe_machine
from benchmarks.serving import answers, started
from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.events import EpochEvent, StageEvent
from segcore.jobs.journal import read_events
from segcore.jobs.process import child_environment
from segcore.jobs.standby import Standby
from segcore.jobs.store import Job, Kind, State, create_job
from segcore.jobs.supervisor import Where, run_job
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TITLE = "Start-up"
PEERS = ("torch", "cellpose")
BUSY_SECONDS = 90.0
CHROMIUM = Path(os.environ.get("SEGCORE_CHROMIUM") or "/usr/bin/chromium")
BROWSER_MILLISECONDS = 120_000


def command_seconds(*words: str) -> float:
    """Return how long a Python process takes."""
    began = time.monotonic()
    subprocess.run([sys.executable, *words], env=child_environment(), capture_output=True, check=True)
    return time.monotonic() - began


def page_seconds(workspace: Workspace) -> float:
    """Return how long `python -m app` takes until the page and its configuration are served."""
    began = time.monotonic()
    with started(workspace.root, "--no-worker") as (url, _):
        for path in ("", "config"):
            while not answers(url + path):
                time.sleep(0.02)
        return time.monotonic() - began


def click_seconds(workspace: Workspace, browser: Browser) -> float:
    """Return how long `python -m app` takes until a browser, open already, shows what a click asks for."""
    began = time.monotonic()
    with started(workspace.root, "--no-worker") as (url, _):
        while not answers(url):
            time.sleep(0.02)
        context = browser.new_context()
        page = context.new_page()
        page.goto(url, wait_until="commit")
        page.get_by_role("tab", name="Help").click(timeout=BROWSER_MILLISECONDS)
        page.wait_for_selector("#help-text", state="visible", timeout=BROWSER_MILLISECONDS)
        seconds = time.monotonic() - began
        context.close()
    return seconds


@contextmanager
def _browser() -> Iterator[Browser | None]:
    """Open Chromium, where there is one and something to steer it with."""
    if not (CHROMIUM.exists() and importlib.util.find_spec("playwright")):
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Jobs:
    """Small jobs, run as a worker runs them.

    Parameters
    ----------
    folder : Path
        Where images and workspace lie.
    """

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace.open(folder / "workspace")
        self._images, self._labels = simulate(folder / "images", "2class", 6, 512, 0)
        self._slice, _ = simulate(folder / "slice", "2class", 1, 512, 1)
        self.model = self._run("train", self._training(), None)

    def first_epoch(self, standby: Standby | None) -> float:
        """Return the seconds from taking a training until its first epoch begins."""
        job = self._run("train", self._training(), _stocked(standby))
        # The stage "training on …" is said when everything is built, right before the first step.
        begun = next(
            event.time
            for event in read_events(job.folder)
            if isinstance(event, StageEvent) and event.text.startswith("training on")
        )
        assert any(isinstance(event, EpochEvent) for event in read_events(job.folder))
        return begun - self._began

    def one_slice(self, standby: Standby | None) -> float:
        """Return the seconds from taking a segmentation of one slice until it is finished."""
        values = {
            "data": {"images": str(self._slice)},
            "inference": {"model": str(self.model.folder)},
            "hardware": {"device": "cpu"},
        }
        job = self._run("predict", build_config(values), standby)
        return (job.ended or 0.0) - self._began

    def _training(self) -> RunConfig:
        return build_config(
            {
                "session": "startup",
                "data": {"images": str(self._images), "labels": str(self._labels), "patches_per_image": 2},
                "training": {"epochs": 1},
                "hardware": {"device": "cpu"},
            }
        )

    def _run(self, kind: Kind, config: RunConfig, standby: Standby | None) -> Job:
        job = create_job(self.workspace, kind, config, owner="command")
        self._began = time.time()
        ended = run_job(job.folder, self.workspace, where=Where("cpu", standby))
        assert ended.state is State.FINISHED, ended.message
        return ended


def _stocked(standby: Standby | None) -> Standby | None:
    """Wait until a process of the stock has imported everything: its processor time stands still."""
    if standby is None:
        return None
    standby.prepare()
    deadline, before, still = time.monotonic() + BUSY_SECONDS, -1.0, 0
    while time.monotonic() < deadline and still < 3:
        time.sleep(0.5)
        used = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())
        still, before = (still + 1 if used == before else 0), used
    return standby


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round by what was measured; all take turns."""
    with TemporaryDirectory() as folder, _browser() as browser:
        jobs, standby = Jobs(Path(folder)), Standby()
        peers = [name for name in PEERS if importlib.util.find_spec(name)]
        tasks: dict[str, Callable[[], float]] = {
            "import segcore": lambda: command_seconds("-c", "import segcore"),
            "segcore --help": lambda: command_seconds("-m", "segcore.cli", "--help"),
            "page served": lambda: page_seconds(jobs.workspace),
            **({"page answers a click": lambda: click_seconds(jobs.workspace, browser)} if browser else {}),
            "first epoch begins, process kept ready": lambda: jobs.first_epoch(standby),
            "first epoch begins, new process": lambda: jobs.first_epoch(None),
            "one slice, model kept loaded": lambda: jobs.one_slice(standby),
            "one slice, new process": lambda: jobs.one_slice(None),
            **{f"import {name}": partial(command_seconds, "-c", f"import {name}") for name in peers},
        }
        _stocked(standby)
        jobs.one_slice(standby)  # from now on the model is kept
        found: dict[str, list[float]] = {name: [] for name in tasks}
        try:
            for _ in range(rounds):
                for name, task in tasks.items():
                    found[name].append(task())
        finally:
            standby.close()
    return found


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="add the result to benchmarks/README.md")
    options = parser.parse_args()
    found = measure(options.rounds)
    load = os.getloadavg()[0]
    medians = {name: median(values) for name, values in found.items()}
    print(json.dumps({"median": medians, "all": found, "load": load}, indent=1))
    if options.record:
        for name, seconds in medians.items():
            against = medians["import torch"]
            cells = [date.today().isoformat(), f"{describe_machine()}; load {load:.0f}", name]
            cells += [f"{seconds:.2f} s", f"{seconds / against:.2f} ×", "`python -m benchmarks.startup`"]
            add_row(TITLE, "| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
