"""A trained model as MLflow keeps it: weights, config.json and the code that applies them; no pickle."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import segcore
from segcore.events import EpochEvent
from segcore.tracking import store
from segcore.tracking.record import final_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

NAME = "model"
WEIGHTS = "best_model.pth"
CONFIG = "config.json"
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
    """Return the model that was logged for `run`, whole or not, or None."""
    models = client.search_logged_models(
        [run.info.experiment_id],
        f"source_run_id = '{run.info.run_id}'",
        order_by=[{"field_name": "creation_timestamp"}],
    )
    return models[0] if models else None


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
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = find_model(client, run)
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id, NAME, run.info.run_id, params=run.data.params, model_type="segmentation"
        )
    if model.status == LoggedModelStatus.READY:
        return model
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="model-") as temporary:
        save_model(Path(temporary) / NAME, folder, run.info.run_id, model)
        client.log_model_artifacts(model.model_id, str(Path(temporary) / NAME))
    outputs = client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    # READY comes last: a model without it was interrupted while it was sent, and is sent again.
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def save_model(path: Path, folder: Path, run_id: str, model: LoggedModel) -> None:
    """Write the model of the run folder to `path` in MLflow's layout, with a copy of this package's code."""
    store.load_mlflow("mlflow.pyfunc")
    import mlflow.pyfunc
    from mlflow.models import Model

    package = Path(segcore.__file__).parent
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
        artifacts={"weights": str(folder / WEIGHTS), "config": str(folder / CONFIG)},
        # A local build ("+cpu") is not to be had from a package index.
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
    )


def log_scores(
    client: MlflowClient, run_id: str, model_id: str | None, history: list[EpochEvent], best: EpochEvent
) -> None:
    """Log the final metrics for the run and, if there is one, for its model."""
    from mlflow.entities import Metric

    moment = round(best.time * 1000)  # fixed, so that sending it again changes nothing
    metrics = [
        Metric(name, value, moment, best.epoch, model_id=model_id)
        for name, value in final_metrics(history).items()
    ]
    client.log_batch(run_id, metrics=metrics)
