"""Several people and one run, in real browsers: nothing a page, a server or a neighbour does loses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_steps import CURVES, epochs_shown, wait_for_epochs
from playwright.sync_api import Page, expect
from served_app import ServedApp

from segcore.config import build_config
from segcore.data.simulate import simulate
from segcore.jobs import queue
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, read_job
from segcore.workspace import Workspace

LONG = 100_000
"""More epochs than a test takes."""
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Make a workspace with images to train on."""
    workspace = Workspace.open(tmp_path / "workspace")
    simulate(workspace.data, "2class", 6, 64, 0)
    return workspace


@pytest.fixture
def submit(place: Workspace) -> Callable[..., Job]:
    """Return a function that puts a tiny training in line."""
    images, labels = place.data / "raw.tif", place.data / "labels.tif"

    def put(session: str, epochs: int = LONG) -> Job:
        options = {
            "session": session,
            "data": {
                "images": str(images), "labels": str(labels), "patch_size": 32, "patches_per_image": 8,
            },
            "model": {"features": 4, "layers": 2},
            "training": {"epochs": epochs, "batch_size": 4},
            "hardware": {"device": "cpu"},
        }  # fmt: skip
        return queue.submit(place, "train", build_config(options))

    return put


def curves(page: Page) -> list[list[float]]:
    """Return the numbers of all curves."""
    shown: list[list[float]] = page.evaluate(f"{CURVES}.map(trace => [...(trace.y ?? [])])")
    return shown


def test_a_run_is_shared_and_outlives_pages_and_the_server(
    serve: Callable[..., ServedApp],
    open_page: Callable[..., Page],
    submit: Callable[..., Job],
    place: Workspace,
    wait_until: Callable[..., None],
) -> None:
    job = submit("shared")
    app = serve(place.root)
    one, other = (open_page(f"{app.url}?run={job.id}") for _ in range(2))
    for page in (one, other):
        wait_for_epochs(page, 2)
        expect(page).to_have_title(re.compile(r"^epoch \d+/100000"))

    one.click("#pause-training")
    for page in (one, other):
        expect(page.locator("#train-progress")).to_contain_text("Paused at epoch")
    epochs = len(read_history(job.folder))
    for page in (one, other):
        wait_for_epochs(page, epochs)
        expect(page.locator("#pause-training")).to_be_hidden()
    assert curves(one) == curves(other)

    other.click("#resume-training")
    for page in (one, other):
        wait_for_epochs(page, epochs + 2)
    one.reload()
    wait_for_epochs(one, epochs + 3)

    app.kill()
    before = len(read_history(job.folder))
    wait_until(lambda: len(read_history(job.folder)) > before, 60)  # it needs no web server
    app.start()
    for page in (one, other):  # nobody touches them
        wait_for_epochs(page, before + 2)
    other.click("#stop-training")
    expect(other.locator("#stop-training-confirm")).to_contain_text("the best model so far is kept")
    other.click("#stop-training-yes")
    for page in (one, other):
        expect(page.locator("#train-progress")).to_contain_text("Stopped")
        expect(page).to_have_title(re.compile("^■ Dice"))
        expect(page.locator("#next-inference")).to_be_visible()
    numbers = [event.epoch for event in read_history(job.folder)]
    assert numbers == list(range(1, len(numbers) + 1))
    for page in (one, other):
        wait_for_epochs(page, len(numbers))
        assert epochs_shown(page) == len(numbers)
    assert curves(one) == curves(other)
    assert (job.folder / "best_model.pth").is_file()
    assert (read_job(job.folder).state, read_job(job.folder).restarts) == (State.CANCELLED, 0)


def test_who_waits_sees_the_place_and_starts_when_it_is_free(
    serve: Callable[..., ServedApp],
    open_page: Callable[..., Page],
    submit: Callable[..., Job],
    place: Workspace,
) -> None:
    first, second, third = submit("first"), submit("second"), submit("third", epochs=4)
    app = serve(place.root)
    mine = open_page(f"{app.url}?run={third.id}")
    progress = mine.locator("#train-progress")
    expect(progress).to_contain_text("Waiting: 1 training comes before yours")
    expect(mine).to_have_title("waiting – Segcore Studio")

    owner = open_page(f"{app.url}?tab=runs")
    sections = owner.locator("#queue section")
    expect(sections.first).to_contain_text("Training first")
    names = sections.nth(1).locator(".name")
    expect(names).to_have_text(["Training second", "Training third"])
    owner.get_by_role("button", name=f"Move up: Training third {third.id}").click()
    expect(names).to_have_text(["Training third", "Training second"])
    expect(progress).to_contain_text("Waiting: next in line")
    owner.get_by_role("button", name=f"Drop: Training second {second.id}").click()
    owner.locator("#queue .ask").get_by_text("Drop").click()
    expect(names).to_have_text(["Training third"])
    assert read_job(second.folder).state is State.DISCARDED

    owner.goto(f"{app.url}?run={first.id}")
    wait_for_epochs(owner, 1)
    owner.click("#discard-training")
    question = owner.locator("#discard-training-confirm")
    expect(question).to_contain_text("are deleted for good; options, log and curves stay")
    owner.click("#discard-training-no")
    expect(question).to_be_hidden()
    assert read_job(first.folder).state is State.RUNNING
    owner.click("#discard-training")
    owner.click("#discard-training-yes")
    expect(owner.locator("#train-progress")).to_contain_text("Discarded")
    assert not (first.folder / "best_model.pth").exists()
    assert not any(Path(first.folder, "checkpoints").glob("*"))

    expect(progress).to_contain_text("Finished")  # nobody has touched this page
    expect(mine).to_have_title(re.compile("^✓ Dice"))
    expect(mine.locator(".toast-body")).to_contain_text("The training third finished")
    assert epochs_shown(mine) == 4
