"""A command that plays the worker for its own job hands every signal on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from segcore.jobs import supervisor
from segcore.jobs.store import Job, State, asked, read_job
from segcore.worker.console import Console
from segcore.worker.local import run_here
from segcore.workspace import Workspace

OBEY = """
from segcore.events import Request
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
start_job(folder)
while asked(folder) is None and not told:
    time.sleep(0.02)
ends = {Request.STOP: State.CANCELLED, Request.PAUSE: State.PAUSED, Request.DISCARD: State.DISCARDED}
end_job(folder, ends.get(asked(folder), State.INTERRUPTED))
"""


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("SIGINT", State.CANCELLED),
        ("SIGUSR1", State.PAUSED),
        ("SIGUSR2", State.DISCARDED),
        ("SIGTERM", State.INTERRUPTED),
    ],
)
def test_a_signal_of_the_command_reaches_its_job(
    name: str,
    state: State,
    workspace: Workspace,
    make_job: Callable[..., Job],
    fake: Callable[..., list[str]],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(supervisor, "job_command", lambda folder, _: fake(OBEY, folder))
    job = make_job("predict", owner="command")
    before = signal.getsignal(signal.SIGUSR1)

    def send() -> None:
        wait_until(lambda: read_job(job.folder).state is State.RUNNING)
        os.kill(os.getpid(), signal.Signals[name])

    sender = threading.Thread(target=send)
    sender.start()
    assert run_here(job, workspace, Console()).state is state
    sender.join()
    assert (asked(job.folder) is None) == (name == "SIGTERM")
    assert signal.getsignal(signal.SIGUSR1) is before
    assert capsys.readouterr().err  # it says what it does
