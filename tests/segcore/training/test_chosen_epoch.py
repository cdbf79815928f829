"""Choosing another epoch of a paused run: the run goes on with its own best epoch as the model."""

from __future__ import annotations

import json

from segcore.config import RunConfig
from segcore.events import EpochEvent, Event, Request
from segcore.jobs.epochs import epoch_file, kept_epochs, use_epoch
from segcore.jobs.journal import FolderReporter, read_history
from segcore.jobs.store import State, create_job, end_job, start_job
from segcore.training.run import train
from segcore.workspace import Workspace


def test_a_paused_run_goes_on_with_its_best_epoch_whatever_was_chosen(
    workspace: Workspace, tiny_config: RunConfig
) -> None:
    options = tiny_config.training.model_copy(update={"epochs": 4, "keep_every": 1})
    config = tiny_config.model_copy(update={"training": options})
    folder = start_job(create_job(workspace, "train", config).folder).folder
    write, done = FolderReporter(folder), []

    def report(event: Event) -> None:
        write(event)
        done.extend([event.epoch] if isinstance(event, EpochEvent) else [])

    outcome = train(config, folder, report, lambda: Request.PAUSE if len(done) >= 3 else None)
    assert outcome.request is Request.PAUSE
    end_job(folder, State.PAUSED)
    before = (folder / "best_model.pth").read_bytes()
    kept = kept_epochs(folder, read_history(folder))
    assert [one.epoch for one in kept] == [1, 2, 3]
    other = next(one.epoch for one in kept if not one.best)
    use_epoch(folder, other)
    assert (folder / "best_model.pth").read_bytes() == epoch_file(folder, other).read_bytes() != before
    train(config, folder, report)
    best = json.loads((folder / "results.json").read_text())["best_epoch"]
    assert (folder / "best_model.pth").read_bytes() == epoch_file(folder, best).read_bytes()
    kept = kept_epochs(folder, read_history(folder))
    assert [one.epoch for one in kept if one.model] == [best]
