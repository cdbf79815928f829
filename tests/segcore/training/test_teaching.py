"""Teachers: what they say is asked once, taught where it counts, and compared with the student afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from trainings import assert_same_state, config_for, run_in, write_discs

from segcore.card import ObjectHead, read_config
from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, ModelError
from segcore.events import Event, NoteEvent, Request, unasked
from segcore.tasks import Taught
from segcore.tiling import IGNORE
from segcore.training import teacher as teachers
from segcore.training.loop import fit
from segcore.training.run import train
from segcore.training.steps import make_batch


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a model that has learned the discs of `stack`."""
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder)
    train(config_for(folder, epochs=5, learning_rate=5e-3, batch_size=1), folder / "parent")
    return folder / "parent"


def taught(
    stack: Path, teacher: Path | None, sets: list[dict[str, Any]] | None = None, **training: Any
) -> RunConfig:
    """Return options of a smaller network that is taught."""
    config = config_for(stack, epochs=2, teacher=str(teacher) if teacher else None, **training)
    values = config.model_dump()
    values["model"]["features"] = 2
    values["data"]["sets"] = sets or []
    return build_config(values)


def more_images(stack: Path, count: int = 2) -> dict[str, Any]:
    """Write images of discs that nobody annotated, and return them as a set."""
    raw = tifffile.imread(stack / "raw.tif")[:count, ::-1]
    tifffile.imwrite(stack / "more.tif", np.ascontiguousarray(raw), imagej=True, metadata={"axes": "ZYX"})
    return {"images": str(stack / "more.tif"), "use": "teach"}


def hide(stack: Path) -> None:
    """Leave only the upper half of the slices that train annotated: the rest is 7, for nothing."""
    labels = tifffile.imread(stack / "labels.tif")
    labels[:4, 32:] = 7
    tifffile.imwrite(stack / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})


def sparse(config: RunConfig) -> RunConfig:
    """Return options that know that 7 is no annotation."""
    values = config.model_dump()
    values["data"]["unlabelled_value"] = 7
    return build_config(values)


def test_unlabelled_images_and_bare_pixels_are_taught(stack: Path, tmp_path: Path, parent: Path) -> None:
    hide(stack)
    config = sparse(taught(stack, parent, [more_images(stack)]))
    run = run_in(tmp_path / "child", config)
    assert run.lesson is not None
    assert len(run.lesson.volumes) == 4 + 1
    assert len(run.pool) == 4 + 2
    for volume in run.lesson.volumes[:4]:
        label_ZYX = volume.label_ZYX[:, :, :]
        assert (label_ZYX >= 0).all()
        truth = tifffile.imread(stack / "labels.tif")[volume.first, :32] == 255
        assert np.array_equal(label_ZYX[0, :32], truth), "annotation wins"
    known = run.lesson.volumes[-1].label_ZYX[:, :, :]
    discs = tifffile.imread(stack / "labels.tif")[:2, ::-1] == 255
    discs[:, :32] = known[:, :32] == 1  # there the file no longer says what is true
    assert (known == discs).mean() > 0.8, "the teacher knows discs"


@pytest.mark.parametrize("distill", ["hard", "soft", "both"])
def test_every_way_of_teaching_trains_and_goes_on_to_the_bit(
    stack: Path, tmp_path: Path, parent: Path, distill: str
) -> None:
    config = taught(stack, parent, [more_images(stack)], distill=distill, micro_batch=2)
    whole, part = run_in(tmp_path / "whole", config), run_in(tmp_path / "part", config)
    assert isinstance(whole.task, Taught) is (distill != "hard")
    if isinstance(whole.task, Taught):
        assert whole.task.share == (1.0 if distill == "soft" else 0.5)
    assert fit(whole, unasked) == "finished"
    assert np.isfinite(whole.state.history[-1].train_loss)
    assert fit(part, lambda: Request.PAUSE if part.state.step >= 3 else None) == "paused"
    resumed = run_in(tmp_path / "part", config)
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)


