"""What `segcore train` does with `--training.repeats`: one training after the other, then mean and spread."""

from __future__ import annotations

import sys
from typing import Any

from segcore.config import RunConfig
from segcore.events import score_of
from segcore.jobs.groups import GroupSummary, new_group, repeat_configs, summary
from segcore.jobs.journal import read_results
from segcore.jobs.store import Job, State, create_job
from segcore.worker.console import Console
from segcore.worker.local import run_here
from segcore.workspace import Workspace


def run_all(workspace: Workspace, config: RunConfig, parent: str) -> list[Job]:
    """Train with every seed, one after the other; the first that somebody ends is the last.

    Parameters
    ----------
    workspace : Workspace
        Where the run folders are made.
    config : RunConfig
        Options of all of them; `training.repeats` says how many.
    parent : str
        Id of the run they go on from, "" if none.

    Returns
    -------
    list of Job
        The trainings that were begun, as they ended; one that failed does not keep the others from trying.
    """
    configs = repeat_configs(config)
    group = new_group() if len(configs) > 1 else ""
    jobs: list[Job] = []
    for number, one in enumerate(configs, start=1):
        if group:
            sys.stderr.write(f"repeat {number} of {len(configs)}, seed {one.training.seed}\n")
        job = create_job(workspace, "train", one, owner="command", parent=parent, group=group)
        jobs.append(run_here(job, workspace, Console()))
        if jobs[-1].state is State.FAILED and number < len(configs):
            sys.stderr.write(f"warning: this repeat failed: {jobs[-1].message} {jobs[-1].remedy}\n")
        elif jobs[-1].state is not State.FINISHED:
            break
    return jobs


def best_of(jobs: list[Job]) -> Job:
    """Return the job with the best validation Dice, or F1 of objects; the last one if none left a model."""
    scored = [(score, job) for job in jobs if (score := score_of(_metrics(job))[1]) is not None]
    return max(scored, key=lambda item: item[0])[1] if scored else jobs[-1]


def repeats_result(workspace: Workspace, jobs: list[Job]) -> dict[str, Any]:
    """Return what the JSON object of a training also holds when it was repeated; empty for a single one."""
    if not jobs[0].group:
        return {}
    found = summary(workspace, jobs[0].group, jobs[0].session)
    return {
        "repeats": [
            {
                "id": job.id,
                "seed": job.config.training.seed,
                "state": job.state,
                "best_dice": metrics.get("val_dice"),
                **({"best_f1": metrics["val_f1"]} if "val_f1" in metrics else {}),
                "best_epoch": read_results(job).get("best_epoch"),
                "run_folder": job.folder,
            }
            for job, metrics in ((job, _metrics(job)) for job in jobs)
        ],
        "mean": found.mean,
        "spread": found.spread,
    }


def repeats_line(workspace: Workspace, jobs: list[Job]) -> str:
    """Return mean and spread for a person: `Dice 0.812 ± 0.006 with 3 seeds`."""
    return f"over all seeds  {describe_group(summary(workspace, jobs[0].group, jobs[0].session))}"


def describe_group(found: GroupSummary) -> str:
    """Return `Dice 0.812 ± 0.006 (3 finished)`, of objects their F1, with what is known so far."""
    if found.mean is None:
        return "none has finished"
    spread = "" if found.spread is None else f" ± {found.spread:.3f}"
    return f"{found.measure} {found.mean:.3f}{spread} ({found.finished} finished)"


def _metrics(job: Job) -> dict[str, Any]:
    return read_results(job).get("metrics") or {}
