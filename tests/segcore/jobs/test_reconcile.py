"""Whatever is killed, in whatever instant: the next look finds every job and lets it go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from segcore.events import EpochEvent, NoteEvent, Request, ResumeEvent
from segcore.jobs import recovery
from segcore.jobs.journal import FolderReporter, read_events, read_history
from segcore.jobs.queue import waiting
from segcore.jobs.recovery import MAX_RESTARTS, reconcile, recover
from segcore.jobs.store import (
    Job,
    State,
    ask,
    asked,
    end_job,
    line_up_again,
    read_job,
    start_job,
    update_job,
)
from segcore.jobs.supervisor import run_job
from segcore.jobs.tokens import Tokens
from segcore.workspace import Workspace

MakeJob = Callable[..., Job]
Fake = Callable[..., list[str]]

KILLED = "start_job(folder); os.kill(os.getpid(), signal.SIGKILL)"
KILLED_BEFORE = "os.kill(os.getpid(), signal.SIGKILL)"
SAVING = """
def save(*_):
    end_job(folder, State.INTERRUPTED, 'saved')
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
start_job(folder)
time.sleep(60)
"""


def epoch(number: int, dice: float = 0.5) -> EpochEvent:
    return EpochEvent(
        epoch=number,
        epochs=9,
        train_loss=1.0,
        train_dice=dice,
        val_loss=1.0,
        val_dice=dice,
        val_dice_per_class={},
        val_iou_per_class={},
        learning_rate=1e-3,
        seconds=1.0,
        patches_per_second=1.0,
        best=False,
    )


def tokens(workspace: Workspace) -> int:
    with Tokens(workspace, "train") as these:
        return these.count()


@pytest.mark.usefixtures("any_queue")
def test_a_job_whose_token_was_taken_but_which_was_not_begun_gets_another(
    workspace: Workspace, make_job: MakeJob
) -> None:
    make_job()
    assert reconcile(workspace) == []
    assert tokens(workspace) == 1
    reconcile(workspace)
    assert tokens(workspace) == 1


def test_a_running_job_without_a_process_goes_on_before_all_that_wait(
    workspace: Workspace, make_job: MakeJob
) -> None:
    first, second, other = make_job(), make_job(), make_job()
    for job in (first, second):
        assert start_job(job.folder).pid == os.getpid()  # which is not a job's process
    assert {job.id for job in reconcile(workspace)} == {first.id, second.id}
    assert [job.id for job in waiting(workspace, "train")] == [first.id, second.id, other.id]
    assert tokens(workspace) == 3
    assert reconcile(workspace) == []


def test_a_job_that_was_saved_when_its_machine_went_down_goes_on(
    workspace: Workspace, make_job: MakeJob
) -> None:
    job = end_job(start_job(make_job().folder).folder, State.INTERRUPTED)
    reconcile(workspace)
    assert read_job(job.folder).state is State.QUEUED


def test_who_does_not_want_it_resumes_by_hand(workspace: Workspace, make_job: MakeJob) -> None:
    job = start_job(make_job(auto_resume=False).folder)
    reconcile(workspace)
    ended = read_job(job.folder)
    assert (ended.state, ended.pid) == (State.INTERRUPTED, None)
    assert "gone" in ended.message
    assert f"segcore jobs resume {job.id}" in ended.remedy
    # A segmentation has no such option: it always begins anew.
    segmentation = start_job(make_job("predict", auto_resume=False).folder)
    reconcile(workspace)
    assert read_job(segmentation.folder).state is State.QUEUED


def test_a_job_that_was_interrupted_before_jobs_went_on_by_themselves_stays_as_it_is(
    workspace: Workspace, make_job: MakeJob
) -> None:
    job = end_job(start_job(make_job().folder).folder, State.INTERRUPTED)
    update_job(job.folder, attempts=0)
    assert reconcile(workspace) == []


def test_a_job_of_a_command_is_left_to_it(workspace: Workspace, make_job: MakeJob) -> None:
    job = make_job(owner="command")
    assert reconcile(workspace) == []
    assert tokens(workspace) == 0
    update_job(job.folder, created=time.time() - recovery.START_SECONDS - 1)
    reconcile(workspace)
    reconcile(workspace)
    assert read_job(job.folder).state is State.INTERRUPTED


def test_ended_jobs_stay_as_they_are(workspace: Workspace, make_job: MakeJob) -> None:
    job = make_job()
    ask(job.folder, Request.STOP)
    assert start_job(job.folder).state is State.CANCELLED
    assert update_job(job.folder, state=State.FINISHED, message="no").message == read_job(job.folder).message
    assert read_job(job.folder).state is State.CANCELLED
    assert reconcile(workspace) == []


def test_a_job_that_dies_again_and_again_fails_and_says_so(
    workspace: Workspace, make_job: MakeJob, fake: Fake
) -> None:
    job = make_job()
    for restart in range(1, MAX_RESTARTS + 1):
        job = recover(workspace, run_job(job.folder, workspace, command=fake(KILLED, job.folder)))
        assert (job.state, job.restarts, job.attempts) == (State.QUEUED, restart, restart)
    job = recover(workspace, run_job(job.folder, workspace, command=fake(KILLED, job.folder)))
    assert job.state is State.FAILED
    assert f"{MAX_RESTARTS} times without getting on" in job.message
    assert job.remedy


def test_a_job_that_never_comes_to_begin_is_not_started_for_ever(
    workspace: Workspace, make_job: MakeJob, fake: Fake
) -> None:
    job = start_job(make_job().folder)
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.pt").touch()  # of its first attempt, which did get on
    end_job(job.folder, State.INTERRUPTED)
    job = line_up_again(job.folder, 0.0, 1)
    for _ in range(MAX_RESTARTS):
        job = recover(workspace, run_job(job.folder, workspace, command=fake(KILLED_BEFORE, job.folder)))
    assert job.state is State.FAILED


@pytest.mark.parametrize("progress", ["checkpoint", "epoch", None])
def test_getting_on_counts(progress: str | None, workspace: Workspace, make_job: MakeJob) -> None:
    job = make_job()
    (job.folder / "checkpoints").mkdir()
    for _ in range(MAX_RESTARTS + 3):
        start_job(job.folder)
        if progress == "checkpoint":
            soon = time.time() + 1
            (job.folder / "checkpoints" / "last.pt").touch()
            os.utime(job.folder / "checkpoints" / "last.pt", (soon, soon))
        elif progress == "epoch":
            FolderReporter(job.folder)(epoch(1))
        else:
            FolderReporter(job.folder)(NoteEvent(text="not worth a restart"))
        recover(workspace, end_job(job.folder, State.INTERRUPTED))
    assert read_job(job.folder).state is (State.FAILED if progress is None else State.QUEUED)


@pytest.mark.parametrize(
    ("request_", "checkpoint", "state"),
    [
        (Request.PAUSE, True, State.PAUSED),
        (Request.DISCARD, True, State.DISCARDED),
        (Request.STOP, False, State.CANCELLED),
        # It needs another moment to write its results: the request is still there when it begins again.
        (Request.STOP, True, State.QUEUED),
    ],
)
def test_what_was_asked_of_a_job_that_died_before_it_read_it_is_done(
    request_: Request, checkpoint: bool, state: State, workspace: Workspace, make_job: MakeJob
) -> None:
    job = start_job(make_job().folder)
    if checkpoint:
        (job.folder / "checkpoints").mkdir()
        (job.folder / "checkpoints" / "last.pt").touch()
    ask(job.folder, request_)
    reconcile(workspace)
    reconcile(workspace)
    assert read_job(job.folder).state is state
    assert (job.folder / "checkpoints").exists() == (checkpoint and state is not State.DISCARDED)
    assert asked(job.folder) is request_


def test_an_end_that_its_supervisor_did_not_live_to_see_counts(
    workspace: Workspace, make_job: MakeJob
) -> None:
    job = end_job(start_job(make_job().folder).folder, State.FINISHED)
    assert reconcile(workspace) == []
    assert read_job(job.folder) == job


def test_a_job_that_is_resumed_while_its_process_still_ends_is_left_waiting(
    workspace: Workspace, make_job: MakeJob, fake: Fake
) -> None:
    job = make_job()
    code = """
