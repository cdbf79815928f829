"""Services: everything the app may ask of the engine, the only door. Starts without torch and MLflow."""

from __future__ import annotations

import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import psutil

from app.archives import take
from app.catalog import IMAGES
from app.checkpoint_store import CheckpointStore
from app.command import command_line
from app.control import Control
from app.data_desk import DataDesk
from app.examinations import Examinations
from app.facts import Estimate, Stack, pixel_size_text
from app.feedback_store import FeedbackStore
from app.follow_ups import FollowUps
from app.history import History
from app.jobview import JobView, view_job
from app.mask_desk import MaskDesk
from app.memory_desk import MemoryDesk
from app.registry import ModelCheck, Registry
from app.segmentations import Segmentations
from app.uploads import store
from segcore.addresses import is_url
from segcore.config import DataConfig, RunConfig
from segcore.data.for_training import with_training
from segcore.data.report import Report, SourceSummary
from segcore.data.simulate import simulate
from segcore.data.validate import check_data
from segcore.errors import DataError
from segcore.estimate import Machine, network_of, read_machine, training_seconds, unet_parameters
from segcore.jobs import store as jobs
from segcore.jobs.lineage import check_unneeded
from segcore.jobs.store import Compared, Job, Kind
from segcore.jobs.trials import Tried, is_trial, read_trial, trial_configs
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.models import ModelVersion

