"""A trial differs in its families alone, waits together, and tells what each came to."""

from __future__ import annotations

import json

import pytest

from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError
from segcore.events import EpochEvent
from segcore.families import FAMILIES
from segcore.jobs import groups
from segcore.jobs.journal import FolderReporter
from segcore.jobs.queue import waiting
from segcore.jobs.store import Job, State, end_job, start_job
from segcore.jobs.trials import is_trial, material_of, read_trial, submit_trial, trial_configs
from segcore.workspace import Workspace

NAMES = ("unet-small", "fpn", "unet")


def config(**training: object) -> RunConfig:
    training = {"start_from": "/a/model", "repeats": 3, "epochs": 7, "patience": 4, **training}
    data = {"patch_size": 64, "recipe": ["images.invert"], "sets": []}
    return build_config({"session": "em", "data": data, "training": training})


def epoch(number: int, dice: float, best: bool = True) -> EpochEvent:
    """Return what a training reports after an epoch."""
    return EpochEvent(
        epoch=number, epochs=9, train_loss=0.5, train_dice=0.5, val_loss=0.5, val_dice=dice,
        val_dice_per_class={}, val_iou_per_class={}, learning_rate=1e-3, seconds=1.0,
        patches_per_second=9.0, best=best,
    )  # fmt: skip


def begin(job: Job, *dices: float) -> None:
    """Let a training report epochs, each better than the one before."""
    start_job(job.folder)
    report = FolderReporter(job.folder)
    for number, dice in enumerate(dices, 1):
        report(epoch(number, dice))


def test_only_the_family_differs_and_nothing_but_the_minutes_ends_a_training() -> None:
    made = trial_configs(config(), (*NAMES, "fpn"), 3.0)
    assert [one.model.family for one in made] == list(NAMES)
    same = {one.model_copy(update={"model": made[0].model}).model_dump_json() for one in made}
    assert len(same) == 1
    training = made[0].training
    assert (training.max_minutes, training.repeats, training.patience) == (3.0, 1, 0)
    assert training.epochs > 10_000
    assert training.start_from is None
    assert made[0].data.recipe == ["images.invert"]


def test_weights_and_stages_of_one_family_are_not_those_of_another() -> None:
    base = config()
    model = {"pretrained": "owner/name", "freeze": ["encoder 1"], "freeze_encoder": True}
    begun = base.model_copy(update={"model": base.model.model_copy(update=model)})
    for one in trial_configs(begun, NAMES, 1.0):
        assert (one.model.pretrained, one.model.freeze, one.model.freeze_encoder) == ("", [], False)
    model = {"pretrained": "imagenet"}
    begun = base.model_copy(update={"model": base.model.model_copy(update=model)})
    made = trial_configs(begun, NAMES, 1.0)
    assert [one.model.pretrained for one in made] == ["", "imagenet", ""], "each takes what it has"


def test_what_is_learned_decides_what_is_worth_trying() -> None:
    for head, kind in (("semantic", "semantic"), ("stars", "instance")):
        data = {"labels_as": "objects"}
        assert material_of(build_config({"data": data, "model": {"head": head}}), 3, None).kind == kind


def test_a_crop_is_a_repair_of_all_and_the_last_one() -> None:
    (one,) = trial_configs(config(feedback_region="0,0,0,64,64"), ["unet"], 1.0, (128, 96))
    assert one.data.recipe == ["images.invert", "pair.crop 128 96"]
    assert one.training.feedback_region is None
    (one,) = trial_configs(config(), ["unet"], 1.0, (128, 96, 4, 5))
    assert one.data.recipe[-1] == "pair.crop 128 96 4 5"


@pytest.mark.parametrize("crop", [(5,), (0, 5), (5, 5, -1, 0), (5, 5, 5)])
def test_a_crop_that_is_no_part_is_refused(crop: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="no part"):
        trial_configs(config(), ["unet"], 1.0, crop)


def test_all_families_that_cannot_work_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        trial_configs(config(), ["sensor3d", "unet", "nonsense"], 1.0)
    assert "sensor3d" in caught.value.message
    assert "nonsense" in caught.value.message
    for families, minutes in (((), 1.0), (["unet"], 0.0), (["unet"], float("nan"))):
        with pytest.raises(ConfigError):
            trial_configs(config(), families, minutes)


def test_a_trial_waits_together_and_tells_what_is_known(workspace: Workspace) -> None:
    jobs = submit_trial(workspace, trial_configs(config(), NAMES, 1.0))
    assert [job.id for job in waiting(workspace, "train")] == [job.id for job in jobs]
    (group,) = {job.group for job in jobs}
    assert is_trial(group)
    fresh = read_trial(workspace, group)
    assert [one.family for one in fresh] == list(NAMES)
    assert {(one.state, one.score, one.parameters, one.model_bytes) for one in fresh} == {
        (State.QUEUED, None, None, None)
    }
    begin(jobs[0], 0.4, 0.7)
    (jobs[0].folder / "best_model.pth").write_bytes(b"weights")
    results = {"parameters": 12, "seconds_per_megapixel": 0.25, "metrics": {"val_dice": 0.7}}
    (jobs[0].folder / "results.json").write_text(json.dumps(results))
    end_job(jobs[0].folder, State.FINISHED)
    begin(jobs[1], float("nan"))
    end_job(jobs[1].folder, State.FAILED, "It learned nothing.")
    first, second, third = read_trial(workspace, group, "em")
    assert (first.title, first.score, first.best_epoch) == (FAMILIES["unet-small"].title, 0.7, 2)
    assert (first.parameters, first.seconds_per_megapixel, first.model_bytes) == (12, 0.25, 7)
    assert (second.state, second.score, second.message) == (State.FAILED, None, "It learned nothing.")
    assert third.state is State.QUEUED


def test_repeats_are_no_trial(workspace: Workspace) -> None:
    jobs = groups.submit_repeats(workspace, config(start_from=None))
    assert not is_trial(jobs[0].group)
    assert read_trial(workspace, jobs[0].group) == ()
    assert read_trial(workspace, "") == ()
