"""Repeats differ in their seed alone, belong together, and come to a mean and a spread of what finished."""

from __future__ import annotations

import json
from statistics import mean, stdev

import pytest

from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, JobError
from segcore.jobs import groups
from segcore.jobs.groups import repeat_configs, submit_repeats, summary
from segcore.jobs.queue import submit, waiting
from segcore.jobs.store import Job, State, end_job, list_jobs, start_job
from segcore.workspace import Workspace


def config(**training: object) -> RunConfig:
    return build_config({"session": "em", "training": {"seed": 7, "repeats": 3, **training}})


def finish(job: Job, dice: float, state: State = State.FINISHED) -> None:
    start_job(job.folder)
    (job.folder / "results.json").write_text(json.dumps({"best_epoch": 1, "metrics": {"val_dice": dice}}))
    end_job(job.folder, state)


def test_repeats_differ_in_their_seed_alone() -> None:
    made = repeat_configs(config())
    assert [one.training.seed for one in made] == [7, 8, 9]
    assert {one.training.repeats for one in made} == {1}
    same = {one.model_copy(update={"training": made[0].training}).model_dump_json() for one in made}
    assert len(same) == 1
    alone = config(repeats=1)
    assert repeat_configs(alone) == [alone]


def test_the_last_seed_is_followed_by_the_first() -> None:
    seeds = [one.training.seed for one in repeat_configs(config(seed=2**31 - 1))]
    assert seeds == [2**31 - 1, 0, 1]


def test_a_continued_run_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="would be the same"):
        repeat_configs(config(continue_from="/somewhere"))


def test_repeats_wait_together_in_the_order_of_their_seeds(workspace: Workspace) -> None:
    jobs = submit_repeats(workspace, config(), parent="another")
    assert [job.id for job in waiting(workspace, "train")] == [job.id for job in jobs]
    assert len({job.group for job in jobs}) == 1
    assert jobs[0].group
    assert {job.parent for job in jobs} == {"another"}
    (alone,) = submit_repeats(workspace, config(repeats=1))
    assert alone.group == ""


def test_the_summary_counts_what_finished(workspace: Workspace) -> None:
    jobs = submit_repeats(workspace, config(repeats=5))
    submit(workspace, "train", config(repeats=1), group="another")
    group = jobs[0].group
    empty = summary(workspace, group)
    assert (empty.finished, empty.total, empty.mean, empty.spread, empty.over) == (0, 5, None, None, False)
    finish(jobs[0], 0.80)
    first = summary(workspace, group)
    assert (first.mean, first.spread) == (0.80, None)
    finish(jobs[2], 0.84)
    finish(jobs[1], 0.10, State.CANCELLED)
    finish(jobs[3], 0.10, State.FAILED)
    now = summary(workspace, group, "em")
    assert now.seeds == (7, 8, 9, 10, 11)
    assert now.scores == (0.80, 0.84)
    assert now.mean == pytest.approx(mean([0.80, 0.84]))
    assert now.spread == pytest.approx(stdev([0.80, 0.84]))
    assert (now.finished, now.total, now.over) == (2, 5, False)
    finish(jobs[4], float("nan"))
    last = summary(workspace, group)
    assert last.scores == now.scores, "what is not a number is no score"
    assert last.over


def test_repeats_that_learn_objects_are_summed_up_by_their_f1(workspace: Workspace) -> None:
    values = {"model": {"head": "boundary"}, "data": {"labels_as": "objects"}, "training": {"repeats": 2}}
    jobs = submit_repeats(workspace, build_config({"session": "em", **values}))
    for job, f1 in zip(jobs, (0.5, 0.7), strict=True):
        start_job(job.folder)
        results = {"best_epoch": 1, "metrics": {"val_dice": 0.9, "val_f1": f1}}
        (job.folder / "results.json").write_text(json.dumps(results))
        end_job(job.folder, State.FINISHED)
    found = summary(workspace, jobs[0].group)
    assert (found.measure, found.scores) == ("F1", (0.5, 0.7))


def test_no_group_is_nobodys_group(workspace: Workspace) -> None:
    submit(workspace, "train", config(repeats=1))
    assert summary(workspace, "").total == 0


def test_repeats_are_queued_together_or_not_at_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = groups.submit

    def full(workspace: Workspace, *given: object, **named: object) -> Job:
        if len(list_jobs(workspace)) == 2:
            raise JobError("The disk is full.", "Free some.")
        return real(workspace, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(groups, "submit", full)
    with pytest.raises(JobError, match="full"):
        submit_repeats(workspace, config())
    assert waiting(workspace, "train") == []