def test_a_batch_shows_the_image_first_and_shares_that_are_probabilities(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    config = taught(stack, parent)
    run, alone = run_in(tmp_path / "child", config), run_in(tmp_path / "alone", taught(stack, None))
    pictures = []
    for one in (run, alone):
        generator = torch.Generator().manual_seed(5)
        pictures.append(make_batch(one, torch.arange(4), generator)[0])
    assert pictures[0].shape == (4, 3, 32, 32)
    torch.testing.assert_close(pictures[0][:, :1], pictures[1])
    share = pictures[0][:, 1:]
    assert share.min() >= 0
    torch.testing.assert_close(share.sum(1), torch.ones(4, 32, 32), atol=0.01, rtol=0)


def test_where_it_is_unsure_it_has_no_say(stack: Path, tmp_path: Path, parent: Path) -> None:
    hide(stack)
    for distill in ("hard", "both"):
        config = sparse(taught(stack, parent, distill=distill, confidence=0.999999))
        run = run_in(tmp_path / distill, config)
        assert run.lesson is not None
        labels = np.concatenate([volume.label_ZYX[:, :, :] for volume in run.lesson.volumes])
        assert (labels[:, :32] >= 0).all()
        assert (labels[:, 32:] == IGNORE).any()
        if distill == "both":
            (volume, *_) = run.lesson.volumes
            blind = ~volume.image_ZCYX[:, 1:, :, :].any(1)
            assert np.array_equal(blind[:, 32:], volume.label_ZYX[:, 32:, :] == IGNORE)


def test_the_teacher_is_asked_once(
    stack: Path, tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    said = teachers.Teacher._said
    monkeypatch.setattr(
        teachers.Teacher, "_said", lambda self, logits: asked.append(logits.shape) or said(self, logits)
    )
    config = taught(stack, parent, [more_images(stack)])
    first = run_in(tmp_path / "child", config)
    count = len(asked)
    assert count >= 4 + 2
    second = run_in(tmp_path / "child", config)
    assert len(asked) == count
    assert first.lesson is not None
    assert second.lesson is not None
    for one, two in zip(first.lesson.volumes, second.lesson.volumes, strict=True):
        assert np.array_equal(one.image_ZCYX[:, :, :, :], two.image_ZCYX[:, :, :, :])
    run_in(tmp_path / "child", taught(stack, parent, [more_images(stack)], temperature=3.0))
    assert len(asked) > count, "asked in another way, it answers anew"


def test_a_pause_while_the_teacher_is_asked_keeps_what_it_said(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    config, folder = taught(stack, parent, [more_images(stack)]), tmp_path / "child"
    requests = iter([None, Request.PAUSE])
    outcome = train(config, folder, asked=lambda: next(requests, None))
    assert outcome.request is Request.PAUSE
    noted = sum(len(path.read_text().split()) for path in (folder / "teaching").glob("*.done"))
    assert noted == 4, "the slices that train, but not yet the images that nobody annotated"
    assert not (folder / "checkpoints").exists()
    assert train(config, folder).request is None
    assert not (folder / "teaching").exists(), "what is learned needs no answers any more"


def test_results_compare_student_and_teacher(stack: Path, tmp_path: Path, parent: Path) -> None:
    folder = tmp_path / "child"
    train(taught(stack, parent), folder)
    results = json.loads((folder / "results.json").read_text())
    learned = results["teaching"]
    best = json.loads((parent / "results.json").read_text())
    assert learned["teacher"]["dice"] == pytest.approx(best["metrics"]["val_dice"], abs=1e-3)
    assert learned["teacher"]["parameters"] == best["parameters"]
    assert learned["teacher"]["bytes"] == (parent / "best_model.pth").stat().st_size
    assert learned["student"]["dice"] == pytest.approx(results["metrics"]["val_dice"], abs=1e-3)
    assert learned["student"]["parameters"] < learned["teacher"]["parameters"]
    assert 0 <= learned["agreement"] <= 1
    for who in ("student", "teacher"):
        assert learned[who]["seconds_per_megapixel"] > 0
    assert results["seconds_per_megapixel"] > 0


def test_a_network_that_is_its_own_teacher_agrees_with_it(stack: Path, tmp_path: Path, parent: Path) -> None:
    config = config_for(stack, epochs=1, learning_rate=1e-9, start_from=str(parent), teacher=str(parent))
    # With batch statistics frozen too, next to nothing changes.
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"freeze": ["encoder", "bottom", "decoder"]})}
    )
    train(config, tmp_path / "child")
    learned = json.loads((tmp_path / "child" / "results.json").read_text())["teaching"]
    assert learned["agreement"] > 0.999


