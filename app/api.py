"""The API: named, documented endpoints with which `gradio_client` runs the whole job without the page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast, get_args

import gradio as gr
from gradio.events import api

from app.jobview import JobView
from app.list_view import csv_text
from app.services import Services
from app.session import Problem, attempt
from segcore.config import SECTIONS, build_config
from segcore.errors import ConfigError, SegcoreError
from segcore.jobs.store import Compared, Kind

ENDPOINTS = (
    "sample_data", "list_files", "check_data", "start_training", "start_segmentation", "evaluate",
    "job_status", "history_csv", "pause_job", "resume_job", "stop_job", "discard_job", "move_job",
    "list_queue", "list_jobs", "list_models", "register_model", "check_model",
)  # fmt: skip
LINES: dict[str, Kind] = {"trainings": "train", "segmentations": "predict"}


def add_api(services: Services) -> None:
    """Add all endpoints to the page that is being built."""
    functions = Api(services)
    for name in ENDPOINTS:
        api(_told(getattr(functions, name)), api_name=name, concurrency_limit=8)


class Api:
    """The functions behind the endpoints; each is named like its endpoint and documents it."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def sample_data(self) -> dict:
        """Make the sample data if it is missing; returns the workspace paths of `images` and `labels`."""
        images, labels = self.services.sample_data()
        return {"images": images, "labels": labels}

    def list_files(self, folder: str = "") -> list:
        """List the images of the workspace below a folder: TIFF, PNG, HDF5, NIfTI, DICOM and so on."""
        return self.services.files(folder)

    def check_data(self, images: str, labels: str, data: dict | None = None) -> dict:
        """Check an image and a label stack of the workspace.

        `data` holds options such as {"labels_as": "foreground"}. Returns `ok`, `findings` (level, what,
        where, remedy), `classes` (value, name, pixels, share) and a summary of both (`file`, axes, shape …).
        """
        config = build_config({"data": {**(data or {}), "images": images, "labels": labels}})
        report = self.services.check(images, labels, config.data).model_dump(mode="json")
        for summary in filter(None, (report["images"], report["labels"])):
            # The client takes whatever has a "path" for a file to download.
            summary["file"] = summary.pop("path")
        return report

    def start_training(self, images: str, labels: str, options: dict | None = None) -> dict:
        """Check the data and queue a training.

        `options` are those of `segcore train`, nested or dotted, for example
        {"training.epochs": 20, "model": {"features": 16}}. Returns the job as `job_status` does.
        """
        values = nested(options or {})
        values["data"] = {**values.get("data", {}), "images": images, "labels": labels}
        return describe(self.services.job(self.services.submit_training(build_config(values)).id))

    def start_segmentation(
        self, images: str, model: str, config_file: str | None = None, options: dict | None = None
    ) -> dict:
        """Queue the segmentation of an image stack.

        `model` is the id of a run, the workspace path of a .pth file (with `config_file`, its config.json) or
        of a model of another program (with its description), or models:/name@alias. Returns the job as
        `job_status` does.
        """
        values = nested(options or {})
        values["data"] = {**values.get("data", {}), "images": images}
        values["inference"] = {**values.get("inference", {}), "model": model, "config_file": config_file}
        return describe(self.services.job(self.services.submit_segmentation(build_config(values)).id))

    def evaluate(
        self,
        model: str,
        images: str | None = None,
        labels: str | None = None,
        part: str | None = None,
        options: dict | None = None,
    ) -> dict:
        """Queue the comparison of a model's segmentation with annotations.

        `images` and `labels` are workspace paths; without them, the model's own images of `part`: "test",
        "validation" or "all". Returns the job as `job_status` does; once it is finished, `results` holds
        what `segcore evaluate` tells: val_dice, val_dice_per_class, val_iou_per_class, mean_iou, slices …
        Of `options`, one that has its default counts as not given: of data then holds what the training used.
        """
        if part not in (None, "test", "validation", "all"):
            raise ConfigError(f"There is no part {part!r}.", 'Use "test", "validation" or "all".')
        values = nested(options or {})
        values["data"] = {**values.get("data", {}), "images": images, "labels": labels}
        values["inference"] = {**values.get("inference", {}), "model": model}
        job = self.services.submit_evaluation(build_config(values), cast(Compared, part or "default"))
        return describe(self.services.job(job.id))

    def job_status(self, job: str) -> dict:
        """Return state, place in the queue, progress, history, results and result files of a job."""
        return describe(self.services.job(job))

    def history_csv(self, job: str) -> str:
        """Return the numbers of every epoch of a training as the text of a CSV file, one line per epoch."""
        return csv_text(self.services.job(job).history)

    def pause_job(self, job: str) -> dict:
        """Ask a job to save where it stands and free the device. Returns the job as `job_status` does."""
        return describe(self.services.job(self.services.control.pause(job).id))

    def resume_job(self, job: str) -> dict:
        """Put a job that was paused, interrupted, stopped or failed in line again, to go on where it was."""
        return describe(self.services.job(self.services.control.resume(job).id))

    def stop_job(self, job: str) -> dict:
        """Ask a job to stop; a training keeps its best model. Returns the job as `job_status` does."""
        return describe(self.services.job(self.services.control.stop(job).id))

    def discard_job(self, job: str) -> dict:
        """Throw away what a job that is not finished has made; options, log and curves stay."""
        return describe(self.services.job(self.services.control.discard(job).id))

    def move_job(self, job: str, place: int) -> dict:
        """Give a job that waits another place in its line, 1 for the next to run."""
        return describe(self.services.job(self.services.control.move(job, int(place)).id))

    def list_queue(self) -> dict:
        """List the ids of the jobs that are `running`, that wait (by kind, in order), and that are `held`."""
        control = self.services.control
        waiting = {name: control.waiting(kind) for name, kind in LINES.items()}
        groups = {"running": control.running(), **waiting, "held": control.held()}
        return {name: [job.id for job in jobs] for name, jobs in groups.items()}

    def list_jobs(self, kind: str | None = None) -> list:
        """List all jobs, newest first; `kind` is "train" or "predict"."""
        if kind not in (None, *get_args(Kind)):
            raise ConfigError(f"There is no kind of job {kind!r}.", 'Use "train" or "predict".')
        return [job.model_dump(mode="json") for job in self.services.jobs() if kind in (None, job.kind)]

    def list_models(self) -> list:
        """List the registered models with versions and aliases."""
        return [
            {
                "name": model.name,
                "aliases": model.aliases,
                "versions": [item.version for item in model.versions],
            }
            for model in self.services.models.list()
        ]

    def register_model(self, run: str, name: str, alias: str | None = None) -> dict:
        """Register the model of a run under a name, and give it an alias such as "champion"."""
        version = self.services.register(run, name, alias)
        return {"name": version.name, "version": version.version, "reference": version.reference}

    def check_model(self, weights: str, config_file: str | None = None) -> dict:
        """Say whether a model file of the workspace and its config.json or description belong together."""
        answer = self.services.check_model(weights, config_file)
        return {
            "ok": answer.ok,
            "message": answer.message,
            "remedy": answer.remedy,
            "summary": answer.summary,
        }


