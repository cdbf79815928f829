"""The process that waits: it does what stdin names, each into its own log, and keeps the model loaded."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from segcore.config import RunConfig, build_config
from segcore.events import Outcome
from segcore.jobs.store import Job, State, read_job
from segcore.models import saved
from segcore.worker import ready
from segcore.worker.switch import SIGNALS
from segcore.workspace import Workspace

MakeJob = Callable[..., Job]
Segment = Callable[..., Outcome]
PLAIN = build_config({"inference": {"model": "model.pth"}, "hardware": {"device": "cpu"}})


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    yield
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[[Segment, list[Job]], int]:
    """Return a function that lets a process that waits do jobs by a function, and gives its exit status."""
    monkeypatch.setattr(ready, "ENGINE", ())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def tell(segment: Segment, jobs: list[Job]) -> int:
        engine = ModuleType("segcore.inference.run")
        engine.segment = segment  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "segcore.inference.run", engine)
        orders = [
            {"folder": str(job.folder), "workspace": str(workspace.root), "environment": {"ORDER": job.id}}
            for job in jobs
        ]
        lines = "".join(json.dumps(order) + "\n" for order in orders).encode()
        return ready.stand_by("ready-test", io.BytesIO(lines))

    yield tell
    os.environ.pop("ORDER", None)


def test_it_does_one_segmentation_after_the_other(
    told: Callable[[Segment, list[Job]], int], make_job: MakeJob
) -> None:
    def segment(config: RunConfig, folder: Path, *_: Any) -> Outcome:
        os.write(1, f"{folder.name} {os.environ['ORDER']}".encode())
        running = read_job(folder)
        assert (running.pid, running.mark) == (os.getpid(), "ready-test")
        return Outcome(None, {})

    jobs = [make_job("predict") for _ in range(2)]
    assert told(segment, jobs) == 0
    for job in jobs:
        assert read_job(job.folder).state is State.FINISHED
        assert f"{job.id} {job.id}" in (job.folder / "log.txt").read_text()
    # While it waits, a signal ends it as any other process.
    assert {signal.getsignal(getattr(signal, name)) for name in SIGNALS} == {signal.SIG_DFL}


def test_it_ends_after_a_failure(told: Callable[[Segment, list[Job]], int], make_job: MakeJob) -> None:
    def fail(*_: Any) -> Outcome:
        raise MemoryError

    jobs = [make_job("predict") for _ in range(2)]
    assert told(fail, jobs) == 1
    assert [read_job(job.folder).state for job in jobs] == [State.FAILED, State.QUEUED]


def test_a_model_stays_loaded_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, configuration = tmp_path / "model.pth", tmp_path / "model.json"
    weights.write_bytes(b"one")
    configuration.write_text("{}")
    monkeypatch.setattr(saved, "find_model", lambda *_: (weights, configuration))
    monkeypatch.setattr(saved, "load_model", lambda *_: SimpleNamespace(content=weights.read_bytes()))
    kept = ready.KeptModel()
    first = kept.load(PLAIN)
    assert kept.load(PLAIN) is first
    weights.write_bytes(b"another")
    assert kept.load(PLAIN).content == b"another"  # type: ignore[attr-defined]
    before = kept.load(PLAIN)
    other = PLAIN.hardware.model_copy(update={"precision": "fp32"})
    assert kept.load(PLAIN.model_copy(update={"hardware": other})) is not before