def test_masks_made_elsewhere_are_labels_where_nobody_annotated(stack: Path, tmp_path: Path) -> None:
    masks = tifffile.imread(stack / "labels.tif")
    tifffile.imwrite(stack / "masks.tif", masks, imagej=True, metadata={"axes": "ZYX"})
    more = more_images(stack) | {"labels": str(stack / "more_masks.tif")}
    flipped = np.ascontiguousarray(masks[:2, ::-1])
    tifffile.imwrite(stack / "more_masks.tif", flipped, imagej=True, metadata={"axes": "ZYX"})
    hide(stack)
    events: list[Event] = []
    run = run_in(tmp_path / "child", sparse(taught(stack, stack / "masks.tif", [more])), events.append)
    assert run.lesson is not None
    assert run.lesson.shares == 0
    assert any(
        "Masks have no probabilities" in event.text for event in events if isinstance(event, NoteEvent)
    )
    *annotated, unseen = run.lesson.volumes
    for volume in annotated:
        assert np.array_equal(volume.label_ZYX[:, :, :][0], masks[volume.first] == 255)
    assert np.array_equal(unseen.label_ZYX[:, :, :], flipped == 255)
    train(sparse(taught(stack, stack / "masks.tif", [more])), tmp_path / "whole")
    learned = json.loads((tmp_path / "whole" / "results.json").read_text())["teaching"]
    assert learned["teacher"]["dice"] == 1.0, "they are the annotation of the slices that judge"
    assert learned["agreement"] == pytest.approx(learned["student"]["dice"], abs=1e-6)


def test_a_teacher_that_does_not_fit_is_refused_with_the_way_out(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    with pytest.raises(ConfigError, match="no model answers"):
        run_in(tmp_path / "a", taught(stack, None, [more_images(stack)]))
    labels = tifffile.imread(stack / "labels.tif")
    labels[:, :5] = 9
    tifffile.imwrite(stack / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ModelError, match="label values 0, 255, the annotations have 0, 9, 255"):
        run_in(tmp_path / "b", taught(stack, parent))
    card = read_config(parent / "config.json")[1]
    assert card is not None
    head = ObjectHead(name="stars", maps=33, sides=(9.0, 9.0))
    teacher = object.__new__(teachers.Teacher)
    teacher.model = SimpleNamespace(card=card.model_copy(update={"head": head}))  # type: ignore[assignment]
    with pytest.raises(ModelError, match=r"objects one by one \(stars\)"):
        teacher.check(card.channels, card.class_values)
    with pytest.raises(ConfigError, match="one device"):
        config_for(stack, teacher=str(parent), devices=2)


@pytest.mark.parametrize(
    ("mode", "loading"), [("2.5d", "memory"), ("2.5d", "disk"), ("2d", "disk"), ("3d", "memory")]
)
def test_slices_that_judge_the_student_are_never_taught(
    stack: Path, tmp_path: Path, parent: Path, mode: str, loading: str
) -> None:
    values = taught(stack, parent).model_dump()
    values["data"] |= {"mode": mode, "loading": loading, "patch_depth": 4, "validation_slices": "2"}
    run = run_in(tmp_path / "child", build_config(values))
    assert run.lesson is not None
    seen = set()
    for volume in run.lesson.volumes:
        for plane in range(volume.label_ZYX.shape[0]):
            label_YX = volume.label_ZYX[plane : plane + 1, :, :]
            shares = volume.image_ZCYX[plane : plane + 1, 1:, :, :]
            judges = volume.first + plane == 2
            assert (label_YX == IGNORE).all() == judges
            assert shares.any() != judges
            seen.add(volume.first + plane)
    assert {0, 1, 3, 4, 5} <= seen


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_neighbours_and_volumes_are_taught(stack: Path, tmp_path: Path, parent: Path, mode: str) -> None:
    values = taught(stack, parent, [more_images(stack, 6)]).model_dump()
    values["data"] |= {"mode": mode, "patch_depth": 4, "validation_slices": "5"}
    run = run_in(tmp_path / mode, build_config(values))
    assert run.patch_shape[0] == (3 if mode == "2.5d" else 1)
    assert fit(run, unasked) == "finished"
    assert np.isfinite(run.state.history[-1].train_loss)


def test_objects_are_not_taught_and_all_that_does_not_go_with_them_is_told_at_once(stack: Path) -> None:
    values = config_for(stack).model_dump()
    values["model"]["head"] = "stars"
    values["data"] |= {"labels_as": "objects", "sets": [{"images": "more.tif", "use": "teach"}]}
    values["training"] |= {"teacher": "some/run", "class_weights": "inverse"}
    with pytest.raises(ConfigError) as caught:
        build_config(values)
    lines = caught.value.message.split("\n")
    assert [line.split()[0] for line in lines] == ["training.class_weights", "training.teacher", "model.head"]
    assert all("model.head stars" in line for line in lines)
    values["data"]["sets"], values["training"] = [], config_for(stack).training.model_dump()
    assert build_config(values).model.learns_objects
