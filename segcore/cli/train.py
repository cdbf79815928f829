"""`segcore train`: checks the data, trains in a process of its own, registers the model if asked."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from segcore.cli.memory import warn_of_memory
from segcore.cli.output import score_lines, write_json, write_lines
from segcore.cli.parser import Parser, RunParser, UsageError, add_common
from segcore.cli.repeats import best_of, repeats_line, repeats_result, run_all
from segcore.config import RunConfig
from segcore.data.for_training import check_run
from segcore.data.report import Finding
from segcore.errors import DataError, JobError
from segcore.jobs.groups import submit_repeats
from segcore.jobs.journal import read_results
from segcore.jobs.lineage import check_origin, continued, located
from segcore.jobs.store import Job, State, find_job
from segcore.jobs.workers import worker_alive
from segcore.training.place import launch_problems, launched, raise_problems
from segcore.worker.console import describe_seconds
from segcore.workspace import Workspace


def train_command(words: list[str]) -> int:
    """Run `segcore train`.

    Ctrl-C stops the training and keeps the best model so far; the results are complete and the status is 0.
    If there is no model yet, or after a second Ctrl-C, the status is 130. Of several repeats, the best is
    reported and registered.
    """
    parser = RunParser("train", "Train a model on an image stack and its labels.")
    add = parser.parser.add_argument
    add(
        "--queue",
        action="store_true",
        help="hand the training to the running worker instead of waiting for it",
    )
    add("--register", metavar="NAME", help="register the trained model under this name")
    add("--alias", metavar="ALIAS", help="give the registered model this alias, for example champion")
    add("--continue", dest="parent", metavar="RUN", help=_CONTINUE)
    options, config = parser.parse(continue_words(words))
    _require(options, config)
    place = launched()
    if place is not None and (options.queue or config.training.repeats > 1):
        raise UsageError(
            f"{place.launcher} starts one training at once: --queue and --training.repeats are not for it.",
            "Start every repeat on its own, with another --training.seed.",
        )
    if place is not None and place.rank:
        from segcore.training.member import main as train_along

        return train_along()
    if not options.queue:
        raise_problems(launch_problems(config.training, place))
    workspace = Workspace.open(options.workspace)
    config = located(config, workspace)
    parent = check_origin(config, workspace)
    check_first(config)
    warn_of_memory(config, workspace)
    if options.queue:
        return queue_jobs(submit_repeats(workspace, config, parent), workspace, options.json)
    jobs = run_all(workspace, config, parent)
    job = best_of(jobs)
    if jobs[-1].state in (State.PAUSED, State.DISCARDED):
        return _tell_request(jobs[-1], options.json)
    raise_failure(job)
    if not read_results(job).get("best_epoch"):
        raise KeyboardInterrupt
    result = training_result(job) | repeats_result(workspace, jobs)
    if options.register:
        result["registered"] = register_model(job, workspace, options.register, options.alias)
    lines = [*_summary(job, result), *([repeats_line(workspace, jobs)] if job.group else [])]
    write_json(result) if options.json else write_lines(lines)
    return 0


_CONTINUE = (
    "go on with this run, which has ended, with its options and data; --training.epochs says for how many "
    "more epochs (default: as many as it had)"
)


def continue_words(words: list[str]) -> list[str]:
    """Return `words` with the options of the run that `--continue` names before them, if it is among them.

    Raises
    ------
    JobError, ModelError
        There is no such run, or it cannot be continued.
    UsageError
        A configuration file is given as well.
    """
    if not any(word.partition("=")[0] == "--continue" for word in words):
        return words
    parser = Parser("train", "")
    add_common(parser)
    parser.add_argument("--continue", dest="parent")
    parser.add_argument("--config")
    known, _ = parser.parse_known_args([word for word in words if word not in ("-h", "--help")])
    if known.config:
        raise UsageError(
            "--continue cannot be used with --config.", "The run that goes on brings its own options along."
        )
    parent = find_job(Workspace.open(known.workspace), known.parent)
    config = continued(parent, parent.config.training.epochs)
    own = [f"--config={parent.folder / 'config.json'}"]
    for name in CHANGED:
        own += [f"--training.{name.replace('_', '-')}", str(getattr(config.training, name))]
    return [*own, *words]


CHANGED = ("continue_from", "start_from", "max_minutes", "repeats")
"""In what the options of a continued run differ from those of its parent, see `continued`."""


def _require(options: Namespace, config: RunConfig) -> None:
    missing = [f"--data.{name}" for name in ("images", "labels") if getattr(config.data, name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given.", "Give the image stack and its labels.")
    if options.alias and not options.register:
        raise UsageError("--alias needs --register NAME.", "An alias belongs to a registered model.")
    if options.register and options.queue:
        raise UsageError(
            "--register cannot be used with --queue.",
            "Register the model in the app when the training is over.",
        )


def check_first(config: RunConfig) -> None:
    """Check images and labels before a run folder is made; warnings go to stderr.

    Raises
    ------
    DataError
        The data has errors; the message lists all of them.
    """
    report = check_run(config)
    errors = [finding for finding in report.findings if finding.level == "error"]
    if errors:
        remedies = dict.fromkeys(finding.remedy for finding in errors if finding.remedy)
        raise DataError("\n".join(describe_finding(finding) for finding in errors), "\n".join(remedies))
    for finding in report.findings:
        if finding.level == "warning":
            sys.stderr.write(f"warning: {describe_finding(finding)} {finding.remedy}\n")


def describe_finding(finding: Finding) -> str:
    """Return `where: what`."""
    return f"{finding.where}: {finding.what}" if finding.where else finding.what


def queue_jobs(jobs: list[Job], workspace: Workspace, as_json: bool) -> int:
    """Tell the person where the queued job, or each of its repeats, is, and whether anybody will work it."""
    if not worker_alive(workspace):
        sys.stderr.write(
            "No worker is running: the job waits until `segcore worker` or `segcore serve` is started.\n"
        )
    if as_json:
        content: dict[str, Any] = {"id": jobs[0].id, "state": jobs[0].state, "run_folder": jobs[0].folder}
        if len(jobs) > 1:
            content["repeats"] = [
                {"id": job.id, "seed": job.config.training.seed, "run_folder": job.folder} for job in jobs
            ]
        write_json(content)
    else:
        write_lines([line for job in jobs for line in (f"queued as {job.id}", f"run folder  {job.folder}")])
    return 0


def raise_failure(job: Job) -> None:
    """Raise JobError for a job that did not reach its end by itself or by request."""
    if job.state not in (State.FINISHED, State.CANCELLED):
        raise JobError(f"{job.message} (run {job.id})", f"{job.remedy} Log: {job.folder / 'log.txt'}".strip())


def _tell_request(job: Job, as_json: bool) -> int:
    """Tell the end of a training that somebody paused or discarded: it did as it was told."""
    if as_json:
        write_json({"id": job.id, "state": job.state, "run_folder": job.folder})
    else:
        further = f"go on with  segcore jobs resume {job.id}" if job.state is State.PAUSED else ""
        write_lines([f"{job.state}  {job.id}", f"run folder  {job.folder}", *filter(None, [further])])
    return 0


def training_result(job: Job) -> dict[str, Any]:
    """Return the JSON object of a training."""
    results = read_results(job)
    return {
        "run_folder": job.folder,
        "id": job.id,
        "state": job.state,
        "best_epoch": results["best_epoch"],
        "metrics": results["metrics"],
        "patches_per_second": results["patches_per_second"],
        "seconds": results["seconds"],
        "mlflow_run_id": job.mlflow_run_id,
    }


def register_model(job: Job, workspace: Workspace, name: str, alias: str | None) -> dict[str, Any]:
    """Register the model of a finished training and return name, version and alias."""
    from segcore.tracking.models import register, set_alias

    version = register(job, name, workspace)
    if alias:
        version = set_alias(name, alias, version.version, workspace)
    return {"name": name, "version": version.version, "alias": alias, "reference": version.reference}


def _summary(job: Job, result: dict[str, Any]) -> list[str]:
    note = "stopped on request, the best model was kept: " if job.state is State.CANCELLED else ""
    lines = [
        f"{note}epoch {result['best_epoch']} was the best, after {describe_seconds(result['seconds'])}",
        *score_lines(result["metrics"]),
        f"run folder  {job.folder}",
    ]
    if "registered" in result:
        lines.append(f"registered  {result['registered']['reference']}")
    return lines