def describe(view: JobView) -> dict[str, Any]:
    """Return a job as JSON."""
    result = view.segmentation
    return {
        "id": view.id,
        "kind": view.kind,
        "evaluates": view.evaluates,
        "session": view.session,
        "state": view.state.value,
        "place": view.place,
        "message": view.message,
        "remedy": view.remedy,
        "stage": view.stage,
        "progress": view.progress.model_dump(mode="json") if view.progress else None,
        "history": [epoch.model_dump(mode="json") for epoch in view.history],
        "elapsed": view.elapsed,
        "seconds_left": view.seconds_left,
        "results": dict(view.results),
        "run_folder": str(view.folder),
        "has_model": view.has_model,
        "segmentation": str(result) if result else None,
        "segmentations": {name: str(path) for name, path in view.segmentations.items()},
        "mlflow_run_id": view.mlflow_run_id,
    }


def nested(options: dict[str, Any]) -> dict[str, Any]:
    """Return dotted options as nested ones.

    Examples
    --------
    >>> nested({"training.epochs": 20, "session": "em", "training": {"seed": 1}})
    {'training': {'epochs': 20, 'seed': 1}, 'session': 'em'}
    """
    values: dict[str, Any] = {}
    for name, value in options.items():
        section, dot, key = name.partition(".")
        if dot:
            values.setdefault(section, {})[key] = value
        elif name in SECTIONS and isinstance(value, dict):
            values.setdefault(name, {}).update(value)
        else:
            values[name] = value
    return values


def _told(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an endpoint: its errors reach the client with message and remedy, never with a stack trace."""

    @functools.wraps(endpoint)
    def run(*arguments: Any, **named: Any) -> Any:
        answer = attempt(lambda: endpoint(*arguments, **named))
        if isinstance(answer, Problem):
            raise gr.Error(str(SegcoreError(answer.message, answer.remedy)), print_exception=False)
        return answer

    return run
