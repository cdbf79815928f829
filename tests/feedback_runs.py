"""Runs with visual feedback for the tests, written as a training writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from tabs_workspace import make_run, make_services, write_labels, write_stack

from app.services import Services
from segcore.files import write_atomic
from segcore.jobs.feedback import Scene, Window, picture_file, scene_folder
from segcore.jobs.store import Job, State

FIRST, SECOND = Window.parse("1,2,4,20,24"), Window.parse("2,0,0,16,32")


def save_picture(run: Path, window: Window, epoch: int, value: int) -> None:
    """Save a prediction of one class, and the scene it belongs to."""
    folder = scene_folder(run, window)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (window.height, window.width)
    scene = Scene(window=window, class_values=(0, 255), class_names=("background", "255"), trained=False)
    write_atomic(folder / "scene.json", scene.model_dump_json())
    Image.fromarray(np.tile(np.arange(shape[1], dtype=np.uint8) * 5, (shape[0], 1))).save(
        folder / "image.png"
    )
    label = np.zeros(shape, np.uint8)
    label[:, 8:] = 1
    Image.fromarray(label).save(folder / "label.png")
    Image.fromarray(np.full(shape, value, np.uint8)).save(picture_file(folder, epoch))


def make_watched(
    folder: Path, state: State = State.RUNNING, epochs: int = 3, reported: int | None = None
) -> tuple[Services, Job]:
    """Make a run whose first epochs show one part of a slice and whose last shows another."""
    services = make_services(folder)
    write_stack(services)
    write_labels(services)
    count = epochs if reported is None else reported
    job = make_run(services, tuple(0.1 + 0.001 * number for number in range(count)), state)
    for epoch in range(1, epochs + 1):
        save_picture(job.folder, SECOND if epoch == epochs else FIRST, epoch, epoch % 2)
    return services, job
