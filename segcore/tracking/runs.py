"""Experiments and runs in the store: found again, restored or made, never made twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segcore.errors import JobError
from segcore.jobs.store import Job, find_job
from segcore.tracking import store
from segcore.tracking.record import JOB_TAG, job_tags, parameters
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def open_run(client: MlflowClient, workspace: Workspace, job: Job) -> Run:
    """Return the run of `job`, made if it is not there, restored if it was deleted; with all options."""
    from mlflow.entities import Param, ViewType

    experiment = open_experiment(client, workspace, job.session)
    runs = client.search_runs([experiment], f"tags.`{JOB_TAG}` = '{job.id}'", ViewType.ALL, max_results=1)
    if runs:
        run = runs[0]
        if run.info.lifecycle_stage == "deleted":
            client.restore_run(run.info.run_id)
    else:
        began = round((job.started or job.created) * 1000)
        known = {name: value for name, value in job_tags(job).items() if value}
        run = client.create_run(experiment, start_time=began, tags=known, run_name=job.id)
    # MLflow refuses to change an option; one that is there already stays as it is.
    missing = {name: value for name, value in parameters(job.config).items() if name not in run.data.params}
    if missing:
        client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in missing.items()])
    return run


def open_experiment(client: MlflowClient, workspace: Workspace, session: str) -> str:
    """Return the id of the session's experiment, made if it is not there, restored if it was deleted."""
    experiment = client.get_experiment_by_name(session)
    if experiment is None:
        root = store.artifact_root(workspace)
        try:
            return client.create_experiment(
                session, f"{root}/{session}".replace(" ", "%20") if root else None
            )
        except store.server_errors() as error:
            if store.error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(session)  # another process was faster
            assert experiment is not None
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def set_tags(client: MlflowClient, run: Run, tags: dict[str, str]) -> None:
    """Set tags of the run; empty values are left out."""
    from mlflow.entities import RunTag

    client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items() if value])


def link_parent(client: MlflowClient, workspace: Workspace, run: Run, job: Job) -> None:
    """Show the run below that of the job it goes on from, if MLflow knows that one; otherwise do nothing."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    if not job.parent or MLFLOW_PARENT_RUN_ID in run.data.tags:
        return
    parent = _parent_run(client, workspace, job)
    if parent is not None:
        client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent)


def _parent_run(client: MlflowClient, workspace: Workspace, job: Job) -> str | None:
    # By the tag alone: what job.json of the parent has noted may belong to another store.
    experiments = [item.experiment_id for item in client.search_experiments()]
    try:
        session = find_job(workspace, job.parent).session
        experiment = client.get_experiment_by_name(session)
        experiments = [experiment.experiment_id] if experiment else []
    except JobError:
        pass  # its folder was deleted: its run may still be anywhere
    found = client.search_runs(experiments, f"tags.`{JOB_TAG}` = '{job.parent}'", max_results=1)
    return str(found[0].info.run_id) if found else None
