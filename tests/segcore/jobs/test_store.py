"""What a killed process leaves in a run folder can be read, and so can what comes after it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from segcore.config import build_config
from segcore.events import StageEvent
from segcore.files import write_atomic
from segcore.jobs.job import COMPARISON, UNFINISHED
from segcore.jobs.journal import EventTail, FolderReporter, read_events
from segcore.jobs.store import State, create_job, end_job, line_up_again, read_job, start_job
from segcore.workspace import Workspace


def test_a_line_that_was_left_unfinished_swallows_no_other(workspace: Workspace) -> None:
    folder = create_job(workspace, "train", build_config({})).folder
    report, tail = FolderReporter(folder), EventTail(folder)
    report(StageEvent(text="before"))
    with (folder / "events.jsonl").open("ab") as stream:
        stream.write(b'{"time": 1.0, "kind": "sta')
    assert [event.text for event in tail.new() if isinstance(event, StageEvent)] == ["before"]
    report(StageEvent(text="after"))
    FolderReporter(folder)(StageEvent(text="of another process"))
    assert [event.text for event in tail.new() if isinstance(event, StageEvent)] == [
        "after",
        "of another process",
    ]
    assert len(list(read_events(folder))) == 3
    assert tail.offset == (folder / "events.jsonl").stat().st_size


def test_how_a_job_ended_finds_room_on_a_full_disk(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create_job(workspace, "train", build_config({})).folder
    progress = folder / "progress.json"
    progress.touch()

    def full(path: Path, content: str | bytes) -> None:
        if progress.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, content)

    monkeypatch.setattr("segcore.jobs.store.write_atomic", full)
    end_job(folder, State.FAILED, "The disk is full.")
    assert (read_job(folder).state, read_job(folder).message) == (State.FAILED, "The disk is full.")


def test_what_a_killed_evaluation_left_is_gone_when_it_is_resumed_or_stopped(workspace: Workspace) -> None:
    folder = create_job(workspace, "predict", build_config({}), evaluates="test").folder
    left = folder / f"{UNFINISHED}0123"
    start_job(folder)
    left.mkdir()
    end_job(folder, State.PAUSED)
    assert left.exists()
    assert read_job(folder).resumption == "begins anew"
    start_job(line_up_again(folder, 0.0).folder)
    assert not left.exists()
    for path in (left, folder / COMPARISON):
        path.mkdir()
        (path / "slices.csv").touch()
    end_job(folder, State.CANCELLED)
    assert not list(folder.glob("*comparison*"))
