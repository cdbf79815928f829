"""Services: everything the app may ask of the engine; the only door. No gradio here, and no torch or MLflow at import."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil

from app.command import command_line
from app.jobview import JobView, view_job
from app.registry import ModelCheck, Registry
from app.uploads import store
from segcore.card import PixelSize
from segcore.config import DataConfig, RunConfig, build_config
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.simulate import simulate
from segcore.data.validate import Report, check_data
from segcore.errors import DataError, JobError, ModelError
from segcore.estimate import Machine, read_machine, training_seconds, unet_parameters
from segcore.jobs import queue, supervisor
from segcore.jobs import store as jobs
from segcore.jobs.store import Job, Kind, State
from segcore.workspace import Workspace

IMAGE_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Stack:
    """What a page shows about an image file."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: str
    planes: int
    channels: int
    height: int
    width: int

    @property
    def text(self) -> str:
        """One line, for example `30 × 512 × 512, uint8, ZYX, 4 nm/px`."""
        parts = [" × ".join(str(size) for size in self.shape), self.dtype, self.axes, self.pixel_size]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Estimate:
    """What a configuration will cost; None where nobody can say."""

    parameters: int
    seconds: float | None


class Services:
    """The engine as the app sees it. Every path that comes from the page goes through `Workspace.resolve`.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    max_upload_gb : float
        Largest file that is taken into the workspace.
    worker : bool
        Start a worker process when a job is submitted and none is there.
    """

    def __init__(self, workspace: Workspace, max_upload_gb: float = 20.0, worker: bool = True) -> None:
        self.workspace = workspace
        self.max_upload_gb = max_upload_gb
        self.models = Registry(workspace)
        self._worker = worker
        self._reports: OrderedDict[tuple[Any, ...], Report] = OrderedDict()
        self._lock = Lock()

    # Files ------------------------------------------------------------------------------------------------------

    def resolve(self, path: str) -> Path:
        """Return the absolute path of an existing file or folder of the workspace, or raise DataError."""
        full = self.workspace.resolve(path)
        if not full.exists():
            raise DataError(
                f"{path!r} is not in the workspace any more.", "Choose another file, or upload it again."
            )
        return full

    def relative(self, path: str | Path) -> str:
        """Return `path` as the page shows it: relative to the workspace."""
        return self.workspace.relative(path)

    def files(self, folder: str = "", suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[str]:
        """Return the files below `folder` with one of `suffixes`, as sorted workspace paths; hidden ones left out."""
        root = self.workspace.resolve(folder)
        found = []
        for path in root.rglob("*"):
            relative = path.relative_to(self.workspace.root)
            if path.suffix.lower() in suffixes and not any(part.startswith(".") for part in relative.parts):
                found.append(relative.as_posix())
        return sorted(found, key=str.casefold)

    def save_upload(self, path: str, name: str = "") -> str:
        """Take an uploaded file into `data/` and return its workspace path; an existing file is never overwritten."""
        limit = int(self.max_upload_gb * 1e9)
        return self.relative(store(Path(path), self.workspace.data, name, limit))

    def delete(self, path: str) -> None:
        """Delete a file or a folder of the workspace; folders of jobs that have not ended are kept.

        Raises
        ------
        DataError
            The path is one of the workspace's own folders, or a job is still using it.
        """
        full = self.resolve(path)
        own = (self.workspace.root, self.workspace.data, self.workspace.models, self.workspace.results)
        if full in own:
            raise DataError(
                f"{path!r} is a folder of the workspace itself.", "Choose a file or folder inside it."
            )
        for job in jobs.list_jobs(self.workspace):
            if not job.state.ended and (
                full in (job.folder, *job.folder.parents) or job.folder in full.parents
            ):
                raise DataError(f"{path!r} belongs to a run that has not ended.", "Stop the run first.")
        try:
            shutil.rmtree(full) if full.is_dir() else full.unlink()
        except OSError as error:
            raise DataError(
                f"{path!r} cannot be deleted: {error.strerror}.", "Close it elsewhere, try again."
            ) from error

    def sample_data(self) -> tuple[str, str]:
        """Return workspace paths of sample images and labels, made on first use."""
        folder = self.workspace.data / "sample"
        images, labels = folder / "images.tif", folder / "labels.tif"
        with self._lock:
            if not (images.is_file() and labels.is_file()):
                simulate(folder, kind="2class", images=12, size=192, seed=1)
        return self.relative(images), self.relative(labels)

    # Data -------------------------------------------------------------------------------------------------------

    def check(self, images: str, labels: str, data: DataConfig | None = None) -> Report:
        """Check an image and a label stack; the last few reports are kept while the files do not change."""
        image_path, label_path = self.resolve(images), self.resolve(labels)
        data = data or DataConfig()
        stamps = [
            (str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in (image_path, label_path)
        ]
        key = (*stamps, data.model_dump_json())
        with self._lock:
            if key in self._reports:
                return self._reports[key]
        report = check_data(image_path, label_path, data)
        with self._lock:
            self._reports[key] = report
            while len(self._reports) > 8:
                self._reports.popitem(last=False)
        return report

    def stack(self, path: str, axes: str | None = None) -> Stack:
        """Describe an image file without reading its pixels."""
        source = open_source(self.resolve(path), axes)
        planes = Planes(source)
        return Stack(
            path=self.relative(self.workspace.resolve(path)),
            axes=source.axes,
            shape=tuple(source.shape),
            dtype=str(source.dtype),
            pixel_size=_pixel_size_text(source.pixel_size),
            planes=planes.count,
            channels=planes.channels,
            height=planes.height,
            width=planes.width,
        )

    def plane(self, path: str, index: int, axes: str | None = None) -> np.ndarray:
        """Read one plane, shape (C, Y, X), dtype of the file. Nothing else of the stack is read."""
        planes = Planes(open_source(self.resolve(path), axes))
        return planes.read(min(max(index, 0), planes.count - 1))

    def labels_plane(self, path: str, index: int) -> np.ndarray:
        """Read one plane of a label stack, shape (Y, X), values as in the file."""
        return self.plane(path, index)[0]

    # Configuration ----------------------------------------------------------------------------------------------

    def config(self, values: dict[str, Any]) -> RunConfig:
        """Build a RunConfig from nested values; ConfigError lists every problem."""
        return build_config(values)

    def estimate(self, config: RunConfig, slices: int, channels: int = 1, classes: int = 2) -> Estimate:
        """Predict parameters and duration of a training on this machine."""
        machine = self.machine()
        parameters = unet_parameters(config.model.features, config.model.layers, channels, classes)
        seconds = training_seconds(config, slices, machine.gflops) if machine else None
        return Estimate(parameters, seconds)

    def machine(self) -> Machine | None:
        """Return what was measured of this machine, or None if nobody has measured it yet."""
        return read_machine(self.workspace)

    def command_line(self, config: RunConfig, kind: Kind = "train") -> str:
        """Return the command that does the same as the page."""
        return command_line(config, kind)

    def check_model(self, weights: str, config: str | None = None) -> ModelCheck:
        """Say whether a `.pth` of the workspace and a `config.json` belong together."""
        return self.models.check_files(self.resolve(weights), self.resolve(config) if config else None)

    def device_text(self) -> str:
        """Return what the header says about the device, for example `CPU, 2 cores`."""
        machine = self.machine()
        if machine is not None:
            return machine.text
        cores = (
            len(psutil.Process().cpu_affinity())
            if hasattr(psutil.Process, "cpu_affinity")
            else psutil.cpu_count()
        )
        return f"CPU, {cores} cores"

    # Jobs -------------------------------------------------------------------------------------------------------

    def submit_training(self, config: RunConfig) -> Job:
        """Check the data, make the run folder and queue it.

        Raises
        ------
        DataError
            Images or labels are missing, or the check found errors: all are listed.
        """
        if not config.data.images or not config.data.labels:
            raise DataError("A training needs images and labels.", "Choose both in step 1.")
        report = self.check(config.data.images, config.data.labels, config.data)
        if not report.ok:
            errors = [finding for finding in report.findings if finding.level == "error"]
            raise DataError(
                "\n".join(finding.what for finding in errors),
                " ".join(dict.fromkeys(finding.remedy for finding in errors if finding.remedy)),
            )
        paths = {key: str(self.resolve(getattr(config.data, key))) for key in ("images", "labels")}
        data = config.data.model_copy(update=paths)
        return self._submit("train", config.model_copy(update={"data": data}))

    def submit_segmentation(self, config: RunConfig) -> Job:
        """Queue the segmentation of `data.images` with `inference.model` (run id, .pth, or models:/name@alias)."""
        if not config.inference.model:
            raise ModelError("A segmentation needs a model.", "Choose a model.")
        if not config.data.images:
            raise DataError("A segmentation needs images.", "Choose an image stack.")
        images = self.resolve(config.data.images)
        open_source(images, config.data.axes)
        inference = config.inference.model_copy(
            update={
                "model": self.model_source(config.inference.model),
                "config_file": str(self.resolve(config.inference.config_file))
                if config.inference.config_file
                else None,
            }
        )
        data = config.data.model_copy(update={"images": str(images), "labels": None})
        return self._submit("predict", config.model_copy(update={"data": data, "inference": inference}))

    def model_source(self, model: str) -> str:
        """Return what `inference.model` must hold for a run id, a workspace path or a registered model."""
        if model.startswith("models:/"):
            return model
        if "/" not in model and not model.endswith(".pth"):
            view = self.job(model)
            if not view.has_model:
                raise ModelError(
                    f"The run {model} has no model yet.", "Wait for its first epoch, or choose another run."
                )
            return str(view.folder)
        return str(self.resolve(model))

    def _submit(self, kind: Kind, config: RunConfig) -> Job:
        job = queue.submit(self.workspace, kind, config)
        if self._worker:
            supervisor.ensure_worker(self.workspace)
        return job

    def jobs(self, kind: Kind | None = None) -> list[Job]:
        """Return all jobs, newest first; only `job.json` of each is read."""
        return jobs.list_jobs(self.workspace, kind)

    def job(self, identity: str) -> JobView:
        """Return all that a page shows of one job; JobError if there is no such job."""
        return view_job(self.workspace, jobs.find_job(self.workspace, identity))

    def runs(self) -> list[JobView]:
        """Return all trainings with their history, newest first."""
        return [view_job(self.workspace, job, log_lines=0) for job in self.jobs("train")]

    def active(self) -> list[JobView]:
        """Return the jobs that run or wait, oldest first."""
        waiting = [job for job in self.jobs() if not job.state.ended]
        return [view_job(self.workspace, job, log_lines=0) for job in reversed(waiting)]

    def stop(self, identity: str) -> Job:
        """Ask a job to stop and keep its best model; JobError if it is over."""
        job = jobs.find_job(self.workspace, identity)
        if job.state.ended:
            raise JobError(f"The run {identity} is already {job.state}.", "")
        return jobs.request_stop(job.folder)

    def worker_alive(self) -> bool:
        """Say whether a worker process is there to take jobs."""
        return supervisor.worker_alive(self.workspace)

    def ensure_worker(self) -> bool:
        """Start a worker if none is there and the app may; True if one was started."""
        return self._worker and supervisor.ensure_worker(self.workspace)


def _pixel_size_text(size: PixelSize) -> str:
    if size.y is None or size.x is None:
        return ""
    plane = f"{size.x:g}" if size.x == size.y else f"{size.y:g} × {size.x:g}"
    return f"{plane} {size.unit}/px" + (f", {size.z:g} {size.unit} between slices" if size.z else "")
