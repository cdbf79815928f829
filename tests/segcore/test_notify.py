"""Notify: each end is told once, to a real server, in words; its address is a secret and nobody waits."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from filelock import FileLock

from segcore.config import build_config
from segcore.events import EpochEvent, Request
from segcore.jobs import supervisor
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, ask, create_job, end_job, read_job, start_job
from segcore.worker import local
from segcore.worker.console import Console
from segcore.worker.notify import MARKER, Notifier, post
from segcore.workspace import Workspace

SECRET = "T0123-very-secret"


class Room(ThreadingHTTPServer):
    """A chat room: keeps what it is told, and answers as it was told to; 200 when nothing is left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.answers: list[int] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/{SECRET}"


class Ear(BaseHTTPRequestHandler):
    """Takes one message."""

    server: Room

    def do_POST(self) -> None:
        """Answer as the room says."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.server.asked.append(self.path)
        if status == 200:
            self.server.heard.append(body)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    room = Room()
    thread = threading.Thread(target=room.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield room
    room.shutdown()
    thread.join()
    room.server_close()


@pytest.fixture
def notifier(workspace: Workspace) -> Notifier:
    return Notifier(workspace, pauses=(0, 0, 0))


def begin(workspace: Workspace, address: str | None, **options: Any) -> Job:
    config = build_config({"session": "em", "notify": {"webhook": address}, **options})
    return start_job(create_job(workspace, "train", config).folder)


def epoch(number: int, dice: float, best: bool) -> EpochEvent:
    return EpochEvent(
        epoch=number, epochs=3, train_loss=1, train_dice=dice, val_loss=1, val_dice=dice,
        val_dice_per_class={}, val_iou_per_class={}, learning_rate=1, seconds=1, patches_per_second=1,
        best=best,
    )  # fmt: skip


def finish(notifier: Notifier, job: Job, state: State, message: str = "", remedy: str = "") -> Job:
    notifier.expect(job.folder)
    ended = end_job(job.folder, state, message, remedy)
    notifier.tell(job.folder)
    notifier.close()
    return ended


def test_a_finished_training_is_told_with_what_people_and_programs_need(
    workspace: Workspace, room: Room, notifier: Notifier
) -> None:
    job = begin(workspace, room.address)
    report = FolderReporter(job.folder)
    for event in (epoch(1, 0.5, True), epoch(2, 0.832, True), epoch(3, 0.7, False)):
        report(event)
    ended = finish(notifier, job, State.FINISHED)
    assert ended.ended is not None
    assert ended.started is not None
    text = f"Training {job.id} (em) finished, best Dice 0.832 in epoch 2 of 3, on {job.host}."
    assert room.heard == [
        {
            "text": text, "id": job.id, "kind": "train", "state": "finished", "session": "em", "message": "",
            "remedy": "", "best_dice": 0.832, "seconds": round(ended.ended - ended.started, 1),
            "run_folder": job.folder.name, "host": job.host,
        }
    ]  # fmt: skip


def test_a_failure_is_told_with_its_remedy(workspace: Workspace, room: Room, notifier: Notifier) -> None:
    finish(notifier, begin(workspace, room.address), State.FAILED, "The disk is full.", "Free some space.")
    assert room.heard[0]["text"].endswith("The disk is full. Free some space.")
    assert (room.heard[0]["message"], room.heard[0]["best_dice"]) == ("The disk is full.", None)


def test_an_end_is_told_once_by_whichever_worker(workspace: Workspace, room: Room) -> None:
    job = begin(workspace, room.address)
    first = Notifier(workspace)
    first.expect(job.folder)
    end_job(job.folder, State.FINISHED)
    # The first worker died before it could tell; the second tells, and says nothing more when started again.
    for _ in range(3):
        worker = Notifier(workspace, pauses=(0,))
        worker.catch_up()
        worker.tell(job.folder)
        worker.close()
    assert len(room.heard) == 1


def test_another_worker_that_is_telling_is_left_to_it(workspace: Workspace, room: Room) -> None:
    job = begin(workspace, room.address)
    worker = Notifier(workspace, pauses=(0,))
    worker.expect(job.folder)
    end_job(job.folder, State.FINISHED)
    with FileLock(job.folder / f"{MARKER}.lock"):
        worker.tell(job.folder)
        worker.close()
    assert room.heard == []


def test_the_end_after_a_resume_is_told_again(workspace: Workspace, room: Room, notifier: Notifier) -> None:
    job = begin(workspace, room.address)
    finish(notifier, job, State.FAILED)
    path = job.folder / "job.json"
    path.write_text(read_job(job.folder).model_copy(update={"state": State.RUNNING}).model_dump_json())
    finish(Notifier(workspace), job, State.FINISHED)
    assert [told["state"] for told in room.heard] == ["failed", "finished"]


@pytest.mark.parametrize(
    ("state", "options", "told"),
    [
        (State.PAUSED, {}, False),
        (State.INTERRUPTED, {}, False),
        (State.INTERRUPTED, {"training": {"auto_resume": False}}, True),
        (State.CANCELLED, {}, True),
        (State.DISCARDED, {}, True),
    ],
)
def test_what_goes_on_later_is_no_end(
    workspace: Workspace, room: Room, notifier: Notifier, state: State, options: dict[str, Any], told: bool
) -> None:
    finish(notifier, begin(workspace, room.address, **options), state)
    assert bool(room.heard) == told


def test_the_address_of_the_environment_serves_jobs_that_begin_from_then_on(
    workspace: Workspace, room: Room, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = begin(workspace, None)
    notifier.expect(old.folder)
    end_job(old.folder, State.FINISHED)
    monkeypatch.setenv("SEGCORE_WEBHOOK_URL", room.address)
    notifier.catch_up()
    new = begin(workspace, None)
    finish(notifier, new, State.FINISHED)
    assert [told["id"] for told in room.heard] == [new.id]


@pytest.mark.parametrize(("answers", "tries"), [([500, 503], 3), ([500] * 5, 3), ([404], 1), ([302], 1)])
def test_a_busy_server_is_asked_three_times_and_a_wrong_address_once(
    workspace: Workspace, room: Room, notifier: Notifier, answers: list[int], tries: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    room.answers = list(answers)
    job = begin(workspace, room.address)
    with caplog.at_level(logging.INFO):
        finish(notifier, job, State.FINISHED)
    assert room.asked == [f"/hooks/{SECRET}"] * tries
    taken = len(answers) < tries
    assert len(room.heard) == taken
    assert ("could not be told" in caplog.text) != taken
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/hooks/" + SECRET,
        "http://127.0.0.1:no/" + SECRET,
        "file:///etc/" + SECRET,
        "ftp://127.0.0.1/" + SECRET,
        "http://[/" + SECRET,
        "http://127.0.0.1/\x7f" + SECRET,
    ],
)
def test_an_address_that_leads_nowhere_is_only_noted(
    workspace: Workspace, room: Room, notifier: Notifier, address: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SEGCORE_WEBHOOK_URL", address)
    job = finish(notifier, begin(workspace, None), State.FINISHED)
    assert job.state is State.FINISHED
    assert "could not be told" in caplog.text
    assert SECRET not in caplog.text


def test_a_server_that_never_answers_holds_nobody_up(workspace: Workspace, room: Room) -> None:
    silent = threading.Event()

    class Deaf(Ear):
        def do_POST(self) -> None:
            """Wait until the test is over."""
            silent.wait(20)

    room.RequestHandlerClass = Deaf
    job = begin(workspace, room.address)
    notifier = Notifier(workspace, pauses=(0,))
    notifier.expect(job.folder)
    end_job(job.folder, State.FINISHED)
    notifier.tell(job.folder)  # comes back at once
    reason, again = post(room.address, b"{}", timeout=0.1)
    assert reason
    assert again
    assert (job.folder / MARKER).read_text() == ""  # the next worker tells it
    silent.set()
    notifier.close()


def test_a_job_that_is_deleted_meanwhile_or_unreadable_is_no_trouble(
    workspace: Workspace, room: Room, notifier: Notifier, tmp_path: Path
) -> None:
    notifier.expect(tmp_path / "gone")
    notifier.tell(tmp_path / "gone")
    job = begin(workspace, room.address)
    notifier.expect(job.folder)
    end_job(job.folder, State.FINISHED)
    (job.folder / "config.json").write_text("{")
    notifier.catch_up()
    notifier.tell(job.folder)
    notifier.close()
    assert room.heard == []


def test_a_discarded_job_that_waited_is_nobodys_news(
    workspace: Workspace, room: Room, notifier: Notifier
) -> None:
    config = build_config({"notify": {"webhook": room.address}})
    job = create_job(workspace, "train", config)
    ask(job.folder, Request.DISCARD)
    notifier.catch_up()
    notifier.close()
    assert room.heard == []


def test_a_command_tells_the_end_of_its_job_before_it_returns(
    workspace: Workspace, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from pathlib import Path; from segcore.jobs.store import *; folder = Path(sys.argv[1]);"
        "start_job(folder); end_job(folder, State.FINISHED)"
    )
    monkeypatch.setattr(
        supervisor, "job_command", lambda folder, _: [sys.executable, "-c", code, str(folder)]
    )
    monkeypatch.setattr(local, "FollowingThread", lambda _: MagicMock())
    config = build_config({"notify": {"webhook": room.address}})
    job = create_job(workspace, "train", config, owner="command")
    assert local.run_here(job, workspace, Console(io.StringIO())).state is State.FINISHED
    assert [told["id"] for told in room.heard] == [job.id]
