"""What a run goes on from is checked before the start, and kept for as long as it is needed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from segcore.card import write_config
from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, JobError, ModelError
from segcore.jobs.lineage import (
    check_continuable,
    check_origin,
    check_unneeded,
    continued,
    fine_tuned,
    located,
    needed_by,
    with_training,
)
from segcore.jobs.queue import discard, submit
from segcore.jobs.store import Job, State, create_job, end_job, start_job
from segcore.workspace import Workspace

OPTIONS = {
    "session": "em",
    "data": {"images": "/data/raw.tif", "labels": "/data/labels.tif"},
    "model": {"features": 16, "layers": 3},
    "training": {"epochs": 40, "learning_rate": 0.002, "max_minutes": 5, "start_from": "/old.pth", "seed": 3},
}


@pytest.fixture
def parent(workspace: Workspace) -> Job:
    """Return a finished training with model and checkpoint."""
    return ended(workspace, State.FINISHED)


def ended(workspace: Workspace, state: State, checkpoint: bool = True) -> Job:
    job = create_job(workspace, "train", build_config(OPTIONS))
    start_job(job.folder)
    (job.folder / "best_model.pth").write_bytes(b"weights")
    if checkpoint:
        (job.folder / "checkpoints").mkdir()
        (job.folder / "checkpoints" / "last.pt").write_bytes(b"state")
    return end_job(job.folder, state)


def test_a_continued_run_has_the_options_of_its_parent(parent: Job, workspace: Workspace) -> None:
    config = continued(parent, 25)
    changed = {"continue_from": str(parent.folder), "epochs": 25, "start_from": None, "max_minutes": None}
    assert config == with_training(parent.config, **changed)
    assert check_origin(config, workspace) == parent.id


@pytest.mark.parametrize("state", [State.FINISHED, State.CANCELLED, State.FAILED])
def test_what_ended_with_a_checkpoint_can_be_continued(workspace: Workspace, state: State) -> None:
    assert continued(ended(workspace, state), 1).training.epochs == 1
    with pytest.raises(ModelError, match="no checkpoint"):
        continued(ended(workspace, state, checkpoint=False), 1)


def test_what_has_epochs_left_is_resumed_instead(workspace: Workspace) -> None:
    for state in (State.PAUSED, State.INTERRUPTED):
        with pytest.raises(ModelError, match=str(state)) as told:
            continued(ended(workspace, state), 1)
        assert "Resume" in told.value.remedy
    waiting = create_job(workspace, "train", build_config(OPTIONS))
    with pytest.raises(ModelError, match="queued"):
        continued(waiting, 1)
    discarded = discard(workspace, ended(workspace, State.FAILED).folder)
    with pytest.raises(ModelError, match="discarded"):
        continued(discarded, 1)
    with pytest.raises(ModelError, match="segmentation"):
        continued(create_job(workspace, "predict", build_config({})), 1)


def test_fine_tuning_freezes_and_learns_gently(parent: Job, workspace: Workspace) -> None:
    config = fine_tuned(parent.config, str(parent.folder))
    assert config.model.freeze_encoder
    assert config.training.learning_rate == pytest.approx(parent.config.training.learning_rate / 10)
    assert (config.model.features, config.model.layers) == (16, 3)
    assert check_origin(config, workspace) == parent.id


def test_a_run_is_named_by_its_id_or_its_folder(
    parent: Job, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.models)
    for name in (parent.id, str(parent.folder), f"em/{parent.id}"):
        config = located(fine_tuned(parent.config, name), workspace)
        assert config.training.start_from == str(parent.folder)
        assert config.training.continue_from is None
    registered = fine_tuned(parent.config, "models:/cells@champion")
    assert located(registered, workspace) == registered
    assert check_origin(registered, workspace) == ""


def test_weights_of_a_kept_epoch_and_of_elsewhere_are_found(
    parent: Job, workspace: Workspace, tmp_path: Path
) -> None:
    kept = parent.folder / "checkpoints" / "epoch-0010.pth"
    kept.write_bytes(b"weights")
    assert check_origin(fine_tuned(parent.config, str(kept)), workspace) == parent.id
    alone = tmp_path / "alone.pth"
    alone.write_bytes(b"weights")
    config = fine_tuned(parent.config, str(alone))
    with pytest.raises(ModelError, match="no configuration"):
        check_origin(config, workspace)
    write_config(tmp_path / "alone.json", parent.config)
    assert check_origin(config, workspace) == ""


def test_what_does_not_fit_is_refused_with_what_would(parent: Job, workspace: Workspace) -> None:
    wide = build_config({"model": {"features": 32, "layers": 3}})
    for given in ({"start_from": str(parent.folder)}, {"continue_from": str(parent.folder)}):
        with pytest.raises(ModelError, match="16 features and 3 layers") as told:
            check_origin(with_training(wide, **given), workspace)
        assert "Set features to 16" in told.value.remedy
    with pytest.raises(ModelError, match="no model to start from"):
        check_origin(with_training(wide, start_from="/nowhere"), workspace)
    with pytest.raises(JobError, match="holds no job"):
        check_origin(with_training(wide, continue_from="/nowhere"), workspace)
    with pytest.raises(ConfigError, match="both given"):
        check_origin(with_training(wide, start_from="a", continue_from="b"), workspace)


def test_a_teacher_is_found_by_its_id_and_must_be_there(parent: Job, workspace: Workspace) -> None:
    config = located(with_training(build_config({}), teacher=parent.id), workspace)
    assert config.training.teacher == str(parent.folder)
    assert check_origin(config, workspace) == "", "it is no run that the training goes on from"
    with pytest.raises(ModelError, match="no teacher at /nowhere"):
        check_origin(with_training(config, teacher="/nowhere"), workspace)
    for labels, refused in (("", True), ("made-elsewhere.tif", False)):
        sets = [{"images": "more.tif", "labels": labels, "use": "teach"}]
        taught = build_config({"data": {"images": "raw.tif", "labels": "labels.tif", "sets": sets}})
        with pytest.raises(ConfigError, match="no model answers") if refused else nullcontext():
            assert check_origin(taught, workspace) == ""
    registered = with_training(config, teacher="models:/cells@champion")
    assert located(registered, workspace) == registered
    assert check_origin(registered, workspace) == ""


def follow_ups(parent: Job) -> list[tuple[str, RunConfig]]:
    segmentation = build_config({"inference": {"model": str(parent.folder)}})
    return [
        ("train", continued(parent, 5)),
        ("train", fine_tuned(parent.config, str(parent.folder / "best_model.pth"))),
        ("predict", segmentation),
        ("train", with_training(build_config({}), teacher=str(parent.folder))),
    ]


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_run_stays_while_another_needs_it(workspace: Workspace, which: int) -> None:
    parent, other = ended(workspace, State.CANCELLED), ended(workspace, State.CANCELLED)
    kind, config = follow_ups(parent)[which]
    child = submit(workspace, kind, config)  # type: ignore[arg-type]
    assert [job.id for job in needed_by(workspace, parent.folder)] == [child.id]
    check_unneeded(workspace, other.folder)
    with pytest.raises(JobError, match=child.id):
        check_unneeded(workspace, parent.folder)
    with pytest.raises(JobError, match=child.id):
        discard(workspace, parent.folder)
    assert (parent.folder / "best_model.pth").exists()
    start_job(child.folder)
    end_job(child.folder, State.PAUSED)
    assert needed_by(workspace, parent.folder), "it may be resumed"
    discard(workspace, child.folder)
    assert discard(workspace, parent.folder).state is State.DISCARDED


def test_an_evaluation_is_called_one(workspace: Workspace) -> None:
    parent = ended(workspace, State.CANCELLED)
    evaluation = submit(workspace, "predict", follow_ups(parent)[2][1], evaluates="test")
    with pytest.raises(JobError, match=f"the evaluation {evaluation.id}"):
        check_unneeded(workspace, parent.folder)
    with pytest.raises(ModelError, match="is an evaluation"):
        check_continuable(evaluation)


def test_how_many_objects_may_be_found_is_no_size_of_weights_where_no_query_answers_each(
    workspace: Workspace,
) -> None:
    def run(family: str, objects: int, **training: str) -> RunConfig:
        model = {"family": family, "encoder": "resnet18", "head": "masks", "objects": objects}
        data = {"images": "/data/raw.tif", "labels": "/data/labels.tif", "labels_as": "objects"}
        return build_config({"data": data, "model": model, "training": training})

    for family, refused in (("mask-rcnn", False), ("mask-rcnn-v2", False), ("mask2former", True)):
        job = create_job(workspace, "train", run(family, 100))
        (job.folder / "best_model.pth").write_bytes(b"weights")
        later = run(family, 200, start_from=str(job.folder / "best_model.pth"))
        with pytest.raises(ModelError, match="100 objects") if refused else nullcontext():
            check_origin(later, workspace)
