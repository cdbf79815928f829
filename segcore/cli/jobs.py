"""`segcore jobs`: list, show and stop jobs, and read their logs."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser, add_common
from segcore.events import Request
from segcore.jobs.journal import read_history, read_log, read_progress
from segcore.jobs.store import Job, ask, find_job, list_jobs, queue_place
from segcore.worker.console import describe_seconds
from segcore.workspace import Workspace


def jobs_command(words: list[str]) -> int:
    """Run `segcore jobs list|show|stop|logs`; without one of these, `list`."""
    parser = Parser("jobs", "List, show and stop jobs, and read their logs.")
    actions = parser.add_subparsers(dest="action", required=True, parser_class=_ActionParser)
    listing = actions.add_parser("list", help="all jobs, newest first")
    showing = actions.add_parser("show", help="everything about a job")
    stopping = actions.add_parser("stop", help="stop a job and keep what it has; cancel one that waits")
    logs = actions.add_parser("logs", help="the log of a job")
    for action in (showing, stopping, logs):
        action.add_argument("id", help="a job's id, as in the list")
    logs.add_argument("--lines", type=int, default=1000, help="how many, from the end (default: 1000)")
    for action in (listing, showing, stopping, logs):
        add_common(action)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = ["list", *words]
    options = parser.parse_args(words)
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
    if options.action == "stop":
        job = ask(job.folder, Request.STOP)
    content = describe_job(workspace, job)
    if options.action == "show":
        content["config"] = job.config.model_dump(mode="json")
    write_json(content) if options.json else write_lines(_details(content))
    return 0


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
        "state": job.state,
        "session": job.session,
        "run_folder": job.folder,
        "place": queue_place(workspace, job),
        "epoch": max(done, progress.epoch if progress else 0),
        "epochs": history[-1].epochs if history else (progress.epochs if progress else 0),
        "val_dice": max((event.val_dice for event in history), default=None),
        "pid": job.pid,
        "created": job.created,
        "seconds": (job.ended or time.time()) - job.started if job.started else None,
        "message": job.message,
        "remedy": job.remedy,
        "mlflow_run_id": job.mlflow_run_id,
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return ["no jobs yet: `segcore train` makes one"]
    cells = [("ID", "KIND", "STATE", "EPOCH", "DICE", "SESSION")]
    for row in rows:
        epoch = f"{row['epoch']}/{row['epochs']}" if row["epochs"] else ""
        state = f"{row['state']} (place {row['place']})" if row["place"] else str(row["state"])
        dice = "" if row["val_dice"] is None else f"{row['val_dice']:.3f}"
        cells.append((row["id"], row["kind"], state, epoch, dice, row["session"]))
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
