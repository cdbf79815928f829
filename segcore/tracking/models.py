"""The registry: models under a name, in versions, with aliases such as `champion`. Starts without MLflow."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from segcore.errors import ConfigError, ModelError
from segcore.jobs.epochs import KeptEpoch, find_epoch, model_epoch
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, read_job
from segcore.tracking import store
from segcore.tracking.mlflow import Follower
from segcore.tracking.package import CONFIG, EPOCH_TAG, NAME, WEIGHTS, bring_split, log_epoch, log_model
from segcore.tracking.registry import (
    ModelVersion,
    RegisteredModel,
    alias_history,
    find_alias,
    find_registered,
    find_version,
    open_registry,
    pages,
    point,
    read_model,
    version_tags,
)
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

__all__ = [
    "CHAMPION",
    "ModelVersion",
    "RegisteredModel",
    "delete_version",
    "describe",
    "fetch",
    "list_models",
    "register",
    "remove_alias",
    "rollback",
    "set_alias",
    "ui_url",
]

CHAMPION = "champion"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
ALIAS_PATTERN = r"^(?!latest$)(?!v\d+$)[A-Za-z][A-Za-z0-9_-]{0,49}$"
REFERENCE = re.compile(r"^models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))$")


def list_models(workspace: Workspace) -> list[RegisteredModel]:
    """Return the models that were trained here, the one with the newest version first.

    Models that other programs keep on the same server are left out.

    Raises
    ------
    ModelError
        The store cannot be read.
    """
    with open_registry(workspace) as client:
        models = [read_model(client, model) for model in pages(client.search_registered_models)]
    models = [model for model in models if model.versions]
    return sorted(models, key=lambda model: model.versions[0].created, reverse=True)


def register(job: Job, name: str, workspace: Workspace, epoch: int | None = None) -> ModelVersion:
    """Register the model of a run, or another of its kept epochs.

    The same weights under the same name again return the version they have. What MLflow has not been told yet
    is sent first.

    Raises
    ------
    ConfigError
        The name breaks the rules.
    ModelError
        The run has no model, or MLflow cannot be reached.
    JobError
        The weights of the epoch were not kept.
    """
    _check(
        name,
        NAME_PATTERN,
        "a model name",
        "letters, digits, dot, dash and underscore, a letter or digit first",
    )
    job = read_job(job.folder)
    usable = job.kind == "train" and job.state.ended and job.state is not State.DISCARDED
    if not usable or (epoch is None and not (job.folder / WEIGHTS).exists()):
        raise ModelError(
            f"Run {job.id} has no model to register.", "Choose a training that has ended with a model."
        )
    kept = _kept(job, epoch)
    with open_registry(workspace) as client, FileLock(workspace.state / "registry.lock"):
        run_id, model = _logged_model(client, job, workspace, kept)
        try:
            client.create_registered_model(name)
        except store.server_errors() as error:
            if store.error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        versions = pages(client.search_model_versions, f"name = '{name}'")
        version = next((version for version in versions if _holds(version, run_id, model, kept)), None)
        if version is None:
            tags = version_tags(job, kept)
            version = client.create_model_version(
                name, _source(model, workspace), run_id, tags=tags, model_id=model.model_id
            )
            _link(client, model.model_id, name, str(version.version))
        return find_version(client, name, str(version.version))


def set_alias(name: str, alias: str, version: int, workspace: Workspace) -> ModelVersion:
    """Give `alias` to a version; another version that has it loses it.

    Raises
    ------
    ConfigError
        The alias breaks the rules.
    ModelError
        There is no such model or version, or MLflow cannot be reached.
    """
    rule = "letters, digits, dash and underscore, a letter first; latest and v1, v2 … are taken"
    _check(alias, ALIAS_PATTERN, "an alias", rule)
    with open_registry(workspace) as client:
        find_version(client, name, str(version))
        model = find_registered(client, name)
        history = alias_history(model, alias)
        now = (
            [int(model.aliases[alias])] if alias in model.aliases else []
        )  # may have been set in the MLflow UI
        for holder in (*now, version):
            history += [holder] if history[-1:] != [holder] else []
        point(client, name, alias, history)
        return find_version(client, name, str(version))


def remove_alias(name: str, alias: str, workspace: Workspace) -> None:
    """Take `alias` away from the version that has it; who had it before is remembered for `rollback`.

    Raises
    ------
    ModelError
        There is no such model or alias, or MLflow cannot be reached.
    """
    with open_registry(workspace) as client:
        find_alias(client, name, alias)
        client.delete_registered_model_alias(name, alias)


def rollback(name: str, workspace: Workspace, alias: str = CHAMPION) -> ModelVersion:
    """Give `alias` back to the version that had it before the present one.

    Who had it is kept in a tag of the registered model; versions deleted since are passed over. Rolling back
    twice goes back two steps, not forth again.

    Raises
    ------
    ModelError
        No earlier version is known, or MLflow cannot be reached.
    """
    with open_registry(workspace) as client:
        model = find_registered(client, name)
        known = {int(version.version) for version in pages(client.search_model_versions, f"name = '{name}'")}
        now = int(model.aliases[alias]) if alias in model.aliases else None
        history = alias_history(model, alias)
        while history and (history[-1] == now or history[-1] not in known):
            history.pop()
        if not history:
            raise ModelError(
                f"No earlier version of {name} had the alias {alias}.",
                "Give the alias to the version you want.",
            )
        point(client, name, alias, history)
        return find_version(client, name, str(history[-1]))


def delete_version(name: str, version: int, workspace: Workspace) -> None:
    """Remove a version from the registry; its run and its files stay.

    Raises
    ------
    ModelError
        There is no such version, it has an alias, or MLflow cannot be reached.
    """
    with open_registry(workspace) as client:
        found = find_version(client, name, str(version))
        if found.aliases:
            raise ModelError(
                f"Version {version} of {name} is its {' and '.join(found.aliases)}.",
                "Give the alias to another version, or remove it, first.",
            )
        client.delete_model_version(name, str(version))


def describe(reference: str, workspace: Workspace) -> ModelVersion:
    """Return the version behind `models:/name@alias`, `models:/name/3` or `models:/name/latest`.

    Raises
    ------
    ModelError
        The reference has another form or leads nowhere, or MLflow cannot be reached.
    """
    match = REFERENCE.match(reference)
    if match is None:
        raise ModelError(
            f"{reference!r} names no registered model.", "Write models:/name@alias or models:/name/version."
        )
    name, alias, version = match["name"], match["alias"], match["version"]
    with open_registry(workspace) as client:
        if alias:
            return find_alias(client, name, alias)
        return find_version(client, name, version)


def fetch(reference: str, workspace: Workspace) -> Path:
    """Return a local folder with the best_model.pth and config.json of a registered model.

    Files that lie on this machine are used where they are; those of a server are downloaded once into the
    workspace's own folder.

    Raises
    ------
    ModelError
        The reference leads nowhere, the version was not made by this program, or MLflow cannot be reached.
    """
    version = describe(reference, workspace)
    with open_registry(workspace) as client:
        location = client.get_model_version_download_uri(version.name, str(version.version))
        location = f"{location.rstrip('/')}/artifacts"
        folder = store.local_path(location)
        if folder is None:
            # With the run's id: a name that was deleted and made anew starts again at version 1.
            folder = workspace.state / "models" / f"{version.name}-{version.version}-{version.run_id}"
            with FileLock(workspace.state / "download.lock"):
                if not folder.exists():
                    _download(location, folder, store.tracking_uri(workspace))
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{version.reference} has no {' and no '.join(missing)} in {folder}.",
            "It was not made by this program, or its files were deleted: choose another version.",
        )
    bring_split(folder, version.job_id, workspace)
    return folder


def _download(location: str, folder: Path, uri: str) -> None:
    """Make `folder` with the files at `location`, whole or not at all."""
    from mlflow.artifacts import download_artifacts

    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".part-") as temporary:
        os.replace(download_artifacts(location, dst_path=temporary, tracking_uri=uri), folder)


def ui_url(workspace: Workspace, run_id: str | None) -> str | None:
    """Return the address of a run's page in the MLflow UI, or None for a run MLflow does not know.

    The UI is at `$SEGCORE_MLFLOW_URL`, else at the tracking server, else where `segcore serve` starts it.
    """
    if not run_id:
        return None
    uri = store.public_uri(store.tracking_uri(workspace))
    server = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{(os.environ.get('SEGCORE_MLFLOW_URL') or server).rstrip('/')}/#/runs/{run_id}"


def _check(text: str, pattern: str, what: str, rule: str) -> None:
    if not re.fullmatch(pattern, text):
        raise ConfigError(f"{text!r} is not {what}.", f"Use {rule}.")


def _kept(job: Job, epoch: int | None) -> KeptEpoch | None:
    """Return the epoch to register, by default the run's model; None where no epoch is known of it."""
    history = read_history(job.folder)
    wanted = model_epoch(job.folder, history) if epoch is None else epoch
    return None if wanted is None else find_epoch(job.folder, wanted, history)


