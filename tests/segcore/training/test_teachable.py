"""What a teacher is asked about suits it, or is refused or told; answers outlive a death, not a stop."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from trainings import config_for, run_in, write_discs

from segcore.config import DataConfig, RunConfig, TrainingSet, build_config
from segcore.errors import ConfigError
from segcore.events import Event, NoteEvent, Request
from segcore.training import teacher as teachers
from segcore.training.run import train
from segcore.training.teachable import check_reading, check_sets, remarks


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a model of the discs of `stack`."""
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder)
    train(config_for(folder, epochs=1, batch_size=1), folder / "parent")
    return folder / "parent"


def taught(stack: Path, teacher: Path, data: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    values = config_for(stack, epochs=1, teacher=str(teacher), **training).model_dump()
    values["data"] |= data or {}
    return build_config(values)


def write_masks(path: Path, masks: np.ndarray) -> None:
    tifffile.imwrite(path, masks, imagej=True, metadata={"axes": "ZYX"})


@pytest.mark.parametrize(
    ("options", "model", "distill", "said"),
    [
        ({}, False, "both", "no model answers"),
        ({"mask": "m.tif"}, True, "both", "would bound nothing"),
        ({"labels": "l.tif"}, True, "soft", "probabilities alone"),
        ({"labels": "l.tif", "mask": "m.tif"}, True, "both", ""),
        ({"labels": "l.tif"}, False, "soft", ""),
        ({}, True, "soft", ""),
    ],
)
def test_sets_of_which_nothing_would_be_learned_are_refused(
    options: dict[str, str], model: bool, distill: str, said: str
) -> None:
    one = TrainingSet(images="more.tif", use="teach", **options)
    if not said:
        check_sets([one], model, distill)
        return
    with pytest.raises(ConfigError, match=said) as error:
        check_sets([one], model, distill)
    assert "more.tif" in error.value.message
    assert error.value.remedy


def test_labels_that_would_not_count_are_refused_before_the_teacher_is_asked(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    sets = [{"images": str(stack / "raw.tif"), "labels": str(stack / "labels.tif"), "use": "teach"}]
    with pytest.raises(ConfigError, match="probabilities alone"):
        run_in(tmp_path / "child", taught(stack, parent, {"sets": sets}, distill="soft"))
    assert not (tmp_path / "child" / "teaching").exists()


@pytest.mark.parametrize(
    ("theirs", "ours", "warned"),
    [
        ({}, {}, False),
        ({"recipe": ["labels.flip Y"]}, {"recipe": ["slices.drop 1"]}, False),
        ({"recipe": ["images.invert"]}, {"recipe": ["images.invert", "labels.flip Y"]}, False),
        ({}, {"recipe": ["images.invert"]}, True),
        ({"recipe": ["images.depth uint8"]}, {"recipe": ["images.invert"]}, True),
        ({"channels": "0"}, {"channels": "1"}, True),
        ({"channels": "0"}, {}, False),
    ],
)
def test_other_repairs_and_channels_than_the_teachers_are_told(
    theirs: dict[str, Any], ours: dict[str, Any], warned: bool
) -> None:
    assert bool(check_reading(DataConfig(**theirs), DataConfig(**ours))) == warned


def test_images_that_lack_the_repairs_of_the_teachers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"images\.invert") as error:
        check_reading(DataConfig(recipe=["images.invert"]), DataConfig(recipe=["labels.flip Y"]))
    assert "data.recipe" in error.value.remedy


def test_images_of_another_type_or_pixel_size_are_told_once(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    config = json.loads((parent / "config.json").read_text())
    config["trained"]["dtype"] = "float32"
    other = tmp_path / "other"
    other.mkdir()
    (other / "best_model.pth").write_bytes((parent / "best_model.pth").read_bytes())
    (other / "config.json").write_text(json.dumps(config))
    events: list[Event] = []
    run = run_in(tmp_path / "child", taught(stack, other), events.append)
    told = [event.text for event in events if isinstance(event, NoteEvent) and "float32" in event.text]
    assert len(told) == 1
    assert run.lesson is not None
    assert run.lesson.teacher is not None
    card = run.lesson.teacher.model.card
    size = SimpleNamespace(z=None, y=0.2, x=0.2)
    images: Any = SimpleNamespace(dtype="float32", source=SimpleNamespace(pixel_size=size))
    known = card.pixel_size.model_copy(update={"y": 0.1, "x": 0.1})
    assert "0.2 instead of 0.1" in remarks(images, card.model_copy(update={"pixel_size": known}))[0]
    assert not remarks(images, card.model_copy(update={"pixel_size": size}))


def test_repairs_of_the_annotation_are_not_made_to_masks(stack: Path, tmp_path: Path) -> None:
    labels = tifffile.imread(stack / "labels.tif")
    write_masks(stack / "masks.tif", labels)
    write_masks(stack / "labels.tif", np.ascontiguousarray(labels[:, ::-1]))
    run = run_in(tmp_path / "child", taught(stack, stack / "masks.tif", {"recipe": ["labels.flip Y"]}))
    assert run.lesson is not None
    assert run.lesson.masks is not None
    height, width = labels.shape[1:]
    said = run.lesson.masks(0).classes(1, slice(0, height), slice(0, width))
    assert np.array_equal(said, labels[1] == 255)


def test_masks_that_miss_the_slices_that_judge_leave_no_nan(stack: Path, tmp_path: Path) -> None:
    """Where nobody looked the masks are 7; JSON has no nan."""
    masks = tifffile.imread(stack / "labels.tif")
    masks[4:] = 7
    write_masks(stack / "masks.tif", masks)
    folder = tmp_path / "child"
    train(taught(stack, stack / "masks.tif", {"unlabelled_value": 7}), folder)
    learned = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)["teaching"]
    assert learned["teacher"]["dice"] is None
    assert learned["student"]["dice"] is not None


def test_a_line_that_a_death_cut_off_is_no_block(
    stack: Path, tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = taught(stack, parent), tmp_path / "child"
    run_in(folder, config)
    (noted,) = (folder / "teaching").glob("*.done")
    blocks = sorted(map(int, noted.read_text().split()))
    assert len(blocks) > 2
    answers = np.load(noted.with_suffix(".npy"))
    # As if "21", of which "2" is left, had been the last.
    noted.write_text("".join(f"{block}\n" for block in blocks[:-1]) + str(blocks[-1]))
    kept = np.lib.format.open_memmap(noted.with_suffix(".npy"), mode="r+")
    kept[blocks[-1]] = 0
    kept.flush()
    asked = []
    said = teachers.Teacher._said
    monkeypatch.setattr(teachers.Teacher, "_said", lambda self, logits: asked.append(1) or said(self, logits))
    run_in(folder, config)
    assert asked
    assert {int(line) for line in noted.read_text().split()} == set(blocks)
    assert np.array_equal(np.load(noted.with_suffix(".npy")), answers)


@pytest.mark.parametrize(("request_made", "kept"), [(Request.PAUSE, True), (Request.STOP, False)])
def test_who_stops_while_the_teacher_is_asked_leaves_no_answers(
    stack: Path, tmp_path: Path, parent: Path, request_made: Request, kept: bool
) -> None:
    asked = iter([None, request_made])
    outcome = train(
        taught(stack, parent, micro_batch=2), tmp_path / "child", asked=lambda: next(asked, request_made)
    )
    assert outcome.request is request_made
    assert (tmp_path / "child" / "teaching").exists() == kept
