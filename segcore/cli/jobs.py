"""`segcore jobs`: list and show jobs, pause, resume, stop, discard and move them, and read their logs."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from datetime import datetime
from typing import Any

from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser, add_common
from segcore.config.secret import concealed
from segcore.errors import JobError
from segcore.events import Request, score_of
from segcore.jobs.journal import read_history, read_log, read_progress
from segcore.jobs.queue import discard, move, resume, stop
from segcore.jobs.store import Job, ask, asked, find_job, list_jobs, queue_place
from segcore.jobs.workers import worker_alive
from segcore.worker.console import describe_seconds
from segcore.workspace import Workspace

ACTIONS = {
    "show": "everything about a job",
    "logs": "the log of a job",
    "pause": "save all of a job and free its device; take one that waits out of the line",
    "resume": "let a job go on that was paused, interrupted, stopped or failed",
    "stop": "stop a job and keep what it has; cancel one that waits",
    "discard": "end a job and delete what it made; options, log and curves stay",
    "move": "give a job that waits another place in its line",
}


def jobs_command(words: list[str]) -> int:
    """Run `segcore jobs list|show|logs|pause|resume|stop|discard|move`; without one of these, `list`."""
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["list", *words]
    options = _parser().parse_args(words)
    workspace = Workspace.open(options.workspace)
    if options.action == "list":
        rows = [describe_job(workspace, job) for job in list_jobs(workspace)]
        write_json(rows) if options.json else write_lines(_table(rows))
        return 0
    job = find_job(workspace, options.id)
    if options.action == "logs":
        log = read_log(job.folder, options.lines)
        write_json({"id": job.id, "log": log}) if options.json else write_lines([log])
        return 0
    content = describe_job(workspace, _act(workspace, job, options))
    if options.action == "show":
        content["config"] = concealed(job.config.model_dump(mode="json"))
    write_json(content) if options.json else write_lines(_details(content))
    return 0


def _parser() -> Parser:
    parser = Parser("jobs", "List, show, pause, resume, stop, discard and move jobs, and read their logs.")
    actions = parser.add_subparsers(dest="action", required=True, parser_class=_ActionParser)
    add_common(actions.add_parser("list", help="all jobs, newest first"))
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text)
        action.add_argument("id", help="a job's id, as in the list")
        if name == "logs":
            action.add_argument(
                "--lines", type=int, default=1000, help="how many, from the end (default: 1000)"
            )
        if name == "move":
            action.add_argument("--place", type=int, default=1, help="1 for the next to run (default: 1)")
        add_common(action)
    return parser


def _act(workspace: Workspace, job: Job, options: Namespace) -> Job:
    """Do to a job what the command says and return what became of it."""
    match options.action:
        case "pause":
            if job.state.ended:
                raise _too_late(job, "Only a job that runs or waits can pause.")
            return ask(job.folder, Request.PAUSE)
        case "resume":
            job = resume(workspace, job.folder)
            tell_if_idle(workspace)
            return job
        case "stop":
            if job.state.final:
                raise _too_late(job, "Only a job that is not over can be stopped.")
            return stop(workspace, job.folder)
        case "discard":
            return discard(workspace, job.folder)
        case "move":
            return move(workspace, job, options.place)
    return job


def _too_late(job: Job, rule: str) -> JobError:
    return JobError(f"The job {job.id} is {job.state} already.", rule)


def tell_if_idle(workspace: Workspace) -> None:
    """Say on stderr that a job waits in vain, if no worker is there."""
    if not worker_alive(workspace):
        sys.stderr.write(
            "No worker is running: the job waits until `segcore worker` or `segcore serve` is started.\n"
        )


class _ActionParser(Parser):
    """A parser below `segcore jobs`; argparse gives it the whole name."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog.removeprefix("segcore "), "")


def describe_job(workspace: Workspace, job: Job) -> dict[str, Any]:
    """Return what the list says about a job."""
    history, progress = read_history(job.folder), read_progress(job.folder)
    done = history[-1].epoch if history else 0
    return {
        "id": job.id,
        "kind": job.kind,
        "evaluates": job.evaluates,
        "state": job.state,
        "session": job.session,
        "run_folder": job.folder,
        "place": queue_place(workspace, job),
        "epoch": max(done, progress.epoch if progress else 0),
        "epochs": history[-1].epochs if history else (progress.epochs if progress else 0),
        "val_dice": max((event.val_dice for event in history), default=None),
        "val_f1": max((event.val_score for event in history if event.val_f1 is not None), default=None),
        "pid": job.pid,
        "host": job.host,
        "device": job.device,
        "asked": asked(job.folder),
        "restarts": job.restarts,
        "parent": job.parent,
        "group": job.group,
        "created": job.created,
        "seconds": (job.ended or time.time()) - job.started if job.started else None,
        "message": job.message,
        "remedy": job.remedy,
        "mlflow_run_id": job.mlflow_run_id,
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no jobs yet: `segcore train` makes one"]
    cells = [("ID", "KIND", "STATE", "EPOCH", "SCORE", "SESSION")]
    for row in rows:
        epoch = f"{row['epoch']}/{row['epochs']}" if row["epochs"] else ""
        state = f"{row['state']} (place {row['place']})" if row["place"] else str(row["state"])
        name, score = score_of(row)
        told = "" if score is None else f"{name} {score:.3f}"
        kind = "evaluate" if row["evaluates"] else row["kind"]
        cells.append((row["id"], kind, state, epoch, told, row["session"]))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _details(content: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in content.items():
        if value in (None, "", 0):
            continue
        if name == "config":
            lines += [f"{group}: {values}" for group, values in value.items()]
        elif name == "created":
            lines.append(f"created: {datetime.fromtimestamp(value):%Y-%m-%d %H:%M:%S}")
        elif name == "seconds":
            lines.append(f"time: {describe_seconds(value)}")
        else:
            lines.append(f"{name.replace('_', ' ')}: {value}")
    return lines
