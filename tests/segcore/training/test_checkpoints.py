"""Checkpoints: whole or not there, in agreement with the best model; a full disk does not end a training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import config_for, run_in

from segcore.errors import JobError, ModelError
from segcore.events import Event, NoteEvent, Request, unasked
from segcore.training import checkpoints
from segcore.training.loop import fit
from segcore.training.state import kept_weights, read_checkpoint


def full_disk(*_: object) -> None:
    """Stand in for torch.save on a full disk."""
    raise RuntimeError("[enforce fail at inline_container.cc:668] .") from OSError(
        28, "No space left on device"
    )


def assert_model_agrees(folder: Path) -> None:
    """Check that the model on disk is that of the best epoch that the state on disk knows of."""
    last = read_checkpoint(folder / "checkpoints" / "last.pt")
    best = read_checkpoint(folder / "checkpoints" / "best.pt")
    assert best["epoch"] == best["best_epoch"] == last["best_epoch"]
    model = torch.load(folder / "best_model.pth", weights_only=True)
    assert all(torch.equal(model[name], tensor) for name, tensor in kept_weights(best).items())


def test_a_damaged_checkpoint_is_told_as_such(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack)
    run_in(tmp_path / "run", config).save()
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"checkpoint .* cannot be used"):
        run_in(tmp_path / "run", config)


def test_a_full_disk_is_told_leaves_the_checkpoint_before_and_does_not_stop_the_training(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    run = run_in(tmp_path / "run", config_for(stack), heard.append)
    run.save()
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    before = last.read_bytes()
    run.checkpoints._cost = 0.0  # however slow the disk was: the best epoch is saved at once
    save = torch.save

    def full_for_a_while(content: Any, stream: Any) -> None:
        if run.state.epoch < 4:
            stream.write(b"half a checkpoint")
            full_disk()
        save(content, stream)

    monkeypatch.setattr("torch.save", full_for_a_while)
    steps = run.steps_per_epoch

    def look() -> None:
        if run.state.step == 2 * steps:
            assert last.read_bytes() == before
            assert [path.name for path in last.parent.iterdir()] == ["last.pt"]

    assert fit(run, look) == "finished"
    warnings = [event for event in heard if isinstance(event, NoteEvent) and event.level == "warning"]
    assert warnings
    assert "No space left on device" in warnings[0].text
    assert warnings[0].remedy
    # With room again, nothing is missing.
    assert_model_agrees(tmp_path / "run")


def test_a_pause_that_cannot_be_saved_is_not_taken_for_one(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(tmp_path / "run", config_for(stack))
    monkeypatch.setattr("torch.save", full_disk)
    with pytest.raises(JobError, match="No space left on device"):
        fit(run, lambda: Request.PAUSE if run.state.step == 2 else None)


@pytest.mark.parametrize("costly", [0.0, 1e9])
def test_model_and_state_on_disk_agree_whether_the_best_is_saved_at_once_or_waits(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, costly: float
) -> None:
    monkeypatch.setattr(checkpoints, "COSTLY", costly)
    run = run_in(tmp_path / "run", config_for(stack, epochs=6))
    folder = run.folder
    seen = set()

    def look() -> None:
        if (folder / "checkpoints" / "last.pt").exists() and run.state.step % run.steps_per_epoch == 1:
            assert_model_agrees(folder)
            seen.add(read_checkpoint(folder / "checkpoints" / "last.pt")["best_epoch"])

    fit(run, look)
    assert_model_agrees(folder)
    assert run.state.best_epoch > 1, "the test needs a later epoch that is better"
    assert seen == ({1} if costly == 0.0 else {event.epoch for event in run.state.history[:-1] if event.best})


@pytest.mark.parametrize("missing", ["best_model.pth", "checkpoints/best.pt"])
def test_what_a_kill_between_two_files_left_out_is_made_again(
    stack: Path, tmp_path: Path, missing: str
) -> None:
    folder = tmp_path / "run"
    run = run_in(folder, config_for(stack))
    fit(run, lambda: Request.PAUSE if run.state.best_epoch else None)
    assert run.state.part is not None or run.state.epoch == 1
    shutil.copy(folder / "checkpoints" / "best.pt", folder / "checkpoints" / "last.pt")
    (folder / missing).unlink()
    for leftover in (folder / "checkpoints" / ".last.pt.1.part", folder / ".best_model.pth.1.part"):
        leftover.write_bytes(b"half")
    run_in(folder, run.config)
    assert_model_agrees(folder)
    assert not list(folder.rglob(".*.part"))


def test_a_disk_without_links_gets_a_copy(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    run = run_in(tmp_path / "run", config_for(stack))
    fit(run, unasked)
    assert_model_agrees(tmp_path / "run")
