"""What comes after a run: more epochs, other images, other seeds; nothing is begun that cannot be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tabs_workspace import make_run, make_services, write_labels, write_stack

from app import follow_ups_panel as panel
from app import forms
from app.linking import lead_to
from app.services import Services
from app.steps import train
from segcore.config import RunConfig, build_config
from segcore.errors import DataError, JobError, ModelError, SegcoreError
from segcore.jobs.queue import waiting
from segcore.jobs.store import Job, State, end_job, find_job, start_job

SMALL: dict[str, Any] = {"model": {"features": 16, "layers": 2}}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


def ended(services: Services, state: State = State.FINISHED, **options: Any) -> Job:
    """Make a training that has ended with model and checkpoint."""
    job = make_run(services, state=state, **(SMALL | options))
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.pt").write_bytes(b"state")
    return job


def training(**options: Any) -> RunConfig:
    data = {"images": "data/images.tif", "labels": "data/labels.tif", "patch_size": 32}
    return build_config({"session": "cells", "data": data, **SMALL, "training": options})


def visible(services: Services, run: str) -> dict[str, Any]:
    names = ("group", "timer", "box", "more", "tune")
    return dict(zip(names, panel.show(services, run), strict=True))


def form_after(services: Services, model: str) -> dict[str, Any]:
    """Return what the form shows after the way to fine-tuning was taken, by option."""
    updates = panel.tune(services, model)[-len(panel.FIELDS) :]
    values = (getattr(update, "value", update) for update in updates)
    return dict(zip((field.path for field in panel.FIELDS), values, strict=True))


def test_start_queues_all_repeats_and_shows_the_first(services: Services) -> None:
    first = services.submit_training(training(repeats=3, seed=4))
    jobs = waiting(services.workspace, "train")
    assert [job.config.training.seed for job in jobs] == [4, 5, 6]
    assert first.id == jobs[0].id


def test_the_group_is_told_with_mean_spread_and_links(services: Services) -> None:
    services.submit_training(training(repeats=3))
    jobs = waiting(services.workspace, "train")
    shown = visible(services, jobs[1].id)
    assert "Seed 2 of 3 · none has finished yet" in shown["group"]
    assert shown["timer"].active
    for job, dice in zip(jobs[:2], (0.806, 0.818), strict=True):
        start_job(job.folder)
        (job.folder / "results.json").write_text(f'{{"metrics": {{"val_dice": {dice}}}}}')
        end_job(job.folder, State.FINISHED)
    text = visible(services, jobs[0].id)["group"]
    assert "Seed 1 of 3 · Dice 0.812 ± 0.008 (2 finished)" in text
    assert f'href="?run={jobs[1].id}">seed 1: 0.818' in text
    assert f'href="?run={jobs[2].id}">seed 2: waits' in text
    assert f'href="?run={jobs[0].id}"' not in text, "it is shown already"
    end_job(jobs[2].folder, State.FAILED)
    assert not visible(services, jobs[0].id)["timer"].active


@pytest.mark.parametrize("state", State)
def test_what_can_be_done_is_offered(services: Services, state: State) -> None:
    job = ended(services, state)
    shown = visible(services, job.id)
    offered = state in (State.FINISHED, State.CANCELLED, State.FAILED)
    assert shown["more"].visible is offered
    assert shown["tune"].visible is offered
    (job.folder / "checkpoints" / "last.pt").unlink(missing_ok=True)
    assert not visible(services, job.id)["more"].visible


@pytest.mark.parametrize("run", ["", "20200101-000000-gone", "../../etc"])
def test_without_a_run_nothing_is_offered(services: Services, run: str) -> None:
    shown = visible(services, run)
    assert (shown["group"], shown["box"].visible, shown["timer"].active) == ("", False, False)


def test_the_panel_is_cheap(services: Services) -> None:
    jobs = [ended(services) for _ in range(30)]
    panel.show(services, jobs[0].id)
    began = time.process_time()
    for job in jobs[:10]:
        panel.show(services, job.id)
    assert (time.process_time() - began) / 10 < 0.05


def test_a_run_goes_on_with_its_own_options(services: Services) -> None:
    parent = ended(services, training={"epochs": 40, "learning_rate": 0.002})
    run, message = panel.go_on(services, parent.id, 25.0)
    assert message == ""
    child = find_job(services.workspace, run)
    assert (child.parent, child.session, child.state) == (parent.id, parent.session, State.QUEUED)
    config = child.config.training
    assert (config.continue_from, config.epochs, config.learning_rate) == (str(parent.folder), 25, 0.002)
    assert child.config.data == parent.config.data


def test_what_cannot_go_on_says_why_and_starts_nothing(services: Services) -> None:
    parent = ended(services)
    for epochs in (0, None, -3):
        skipped, message = panel.go_on(services, parent.id, epochs)
        assert skipped == gr.skip()
        assert "epochs" in message
    (services.workspace.data / "labels.tif").unlink()
    with pytest.raises(DataError, match="labels of the run are gone"):
        services.follow_ups.continue_run(parent.id, 5)
    (parent.folder / "checkpoints" / "last.pt").unlink()
    assert "no checkpoint" in panel.go_on(services, parent.id, 5)[1]
    assert waiting(services.workspace, "train") == []


def test_fine_tuning_brings_the_options_and_leads_to_the_images(services: Services) -> None:
    options = {"data": {"axes": "ZYX", "validation_slices": "0-1"}, "training": {"learning_rate": 0.002}}
    parent = ended(services, **options)
    message, walkthrough, source, images, labels, axes, *rest = panel.tune(services, parent.id)
    assert (message, walkthrough.selected, source) == ("", 1, parent.id)
    assert (images, labels, axes) == (None, None, "")
    assert rest[: len(forms.DATA) - 3] == forms.nothing_chosen()[3:]
    form = form_after(services, parent.id)
    assert form["model.freeze_encoder"] is True
    assert (form["model.features"], form["model.layers"]) == (16, 2)
    assert form["training.learning_rate"] == pytest.approx(0.0002)
    assert form["data.validation_slices"] == "", "those of the other images mean nothing here"
    assert panel.from_scratch(services, parent.id, 0.0002) == ("", False, 0.002)
    assert panel.from_scratch(services, parent.id, 0.0005) == ("", False, 0.0005), "what was chosen stays"


def test_a_weights_file_is_trained_further_with_the_config_beside_it(services: Services) -> None:
    parent = ended(services)
    path = services.relative(parent.folder / "best_model.pth")
    assert form_after(services, path)["model.features"] == 16
    alone = services.workspace.data / "alone.pth"
    alone.write_bytes(b"weights")
    refused = panel.tune(services, "data/alone.pth")
    assert "alone.json" in refused[0]
    assert all(update == gr.skip() for update in refused[1:])
    assert len(refused) == len(panel.tune(services, parent.id))
    with pytest.raises(DataError, match="outside"):
        services.follow_ups.fine_tune("../elsewhere.pth")


def test_the_next_training_begins_with_the_chosen_model(services: Services) -> None:
    parent = ended(services, data={"patch_size": 32})
    config = services.follow_ups.fine_tune(parent.id)
    shown = forms.from_config(config, panel.FIELDS)
    data = ("data/images.tif", "data/labels.tif", *forms.nothing_chosen()[2:])
    plan, command = train.prepare(services, data, shown, parent.id)
    assert f"{parent.id}, encoder frozen" in plan
    assert f"--training.start-from {parent.id}" in command
    run, trouble = train.start(services, data, shown, source=parent.id)
    assert trouble == ""
    child = find_job(services.workspace, run)
    assert (child.parent, child.config.training.start_from) == (parent.id, str(parent.folder))
    assert lead_to(services, services.job(run))["source"] == parent.id
    assert lead_to(services, services.job(parent.id))["source"] == ""


def test_a_start_outside_the_workspace_is_refused(services: Services, tmp_path: Path) -> None:
    (tmp_path / "best_model.pth").write_bytes(b"weights")
    for name in ("start_from", "continue_from"):
        for path in (str(tmp_path), "../best_model.pth", str(tmp_path / "best_model.pth")):
            with pytest.raises(DataError, match="outside"):
                services.submit_training(training(**{name: path}))
        with pytest.raises(SegcoreError):
            services.submit_training(training(**{name: "no-such-run"}))
    given = training(start_from=ended(services).id)
    wide = given.model_copy(update={"model": given.model.model_copy(update={"features": 32})})
    with pytest.raises(ModelError, match="16 features"):
        services.submit_training(wide)
    assert waiting(services.workspace, "train") == []


def test_pretrained_weights_are_of_the_workspace_or_of_the_hub(services: Services) -> None:
    data = services.workspace.data

    def submitted(pretrained: str, **options: Any) -> str:
        config = training(**options)
        model = config.model.model_copy(update={"pretrained": pretrained})
        job = services.submit_training(config.model_copy(update={"model": model}))
        return job.config.model.pretrained

    for name in ("", "imagenet", "nvidia/mit-b0", "nvidia/mit-b0@main"):
        assert submitted(name) == name
    for path in ("data/encoder.pth", "data/encoder", str(data / "encoder.pth")):
        assert submitted(path) == str(data / Path(path).name)
    for path in ("/etc/encoder", "../encoder.pth", "owner/name@../../../../encoder"):
        with pytest.raises(DataError, match="outside"):
            submitted(path)
    assert submitted("/elsewhere/encoder.pth", start_from=ended(services).id) == "", "nobody reads it"


def test_a_run_is_not_deleted_while_another_needs_it(services: Services) -> None:
    parent = ended(services)
    child = services.follow_ups.continue_run(parent.id, 5)
    with pytest.raises(JobError, match=child.id):
        services.delete(services.relative(parent.folder))
    assert (parent.folder / "best_model.pth").exists()
    services.control.discard(child.id)
    services.delete(services.relative(parent.folder))
    assert not parent.folder.exists()


def test_the_chips_say_what_the_next_training_begins_with(services: Services) -> None:
    parent = ended(services)
    row, text, other, _, scratch = panel.chip_updates(services, parent.id, 2)
    assert row.visible
    assert other.visible
    assert parent.id in text
    assert scratch.label == panel.FURTHER
    row, text, _, _, scratch = panel.chip_updates(services, "", 2)
    assert (row.visible, text, scratch.label) == (False, "", panel.SCRATCH)
