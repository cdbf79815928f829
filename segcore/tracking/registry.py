"""Look-ups in the registry: MLflow's model versions become ours; what is missing is said in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segcore.errors import ModelError, SegcoreError
from segcore.jobs.epochs import KeptEpoch
from segcore.jobs.store import Job
from segcore.tracking import store
from segcore.tracking.package import EPOCH_TAG
from segcore.tracking.record import JOB_TAG
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

DICE_TAG, F1_TAG = "segcore.val_dice", "segcore.val_f1"
HISTORY_TAG = "segcore.alias_history."
"""Tag of a registered model: the versions that had the alias, as a JSON list, the present one last."""


@dataclass(frozen=True)
class ModelVersion:
    """One trained model under a name. Fields that its run does not tell are empty."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    job_id: str
    session: str
    created: float
    """Seconds since 1970."""
    val_dice: float | None
    class_values: tuple[int, ...]
    class_names: tuple[str, ...]
    epoch: int | None = None
    """The epoch whose weights it holds."""
    val_f1: float | None = None
    """F1 of objects, where they are told apart."""

    @property
    def reference(self) -> str:
        """The text that `--model` takes: `models:/name/version`."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True)
class RegisteredModel:
    """A name and its versions, newest first."""

    name: str
    versions: tuple[ModelVersion, ...]

    @property
    def aliases(self) -> dict[str, int]:
        """The version of every alias."""
        return {alias: version.version for version in self.versions for alias in version.aliases}


@contextmanager
def open_registry(workspace: Workspace) -> Iterator[MlflowClient]:
    """Yield a client; errors of the store leave as ModelError."""
    uri = store.tracking_uri(workspace)
    try:
        yield store.client(workspace)
    except SegcoreError:
        raise
    except store.server_errors() as error:
        remedy = (
            "Start the server, or unset MLFLOW_TRACKING_URI to use the built-in store."
            if store.is_server(uri)
            else f"Look whether {store.mlruns(workspace)} can be written and belongs to this MLflow."
        )
        raise ModelError(store.explain(error, uri), remedy) from error


def pages(search: Any, query: str | None = None) -> Iterator[Any]:
    """Yield everything a search of the client finds, page by page."""
    page = search(query)
    while True:
        yield from page
        if not page.token:
            return
        page = search(query, page_token=page.token)


def find_registered(client: MlflowClient, name: str) -> Any:
    """Return MLflow's registered model, or say which there are."""
    try:
        return client.get_registered_model(name)
    except store.server_errors() as error:
        if store.error_code(error) not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        known = (
            ", ".join(sorted(model.name for model in pages(client.search_registered_models))) or "none yet"
        )
        raise ModelError(f"There is no registered model {name!r}.", f"Registered models: {known}.") from error


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Return the version with this number, or the newest for `latest`, or say which there are."""
    model = find_registered(client, name)
    found = {str(item.version): item for item in pages(client.search_model_versions, f"name = '{name}'")}
    number = max(found, key=int, default=version) if version == "latest" else str(int(version))
    if number not in found:
        known = ", ".join(sorted(found, key=int)) or "none"
        raise ModelError(f"Model {name} has no version {version}.", f"Versions: {known}.")
    return read_version(client, found[number], model.aliases)


def find_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion:
    """Return the version that has the alias, or say which aliases there are."""
    aliases = find_registered(client, name).aliases
    if alias not in aliases:
        known = ", ".join(f"{key} (version {value})" for key, value in sorted(aliases.items())) or "none yet"
        raise ModelError(f"Model {name} has no alias {alias!r}.", f"Aliases: {known}.")
    return find_version(client, name, str(aliases[alias]))


def read_model(client: MlflowClient, model: Any) -> RegisteredModel:
    """Return MLflow's registered model as ours, with the versions that were trained here."""
    found = pages(client.search_model_versions, f"name = '{model.name}'")
    versions = [read_version(client, item, model.aliases) for item in found]
    ours = [version for version in versions if version.job_id]
    return RegisteredModel(model.name, tuple(sorted(ours, key=lambda version: version.version, reverse=True)))


def read_version(client: MlflowClient, found: Any, aliases: dict[str, Any]) -> ModelVersion:
    """Return MLflow's model version as ours; one registered by other means is described by its run."""
    tags = found.tags
    if JOB_TAG not in tags and found.run_id:
        tags = _run_tags(client, found.run_id)
    dice, f1, epoch = (tags.get(name) for name in (DICE_TAG, F1_TAG, EPOCH_TAG))
    number = int(found.version)
    return ModelVersion(
        name=found.name,
        version=number,
        aliases=tuple(sorted(alias for alias, version in aliases.items() if int(version) == number)),
        run_id=found.run_id or "",
        job_id=tags.get(JOB_TAG, ""),
        session=tags.get("segcore.session", ""),
        created=found.creation_timestamp / 1000,
        val_dice=float(dice) if dice else None,
        class_values=tuple(json.loads(tags.get("segcore.class_values", "[]"))),
        class_names=tuple(json.loads(tags.get("segcore.class_names", "[]"))),
        epoch=int(epoch) if epoch else None,
        val_f1=float(f1) if f1 else None,
    )


def _run_tags(client: MlflowClient, run_id: str) -> dict[str, str]:
    try:
        data = client.get_run(run_id).data
    except store.server_errors() as error:
        if store.error_code(error) != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    scores = {DICE_TAG: data.metrics.get("best_val_dice"), F1_TAG: data.metrics.get("best_val_f1")}
    return data.tags | {tag: repr(score) for tag, score in scores.items() if score is not None}


def version_tags(job: Job, kept: KeptEpoch | None) -> dict[str, str]:
    """Return what a list of models shows, so that it need not ask for every run."""
    card = job.card
    tags = {JOB_TAG: job.id, "segcore.session": job.session}
    if kept is not None:
        tags[EPOCH_TAG] = str(kept.epoch)
        if kept.scores is not None:
            tags[DICE_TAG] = repr(kept.scores.val_dice)
            if kept.scores.val_f1 is not None:
                tags[F1_TAG] = repr(kept.scores.val_score)
    if card is not None:
        tags["segcore.class_values"] = json.dumps(card.class_values)
        tags["segcore.class_names"] = json.dumps(card.class_names, ensure_ascii=False)
    return tags


def alias_history(model: Any, alias: str) -> list[int]:
    """Return the versions that had the alias, the last one last."""
    return [int(version) for version in json.loads(model.tags.get(HISTORY_TAG + alias, "[]"))]


def point(client: MlflowClient, name: str, alias: str, history: list[int]) -> None:
    """Give the alias to the last version of `history` and keep the history."""
    # The alias first: a history without the alias would make the next rollback skip a version.
    client.set_registered_model_alias(name, alias, str(history[-1]))
    client.set_registered_model_tag(name, HISTORY_TAG + alias, json.dumps(history))
