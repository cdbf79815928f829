"""A trained model as MLflow keeps it: weights, config.json and the code that applies them; no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import segcore
from segcore.errors import JobError
from segcore.events import EpochEvent
from segcore.files import share_file
from segcore.jobs.epochs import KeptEpoch, model_epoch
from segcore.jobs.journal import read_history
from segcore.jobs.store import find_job
from segcore.tracking import store
from segcore.tracking.record import best_epoch, epoch_metrics, final_metrics, without_secrets
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

NAME = "model"
EPOCH_TAG = "segcore.epoch"
"""Tag of a logged model and of a version: the epoch whose weights it holds."""
WEIGHTS = "best_model.pth"
CONFIG = "config.json"
SPLIT = "split.json"
# What applying a model imports; left to itself, MLflow would find out by loading it in another process.
REQUIREMENTS = (
    "filelock",
    "imagecodecs",
    "mlflow",
    "numpy",
    "psutil",
    "pydantic",
    "scipy",
    "tifffile",
    "torch",
)


def find_model(client: MlflowClient, run: Run) -> LoggedModel | None:
    """Return the model that was logged for `run` when it ended, whole or not, or None."""
    return next((model for model in _logged(client, run) if model.name == NAME), None)


def find_epoch_model(
    client: MlflowClient, run: Run, epoch: int, history: list[EpochEvent]
) -> LoggedModel | None:
    """Return the model logged for `run` that holds the weights of `epoch`, whole or not, or None."""
    best = best_epoch(history)
    # A model logged before its epoch was noted holds the best one.
    unsaid = str(best.epoch) if best else ""
    models = _logged(client, run)
    return next((model for model in models if model.tags.get(EPOCH_TAG, unsaid) == str(epoch)), None)


def log_model(client: MlflowClient, run: Run, folder: Path, scratch: Path) -> LoggedModel:
    """Log the model in the run folder for `run`; a model that is already there whole is returned as it is.

    Parameters
    ----------
    client : MlflowClient
        The store.
    run : Run
        The training's run.
    folder : Path
        Run folder with best_model.pth and config.json (with the model card).
    scratch : Path
        Folder for a temporary copy, on a disk with room for the weights.
    """
    model = find_model(client, run)
    if model is None:
        epoch = model_epoch(folder, read_history(folder))
        model = _create(client, run, NAME, epoch)
    return _send(client, run, model, (folder / WEIGHTS, folder / CONFIG, folder / SPLIT), scratch)


def log_epoch(client: MlflowClient, run: Run, folder: Path, kept: KeptEpoch, scratch: Path) -> LoggedModel:
    """Log a kept epoch as a further model of `run`, with its scores; one that is there whole is returned."""
    from mlflow.entities import Metric

    model = find_epoch_model(client, run, kept.epoch, read_history(folder))
    if model is None:
        model = _create(client, run, f"{NAME}-epoch-{kept.epoch:04d}", kept.epoch)
    model = _send(client, run, model, (kept.weights, folder / CONFIG, folder / SPLIT), scratch)
    if kept.scores is not None:
        moment = round(
            kept.scores.time * 1000
        )  # as in the run's curve: the same point again, now with a model
        client.log_batch(
            run.info.run_id,
            metrics=[
                Metric(name, value, moment, kept.epoch, model_id=model.model_id)
                for name, value in epoch_metrics(kept.scores).items()
            ],
        )
    return model


def _logged(client: MlflowClient, run: Run) -> list[LoggedModel]:
    return list(
        client.search_logged_models(
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}'",
            order_by=[{"field_name": "creation_timestamp"}],
        )
    )


def _create(client: MlflowClient, run: Run, name: str, epoch: int | None) -> LoggedModel:
    tags = {} if epoch is None else {EPOCH_TAG: str(epoch)}
    return client.create_logged_model(
        run.info.experiment_id,
        name,
        run.info.run_id,
        tags=tags,
        params=run.data.params,
        model_type="segmentation",
    )


def _send(
    client: MlflowClient, run: Run, model: LoggedModel, files: tuple[Path, Path, Path], scratch: Path
) -> LoggedModel:
    """Send weights, configuration and split, unless the model is whole already."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    if model.status == LoggedModelStatus.READY:
        return model
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="model-") as temporary:
        files = (files[0], without_secrets(files[1], Path(temporary)), files[2])
        save_model(Path(temporary) / NAME, files, run.info.run_id, model)
        client.log_model_artifacts(model.model_id, str(Path(temporary) / NAME))
    outputs = client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    # READY comes last: a model without it was interrupted while it was sent, and is sent again.
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def save_model(path: Path, files: tuple[Path, Path, Path], run_id: str, model: LoggedModel) -> None:
    """Write weights, config.json and split to `path` in MLflow's layout, with a copy of this code."""
    store.load_mlflow("mlflow.pyfunc")
    import mlflow.pyfunc
    from mlflow.models import Model

    package = Path(segcore.__file__).parent
    # MLflow keeps the names of the files, and a model is looked for under one name, whatever its epoch.
    weights = path.with_name(WEIGHTS)
    share_file(files[0], weights)
    artifacts = {"weights": weights, "config": files[1], "split": files[2]}
    mlflow.pyfunc.save_model(
        str(path),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
        python_model=str(package / "tracking" / "pyfunc.py"),
        code_paths=[str(package)],
        artifacts={name: str(file) for name, file in artifacts.items() if file.is_file()},
        # A local build ("+cpu") is not to be had from a package index.
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
    )


def bring_split(folder: Path, job_id: str, workspace: Workspace) -> None:
    """Put the split of a run beside its model, if that was registered before the split went with it."""
    if job_id and not (folder / SPLIT).is_file():
        with suppress(JobError, OSError):  # the run is gone, or has none
            share_file(find_job(workspace, job_id).folder / SPLIT, folder / SPLIT)


def log_scores(
    client: MlflowClient,
    run_id: str,
    model_id: str | None,
    history: list[EpochEvent],
    best: EpochEvent,
    more: Mapping[str, float],
) -> None:
    """Log the final metrics, and `more`, for the run and, if its model is the best epoch, for the model."""
    from mlflow.entities import Metric

    if model_id is not None:
        holds = client.get_logged_model(model_id).tags.get(EPOCH_TAG, str(best.epoch))
        model_id = model_id if holds == str(best.epoch) else None
    moment = round(best.time * 1000)  # fixed, so that sending it again changes nothing
    metrics = [
        Metric(name, value, moment, best.epoch, model_id=model_id)
        for name, value in (final_metrics(history) | dict(more)).items()
    ]
    client.log_batch(run_id, metrics=metrics)
