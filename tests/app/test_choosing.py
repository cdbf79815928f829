"""Step 2 proposes a family that works here, and queues several for equal minutes; step 3 compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from feedback_runs import FIRST, save_picture
from tabs_workspace import epoch, make_run, make_services, write_labels, write_stack

from app import choosing, forms, trial_panel
from app.services import Services
from segcore.config import RunConfig
from segcore.families import FAMILIES
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, end_job, list_jobs, read_job, start_job
from segcore.jobs.trials import is_trial

FIELDS = choosing.FIELDS
DATA = ("data/images.tif", "data/labels.tif", *forms.nothing_chosen()[2:])
NOTHING = forms.nothing_chosen()
TEXT, USE, PROPOSED, FAMILY_BOXES = range(4)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


def form(**changes: Any) -> list[Any]:
    """Return what the form shows: the defaults, with 32 px patches that fit the stack, and `changes`."""
    changes = {"data_patch_size": 32, **changes}
    values = forms.from_config(RunConfig(), FIELDS)
    return [
        changes.get(field.path.replace(".", "_"), value) for field, value in zip(FIELDS, values, strict=True)
    ]


def test_a_family_that_works_is_proposed_and_only_those_that_work_can_be_tried(services: Services) -> None:
    for data in (DATA, NOTHING):
        for changes in ({}, {"data_mode": "3d", "data_patch_size": 64}, {"model_family": "sensor3d"}):
            shown = choosing.show(services, (), data, form(**changes))
            name, boxes = shown[PROPOSED], shown[FAMILY_BOXES]
            working = [value for _, value in boxes.choices]
            assert name in working
            assert set(boxes.value) <= set(working)
            assert boxes.value[0] == name
            assert FAMILIES[name].title in shown[TEXT]
            assert shown[USE].visible


def test_what_is_proposed_and_chosen_needs_no_button(services: Services) -> None:
    name = choosing.show(services, (), DATA, form())[PROPOSED]
    shown = choosing.show(services, (), DATA, form(model_family=name))
    assert not shown[USE].visible
    assert "proposed for your data" in shown[TEXT]


def test_ticks_stay_as_long_as_the_families_work(services: Services) -> None:
    ticked = ["unet-attention", "unet-residual"]
    assert choosing.show(services, ticked, DATA, form())[FAMILY_BOXES].value == ticked
    solid = form(data_mode="3d", data_patch_size=64)
    assert choosing.show(services, [*ticked, "pspnet"], DATA, solid)[FAMILY_BOXES].value == ticked
    again = choosing.show(services, ["pspnet", "unet"], DATA, solid)[FAMILY_BOXES].value
    assert len(again) >= choosing.LEAST
    assert "pspnet" not in again


def begin(services: Services, families: list[str], **changes: Any) -> list[Job]:
    walk, run, message = choosing.start(services, (families, 1.5, 32), DATA, form(**changes))
    assert message == ""
    assert walk.selected == 3
    jobs = list_jobs(services.workspace, "train")[::-1]
    assert run in [job.id for job in jobs]
    return sorted(jobs, key=lambda job: families.index(job.config.model.family))


def test_the_ticked_families_are_queued_whatever_family_the_form_shows(services: Services) -> None:
    jobs = begin(services, ["unet-small", "unet"], model_family="sensor3d")
    assert [job.config.model.family for job in jobs] == ["unet-small", "unet"]
    assert len({job.group for job in jobs}) == 1
    assert is_trial(jobs[0].group)
    config = jobs[0].config
    assert config.training.max_minutes == 1.5
    assert config.data.recipe == ["pair.crop 32 32"]
    assert config.data.images == str(services.workspace.data / "images.tif")
    assert services.follow_ups.ways(jobs[0].id).group is None


def test_the_teacher_of_a_trial_is_found_in_the_workspace_or_missed(services: Services) -> None:
    jobs = begin(services, ["unet-small", "unet"], training_teacher="data/labels.tif")
    masks = str(services.workspace.data / "labels.tif")
    assert [job.config.training.teacher for job in jobs] == [masks, masks]
    for teacher in ("data/gone", "20200101-000000-gone", "../outside"):
        shown = form(training_teacher=teacher)
        message = choosing.start(services, (["unet-small", "unet"], 1.0, 0), DATA, shown)[2]
        assert 'class="finding error"' in message
    assert len(list_jobs(services.workspace)) == len(jobs)


@pytest.mark.parametrize(
    ("families", "minutes", "data"),
    [(["unet"], 1.0, DATA), ([], 1.0, DATA), (["unet", "unet-small"], 0.0, DATA),
     (["unet", "sensor3d"], 1.0, DATA), (["unet", "unet-small"], 1.0, NOTHING)],
)  # fmt: skip
def test_what_cannot_be_tried_is_said_and_nothing_is_queued(
    services: Services, families: list[str], minutes: float, data: tuple[Any, ...]
) -> None:
    message = choosing.start(services, (families, minutes, 0), data, form())[2]
    assert 'class="finding error"' in message
    assert list_jobs(services.workspace) == []


def test_the_families_stand_side_by_side_with_pictures_and_numbers(services: Services) -> None:
    first, second = begin(services, ["unet-small", "unet"])
    start_job(first.folder)
    FolderReporter(first.folder)(epoch(1, 0.75))
    save_picture(first.folder, FIRST, 1, 1)
    (first.folder / "best_model.pth").write_bytes(b"weights")
    results = {"parameters": 4_000_000, "seconds_per_megapixel": 0.125, "metrics": {"val_dice": 0.75}}
    (first.folder / "results.json").write_text(json.dumps(results))
    end_job(first.folder, State.FINISHED)
    start_job(second.folder)
    html, known, timer = trial_panel.show(services, second.id)
    assert timer.active
    assert html.count("data:image/png") == 1
    assert f'href="?run={first.id}"' in html
    assert f'href="?run={second.id}"' not in html
    assert "0.750" in html
    assert "4.0 M" in html
    assert "0.125" in html
    kept, _, _ = trial_panel.show(services, second.id, known)
    assert not isinstance(kept, str), "nothing is sent as long as nothing changes"
    end_job(second.folder, State.FAILED, "It <b>learned</b> nothing.")
    html, _, timer = trial_panel.show(services, second.id, known)
    assert not timer.active
    assert "It &lt;b&gt;learned&lt;/b&gt; nothing." in html
    assert html.index("U-Net, small") < html.index("U-Net</strong>")


def test_a_run_without_a_trial_shows_none(services: Services) -> None:
    run = make_run(services)
    assert read_job(run.folder).group == ""
    for identity in (run.id, "", "20200101-000000-gone"):
        html, known, timer = trial_panel.show(services, identity)
        assert (html, known, timer.active) == ("", "", False)