from segcore.jobs.store import line_up_again
start_job(folder)
end_job(folder, State.FAILED)
line_up_again(folder, 1.0)
sys.exit(1)
"""
    assert run_job(job.folder, workspace, command=fake(code, job.folder)).state is State.QUEUED


def test_a_process_that_was_given_up_has_no_say(make_job: MakeJob) -> None:
    job = start_job(make_job().folder)
    end_job(job.folder, State.INTERRUPTED)
    line_up_again(job.folder, 1.0, 1)
    start_job(job.folder)
    assert end_job(job.folder, State.FINISHED, attempt=job.attempts).state is State.RUNNING
    assert end_job(job.folder, State.FINISHED, attempt=job.attempts + 1).state is State.FINISHED


def test_a_machine_that_goes_down_lets_the_job_save(
    workspace: Workspace, make_job: MakeJob, fake: Fake
) -> None:
    job = make_job()
    ended = run_job(
        job.folder,
        workspace,
        command=fake(SAVING, job.folder),
        leaving=lambda: read_job(job.folder).state is State.RUNNING,
    )
    assert (ended.state, ended.message) == (State.INTERRUPTED, "saved")
    assert recover(workspace, ended).state is State.QUEUED


def test_what_a_killed_process_left_half_written_is_removed(make_job: MakeJob) -> None:
    job = start_job(make_job().folder)
    half = job.folder / "checkpoints" / ".last.pt.123.part"
    half.parent.mkdir()
    half.write_bytes(b"half")
    end_job(job.folder, State.INTERRUPTED)
    line_up_again(job.folder, 1.0, 1)
    start_job(job.folder)
    assert not half.exists()


def test_epochs_after_the_checkpoint_count_once_as_last_reported(make_job: MakeJob) -> None:
    folder = make_job().folder
    report = FolderReporter(folder)
    for event in (epoch(1, 0.1), epoch(2, 0.2), epoch(3, 0.3), ResumeEvent(epoch=1, step=10), epoch(2, 0.4)):
        report(event)
    assert [(event.epoch, event.val_dice) for event in read_history(folder)] == [(1, 0.1), (2, 0.4)]
    assert len(list(read_events(folder))) == 5


def test_another_signal_number_is_no_stumbling_block(
    workspace: Workspace, make_job: MakeJob, fake: Fake
) -> None:
    job = make_job()
    code = f"start_job(folder); os.kill(os.getpid(), {signal.SIGRTMIN + 3})"
    ended = run_job(job.folder, workspace, command=fake(code, job.folder))
    assert ended.state is State.INTERRUPTED
    assert f"signal {signal.SIGRTMIN + 3}" in ended.message
