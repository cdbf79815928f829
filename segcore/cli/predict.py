"""`segcore predict` and `segcore evaluate`: apply a trained model, and compare what it says with labels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcore.addresses import is_foreign
from segcore.card import read_config
from segcore.cli.output import score_lines, write_json, write_lines
from segcore.cli.parser import RunParser, UsageError
from segcore.cli.train import queue_jobs, raise_failure
from segcore.config import RunConfig
from segcore.errors import SegcoreError
from segcore.estimate import read_machine
from segcore.files import atomic_path
from segcore.jobs.journal import read_results
from segcore.jobs.queue import submit
from segcore.jobs.store import Job, State, create_job
from segcore.worker.console import Console, describe_seconds
from segcore.worker.local import run_here
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.inference.needs import Needs

CONFIG = "config.json"


def predict_command(words: list[str]) -> int:
    """Run `segcore predict`: segment images in a process of its own."""
    parser = RunParser(
        "predict", "Segment an image, a stack or a folder of images with a trained model.", applies_model=True
    )
    add = parser.parser.add_argument
    add("--queue", action="store_true", help="hand the job to the running worker instead of waiting for it")
    add(
        "--output",
        type=Path,
        metavar="PATH",
        help="also copy the segmentation to this file, of several images to this folder",
    )
    options, config = parser.parse(words)
    _require(config, ("images",))
    if options.output and options.queue:
        raise UsageError("--output cannot be used with --queue.", "The result lies in the run folder.")
    if options.output and options.output.is_file() and config.inference.format == "ome-zarr":
        raise UsageError(f"{options.output} is a file; an OME-Zarr is a folder.", "Name another place.")
    workspace = Workspace.open(options.workspace)
    needs = _needs(config, workspace)
    if needs is not None:
        needs.check_disk(config.inference.format)
    if needs is not None and not options.json:
        write_lines(_expense(needs))
    if options.queue:
        return queue_jobs([submit(workspace, "predict", config)], workspace, options.json)
    job = run_here(create_job(workspace, "predict", config, owner="command"), workspace, Console())
    if job.state in (State.PAUSED, State.DISCARDED):
        return _tell_request(job, options.json)
    raise_failure(job)
    if job.state is State.CANCELLED:
        raise KeyboardInterrupt
    result = prediction_result(job)
    if options.output:
        result["output"] = options.output.expanduser().resolve()
        result["output"] = _copy(result["segmentation"], result["output"])
    write_json(result) if options.json else write_lines(_summary(result))
    return 0


def _tell_request(job: Job, as_json: bool) -> int:
    """Tell the end of a segmentation that somebody paused or discarded: it did as it was told."""
    if as_json:
        write_json({"id": job.id, "state": job.state, "run_folder": job.folder})
    else:
        further = [f"go on with  segcore jobs resume {job.id}"] if job.state is State.PAUSED else []
        write_lines([f"{job.state}  {job.id}", f"run folder  {job.folder}", *further])
    return 0


def prediction_result(job: Job) -> dict[str, Any]:
    """Return the JSON object of a segmentation: its file, or the folder with those of several images.

    An OME-Zarr is a folder, too.
    """
    names = ("segmentation.tif", "segmentation.ome.zarr", "segmentation")
    found = [job.folder / name for name in names]
    return {
        "run_folder": job.folder,
        "id": job.id,
        "segmentation": next((path for path in found if path.exists()), found[-1]),
        "metadata": read_results(job),
    }


def _needs(config: RunConfig, workspace: Workspace) -> Needs | None:
    """Return what the segmentation needs; None where only the job can tell, as of a registered model.

    Likewise of a model of another program, whose network nobody can calculate.
    """
    model = Path(config.inference.model or "")
    if is_foreign(model):
        return None
    file = Path(config.inference.config_file or (model if model.is_dir() else model.parent) / CONFIG)
    if not (model.exists() and file.is_file()):
        return None
    from segcore.data.collection import open_collection
    from segcore.data.suitability import as_trained
    from segcore.inference.needs import needs_of

    try:
        trained, card = read_config(file)
        if card is None:
            return None
        entries = open_collection(as_trained(config.data, trained.data), labelled=False).entries
    except SegcoreError:
        return None  # the job says what is wrong, for every image
    return needs_of(config, trained, card, entries, read_machine(workspace), workspace.results)


def _expense(needs: Needs) -> list[str]:
    """Return what is told before a segmentation begins."""
    lines = [f"disk space    {_size(needs.disk)} at most, {_size(needs.free)} free"]
    if needs.memory is not None:
        lines.append(f"memory        about {_size(needs.memory)}, {_size(needs.available)} free")
    if needs.seconds is not None and needs.seconds >= 10:
        lines.append(f"time          about {describe_seconds(needs.seconds)}")
    return lines


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def _copy(result: Path, output: Path) -> Path:
    """Copy a segmentation, or those of several images into a folder; return the copy.

    A table of objects comes along.

    An OME-Zarr is copied into a folder that is there, unless it is an OME-Zarr itself, which is replaced.
    """
    from segcore.data.zarr_files import is_zarr
    from segcore.inference.zarr_sink import replace_folder

    if is_zarr(result):
        if output.is_dir() and not is_zarr(output):
            output = output / result.name
        # Whole or not at all: chunks of an earlier result in between would be believed.
        temporary = output.with_name(f".{output.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(result, temporary)
        replace_folder(temporary, output)
    elif result.is_dir():
        shutil.copytree(result, output, dirs_exist_ok=True)
    else:
        with atomic_path(output) as temporary:
            shutil.copyfile(result, temporary)
    table = _table_beside(result)
    if table.exists():
        with atomic_path(_table_beside(output)) as temporary:
            shutil.copyfile(table, temporary)
    return output


def _table_beside(labels: Path) -> Path:
    """Return where the table of the objects in a label image lies."""
    return labels.with_name(re.sub(r"(\.ome)?\.(tiff?|zarr)$", "", labels.name) + ".objects.csv")


def _summary(result: dict[str, Any]) -> list[str]:
    metadata = result["metadata"]
    seconds, failed = metadata.get("seconds"), metadata.get("failed", [])
    objects = [f"objects       {metadata['objects']}"] if "objects" in metadata else []
    lines = [
        f"segmentation  {result.get('output') or result['segmentation']}",
        f"run folder    {result['run_folder']}",
        *objects,
        *(f"left out      {image['name']}: {image['message']}" for image in failed),
    ]
    return [*lines, f"time          {describe_seconds(seconds)}"] if seconds is not None else lines


def evaluate_command(words: list[str]) -> int:
    """Run `segcore evaluate`: segment in this process and score the result against labels."""
    parser = RunParser(
        "evaluate", "Compare a model's segmentation of images with labels.", applies_model=True
    )
    parser.parser.add_argument(
        "--part",
        choices=("test", "validation", "all"),
        help="part of the training's own images that counts; by default what it kept for the test, if it did",
    )
    options, config = parser.parse(words)
    # Without images and labels, those of the training are scored.
    _require(config, ("images", "labels") if config.data.images or config.data.labels else ())
    workspace = Workspace.open(options.workspace)
    # The engine imports torch, which takes seconds: mistakes in the command line are told before.
    from segcore.inference.evaluate import evaluate
    from segcore.worker.child import resolve_model

    console = Console()
    try:
        scores = evaluate(resolve_model(config, workspace), console, part=options.part)
    finally:
        console.close()
    about = {name: scores.pop(name) for name in ("part", "images", "slices", "seconds")}
    if options.json:
        write_json({"metrics": scores, **about})
        return 0
    part = "all annotated slices" if about["part"] == "all" else f"the {about['part']} part"
    write_lines([*score_lines(scores), f"on {part}: {about['slices']} slices of {about['images']} images"])
    return 0


def _require(config: RunConfig, data: tuple[str, ...]) -> None:
    missing = [f"--data.{name}" for name in data if getattr(config.data, name) is None]
    remedy = f"Give the images{' and their labels' if 'labels' in data else ''}."
    if config.inference.model is None:
        missing.insert(0, "--model")
        remedy = (
            "A model is a run folder, a .pth file, models:/name@alias, or an ONNX, TorchScript or Keras file."
        )
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given.", remedy)
