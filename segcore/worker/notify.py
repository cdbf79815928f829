"""Notify: tells a webhook that a job has ended; once for each end, from a thread, never in the way."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segcore.errors import SegcoreError
from segcore.events import EpochEvent
from segcore.files import write_atomic
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, list_jobs, read_job
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
PAUSES = (0.0, 2.0, 8.0)
"""Seconds before each of the tries."""
CLOSE_SECONDS = 30.0
MARKER = ".notice"
"""File of the run folder: its end is to be told; its content is when the end was that has been told."""
WORDS = {
    State.FINISHED: "finished",
    State.FAILED: "failed",
    State.CANCELLED: "was stopped",
    State.INTERRUPTED: "was interrupted",
    State.DISCARDED: "was discarded",
}


class Notifier:
    """Tells the webhooks of a workspace's jobs how they ended.

    The address is the job's `notify.webhook`, else that of the environment variable SEGCORE_WEBHOOK_URL. It
    is a secret: nothing here writes it anywhere.

    Parameters
    ----------
    workspace : Workspace
        The workspace of the jobs.
    pauses : sequence of float
        Seconds before each try; as many tries as there are.
    """

    def __init__(self, workspace: Workspace, pauses: Sequence[float] = PAUSES) -> None:
        self.workspace = workspace
        self._pauses = pauses
        self._inbox: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def expect(self, folder: Path) -> None:
        """Remember in the run folder that its end is to be told, also if this process does not live to it.

        So an address that is given today does not get the ends of last year.
        """
        try:
            if _address(read_job(folder)) and not (folder / MARKER).exists():
                write_atomic(folder / MARKER, "")
        except (SegcoreError, OSError) as error:
            logger.warning("%s: its end may not be told: %s.", folder.name, type(error).__name__)

    def tell(self, folder: Path) -> None:
        """Tell the end of a job in the background, unless that has been done or it goes on by itself."""
        if (folder / MARKER).exists():
            with self._lock:
                self._inbox.put(folder)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
                    self._thread.start()

    def catch_up(self) -> None:
        """Tell the ends nobody told: of jobs whose worker died, or that were discarded afterwards."""
        for job in list_jobs(self.workspace):
            if _is_due(job):
                self.tell(job.folder)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Tell what is still to be told and end; what a dead server has not taken by then, nobody tells."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._inbox.put(None)
            thread.join(timeout)
            self._closing.set()

    def _work(self) -> None:
        while (folder := self._inbox.get()) is not None:
            try:
                self._tell(folder)
            except Exception as error:
                # Its text may hold the address.
                logger.warning("The end of %s could not be told: %s.", folder.name, type(error).__name__)

    def _tell(self, folder: Path) -> None:
        try:
            # Another host's worker may be at it.
            with FileLock(folder / f"{MARKER}.lock", timeout=0):
                job = read_job(folder)
                address = _address(job)
                if not _is_due(job) or address is None:
                    return
                self._post(job, address)
                # Also where nobody answered: three tries are enough.
                write_atomic(folder / MARKER, _end_of(job))
        except Timeout:
            return

    def _post(self, job: Job, address: str) -> None:
        body = json.dumps(message(job)).encode()
        reason = ""
        for pause in self._pauses:
            if pause and self._closing.wait(pause):
                break
            reason, again = post(address, body)
            if not reason:
                logger.info("%s: the webhook was told that it %s", job.id, WORDS[job.state])
                return
            if not again:
                break
        logger.warning("%s: its end could not be told to the webhook: %s.", job.id, reason)


def message(job: Job) -> dict[str, Any]:
    """Return what a webhook is told of a job that has ended.

    `text` is one sentence for people, as chat rooms show it; `seconds` is the time from start to end.
    """
    best = _best(job)
    started, ended = job.started, job.ended
    return {
        "text": sentence(job, best),
        "id": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "session": job.session,
        "message": job.message,
        "remedy": job.remedy,
        "best_dice": best.val_dice if best else None,
        **({} if best is None or best.val_f1 is None else {"best_f1": best.val_score}),
        "seconds": round(ended - started, 1) if started is not None and ended is not None else None,
        "run_folder": job.folder.name,
        "host": job.host,
    }


def sentence(job: Job, best: EpochEvent | None) -> str:
    """Return how a job ended in one sentence, with what it said about it."""
    parts = [f"{job.noun.capitalize()} {job.id} ({job.session}) {WORDS.get(job.state, job.state.value)}"]
    if best is not None:
        parts.append(f", best {best.score_text} in epoch {best.epoch} of {best.epochs}")
    if job.host:
        parts.append(f", on {job.host}")
    said = " ".join(filter(None, [job.message, job.remedy]))
    return "".join(parts) + "." + (f" {said}" if said else "")


def post(address: str, body: bytes, timeout: float = TIMEOUT_SECONDS) -> tuple[str, bool]:
    """Send JSON to an address once; redirects are not followed, wherever they lead.

    Returns
    -------
    reason : str
        Why it failed, without the address; empty if it was taken.
    again : bool
        Whether another try may help.
    """
    if not address.startswith(("http://", "https://")):
        return "its address does not begin with http:// or https://", False
    headers = {"Content-Type": "application/json", "User-Agent": "segcore"}
    try:
        request = urllib.request.Request(address, data=body, headers=headers, method="POST")
        with _opener().open(request, timeout=timeout) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except urllib.error.URLError as error:
        cause = error.reason
        return (getattr(cause, "strerror", None) or type(cause).__name__), True
    except (OSError, HTTPException, ValueError) as error:
        # Only the kind of error: some of them quote the address.
        return type(error).__name__, isinstance(error, OSError)
    if 200 <= status < 300:
        return "", False
    return f"it answered {status}", status >= 500 or status == 429


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens http and https addresses, through the proxy of the environment, and nothing else.

    It follows no redirect: that would turn the message into an empty question, and may lead anywhere.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _address(job: Job) -> str | None:
    return job.config.notify.webhook or os.environ.get("SEGCORE_WEBHOOK_URL") or None


def _is_due(job: Job) -> bool:
    """Say whether a job has ended for good, and nobody has been told of this end."""
    try:
        return (job.folder / MARKER).read_text() != _end_of(job) and _is_over(job)
    except (OSError, SegcoreError):
        return False


def _is_over(job: Job) -> bool:
    if job.state is State.INTERRUPTED:
        # A worker puts it in line again by itself, unless a command made it or that is switched off.
        resumed = job.kind == "predict" or job.config.training.auto_resume
        return job.owner == "command" or not resumed
    return job.state.final


def _end_of(job: Job) -> str:
    return f"{job.state} {job.ended}"


def _best(job: Job) -> EpochEvent | None:
    if job.kind != "train":
        return None
    try:
        return next((event for event in reversed(read_history(job.folder)) if event.best), None)
    except OSError:
        return None