SAMPLE_SLICES, SAMPLE_SIZE = 12, 192
UNCHECKED_OPTIONS = {"augmentation", "patches_per_image", "foreground_patches", "loading"}
"""Options of the data on which the check does not depend."""


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
        self.data = DataDesk(workspace)
        self.examinations = Examinations(self.data)
        self.masks = MaskDesk(workspace, self.data)
        self.memory = MemoryDesk(workspace)
        self.history = History()
        self.checkpoints = CheckpointStore(workspace, self.models, lambda run: self.history.read(run).epochs)
        self.feedback = FeedbackStore(workspace, lambda run: self.history.read(run).epochs)
        self.control = Control(workspace, worker)
        self.follow_ups = FollowUps(workspace, self.models, self.control.wake)
        self.segmentations = Segmentations(workspace, self.data, self.models, self.job, self.control.wake)
        self._reports: OrderedDict[tuple[Any, ...], Report] = OrderedDict()
        self._lock = Lock()
        self._sampling = Lock()

    # Files ----

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

    def files(self, folder: str = "", suffixes: tuple[str, ...] = IMAGES) -> list[str]:
        """Return the workspace paths of the files below `folder` with one of `suffixes`; none hidden."""
        found = []
        for parent, folders, names in os.walk(self.workspace.resolve(folder)):
            # Our own folder is not entered: it may hold many files of uploads and of the model registry.
            # A Zarr folder is one image, of perhaps a million files.
            zarrs = [Path(parent, name) for name in folders if name.lower().endswith(".zarr")]
            found += [self.relative(path) for path in zarrs if ".zarr" in suffixes]
            folders[:] = [
                name for name in folders if not name.startswith(".") and Path(parent, name) not in zarrs
            ]
            paths = [Path(parent, name) for name in names if not name.startswith(".")]
            found += [self.relative(path) for path in paths if path.suffix.lower() in suffixes]
        return sorted(found, key=str.casefold)

    def save_upload(self, path: str, name: str = "") -> str:
        """Take an uploaded file into `data/` and return its workspace path; nothing is ever overwritten."""
        limit = int(self.max_upload_gb * 1e9)
        return self.relative(store(Path(path), self.workspace.data, name, limit))

    def save_uploads(self, paths: Sequence[str]) -> str:
        """Take uploaded files into `data/` and return the workspace path of the file, or of their folder."""
        limit = int(self.max_upload_gb * 1e9)
        return self.relative(take([Path(path) for path in paths], self.workspace.data, limit))

    def delete(self, path: str) -> None:
        """Delete a file or a folder of the workspace; folders of jobs that have not ended are kept.

        Raises
        ------
        DataError
            The path is one of the workspace's own folders, or of a job that has not ended.
        JobError
            A job that is not over goes on from it.
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
        check_unneeded(self.workspace, full)
        try:
            shutil.rmtree(full) if full.is_dir() else full.unlink()
        except OSError as error:
            raise DataError(
                f"{path!r} cannot be deleted: {error.strerror}.", "Close it elsewhere, try again."
            ) from error

    def sample_data(self) -> tuple[str, str]:
        """Return workspace paths of sample images and labels, made on first use."""
        folder = self.workspace.data / "sample"
        images, labels = folder / "raw.tif", folder / "labels.tif"
        with self._sampling:
            if not (images.is_file() and labels.is_file()):
                images, labels = simulate(folder, "2class", SAMPLE_SLICES, SAMPLE_SIZE, seed=1)
        return self.relative(images), self.relative(labels)

    # Data ----

    def check(self, images: str, labels: str, data: DataConfig | None = None) -> Report:
        """Check images and their labels; the last few reports are kept while the files do not change."""
        data = self.data.located(
            (data or DataConfig()).model_copy(update={"images": images, "labels": labels})
        )
        key = (self.data.stamp(data), data.model_dump_json(exclude=UNCHECKED_OPTIONS))
        with self._lock:
            if key in self._reports:
                return self._reports[key]
        report = check_data(data)
        with self._lock:
            self._reports[key] = report
            while len(self._reports) > 16:
                self._reports.popitem(last=False)
        return report

    def stack(self, path: str) -> Stack:
        """Describe one file or folder as it is read, without reading its pixels."""
        return self.data.stack(DataConfig(images=path))

    def summary_text(self, summary: SourceSummary) -> str:
        """Return shape, axes, type and pixel size of a checked file in one line."""
        return ", ".join(part for part in (summary.text, pixel_size_text(summary.pixel_size)) if part)

    # Configuration ----

    def estimate(self, config: RunConfig, stack: Stack | None = None, classes: int = 2) -> Estimate:
        """Predict the parameters of a network and, for a stack, how long it trains on this machine."""
        size = stack.size if stack else None
        model = config.model
        if not model.kind.is_unet:
            # Of every family one size is known, for planes; the others are counted when they are built.
            usual = model.shape == type(model)(family=model.family).shape and config.data.mode != "3d"
            return Estimate(model.kind.parameters if usual else None, None)
        parameters = unet_parameters(network_of(config, size, classes))
        machine = self.machine()
        if machine is None or stack is None:
            return Estimate(parameters, None)
        return Estimate(parameters, training_seconds(config, stack.planes, machine.gflops, size))

    def machine(self) -> Machine | None:
        """Return what was measured of this machine, or None if nobody has measured it yet."""
        return read_machine(self.workspace)

    def measured_lately(self) -> bool:
        """Say whether this machine was measured within a day, or better is not now because a job runs."""
        try:
            age = time.time() - (self.workspace.state / "machine.json").stat().st_mtime
        except OSError:
            return False
        return age < 86400 or any(not job.state.ended for job in self.jobs())

    def command_line(self, config: RunConfig, kind: Kind = "train") -> str:
        """Return the command that does the same as the page, wherever it is given."""
        data = config.data.with_addresses(
            lambda address: address if is_url(address) else str(self.workspace.root / address)
        )
        config = config.model_copy(update={"data": data})
        return command_line(config, kind, str(self.workspace.root))

    def check_model(self, weights: str, config: str | None = None) -> ModelCheck:
        """Say whether a model file of the workspace and its configuration belong together."""
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

    # Jobs ----

    def submit_training(self, config: RunConfig) -> Job:
        """Check the data, make the run folder and queue it; of several repeats, the first is returned.

        Raises
        ------
        DataError
            Images or labels are missing, or the check found errors: all are listed.
        ModelError
            The model or run it is to begin from does not fit.
        """
        return self.follow_ups.submit(self._checked(config))

    def submit_trial(
        self, config: RunConfig, families: Sequence[str], minutes: float, crop: Sequence[int] = ()
    ) -> Job:
        """Queue several families for equal minutes, see `trial_configs`; the first training is returned.

        Raises
        ------
        DataError
            As of `submit_training`.
        ConfigError
            A family cannot work with the options.
        ModelError
            The teacher is missing.
        """
        configs = trial_configs(config, families, minutes, crop)
        data = self._checked(configs[0]).data
        return self.follow_ups.submit_trial([one.model_copy(update={"data": data}) for one in configs])

    def trial(self, run: str) -> tuple[Tried, ...]:
        """Return what the families that are tried together with a run have come to; none without a trial."""
        job = jobs.find_job(self.workspace, run)
        return read_trial(self.workspace, job.group, job.session) if is_trial(job.group) else ()

    def _checked(self, config: RunConfig) -> RunConfig:
        """Return the options with absolute paths, once the data have been found fit to train on."""
        if not config.data.images or not config.data.labels:
            raise DataError("A training needs images and labels.", "Choose both in step 1.")
        report = with_training(
            self.check(config.data.images, config.data.labels, config.data), config.training
        )
        if not report.ok:
            errors = [finding for finding in report.findings if finding.level == "error"]
            raise DataError(
                "\n".join(finding.what for finding in errors),
                " ".join(dict.fromkeys(finding.remedy for finding in errors if finding.remedy)),
            )
        data = self.data.located(config.data)
        return config.model_copy(update={"data": data})

    def submit_segmentation(self, config: RunConfig) -> Job:
        """Queue the segmentation of `data.images` with `inference.model`; see `Segmentations.submit`."""
        return self.segmentations.submit(config)

    def submit_evaluation(self, config: RunConfig, part: Compared = "default") -> Job:
        """Queue the comparison with annotations; see `Segmentations.submit_evaluation`."""
        return self.segmentations.submit_evaluation(config, part)

    def model_source(self, model: str) -> str:
        """Return what `inference.model` must hold; see `Segmentations.model_source`."""
        return self.segmentations.model_source(model)

    def register(self, run: str, name: str, alias: str | None = None) -> ModelVersion:
        """Register the model of a run, and give it an alias if one is named."""
        version = self.models.register(jobs.find_job(self.workspace, run), name)
        return self.models.set_alias(name, alias, version.version) if alias else version

    def jobs(self, kind: Kind | None = None) -> list[Job]:
        """Return all jobs, newest first; only `job.json` of each is read."""
        return jobs.list_jobs(self.workspace, kind)

    def job(self, identity: str) -> JobView:
        """Return all that a page shows of one job; JobError if there is no such job."""
        return view_job(self.workspace, jobs.find_job(self.workspace, identity), history=self.history)

    def runs(self) -> list[JobView]:
        """Return all trainings with their history, newest first."""
        return [
            view_job(self.workspace, job, log_lines=0, history=self.history) for job in self.jobs("train")
        ]

    def active(self) -> list[JobView]:
        """Return the jobs that run or wait, oldest first."""
        waiting = [job for job in self.jobs() if not job.state.ended]
        return [view_job(self.workspace, job, log_lines=0, history=self.history) for job in reversed(waiting)]