def _holds(version: Any, run_id: str, model: LoggedModel, kept: KeptEpoch | None) -> bool:
    """Say whether a version is this model of this run; one that names no epoch holds the run's own model."""
    if version.run_id != run_id:
        return False
    if EPOCH_TAG in version.tags:
        return kept is not None and version.tags[EPOCH_TAG] == str(kept.epoch)
    return bool(model.name == NAME)


def _logged_model(
    client: MlflowClient, job: Job, workspace: Workspace, kept: KeptEpoch | None
) -> tuple[str, LoggedModel]:
    """Return run id and model of the job in the store, sending what is missing."""
    follower = Follower(job.folder, workspace)
    scratch = workspace.state / "scratch"
    for attempt in (1, 2):
        # A run that can still go on is never told completely: what there is of it is enough.
        told = follower.finish(timeout=30) if job.state.final else follower.sync()
        run_id = read_job(job.folder).mlflow_run_id
        try:
            if told and run_id:
                run = client.get_run(run_id)
                if kept is None:
                    return run_id, log_model(client, run, job.folder, scratch)
                return run_id, log_epoch(client, run, job.folder, kept, scratch)
        except store.server_errors() as error:
            if attempt == 2 or store.error_code(error) != "RESOURCE_DOES_NOT_EXIST":
                raise
            follower.forget()  # somebody emptied the store
            continue
        break
    raise ModelError(
        f"MLflow ({follower.uri}) did not take the model of run {job.id}.",
        "Look whether the tracking server runs and has room, then register again.",
    )


def _source(model: LoggedModel, workspace: Workspace) -> str:
    # A database store would look for models:/… in the store of the process-wide tracking address.
    if store.is_server(store.tracking_uri(workspace)):
        return f"models:/{model.model_id}"
    return str(model.artifact_location)


def _link(client: MlflowClient, model_id: str, name: str, version: str) -> None:
    """Let the model's own page in the MLflow UI show under which names it is registered."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    known = json.loads(client.get_logged_model(model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    known.append({"name": name, "version": version})
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(known)})
