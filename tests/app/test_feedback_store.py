"""FeedbackStore: every epoch with the part it belongs to, nothing that was undone, files a person can use."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feedback_runs import FIRST, SECOND, make_watched, save_picture
from PIL import Image

from app.film import Look, outline
from app.views import class_colour
from segcore.errors import DataError, JobError
from segcore.events import ResumeEvent
from segcore.jobs.feedback import Window, wanted
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_every_epoch_comes_with_the_image_of_its_own_part(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    store = services.feedback
    recording = store.recording(job.id)
    parts = {shot.epoch: recording.scenes[shot.folder.name].window for shot in recording.shots}
    assert parts == {1: FIRST, 2: FIRST, 3: SECOND}
    pictures = store.pictures(job.id, [1, 3, 99])
    assert set(pictures) == {"1", "3"}
    for shot in recording.shots:
        back = store.backdrop(job.id, shot.folder.name)
        shapes = {decoded(back[name]).shape for name in ("image", "label")}
        if str(shot.epoch) in pictures:
            shapes.add(decoded(pictures[str(shot.epoch)]).shape)
        window = parts[shot.epoch]
        assert shapes == {(window.height, window.width)}
    assert (decoded(pictures["3"]) == 1).all()


def test_epochs_that_a_resume_undid_are_not_shown(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path, epochs=4)
    assert len(services.feedback.recording(job.id).shots) == 4
    FolderReporter(job.folder)(ResumeEvent(epoch=2, step=9))
    assert [shot.epoch for shot in services.feedback.recording(job.id).shots] == [1, 2]


def test_a_picture_without_its_epoch_waits_for_it(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path, epochs=4, reported=3)
    assert [shot.epoch for shot in services.feedback.recording(job.id).shots] == [1, 2, 3]


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    for name in ("../..", "..", "", "/etc", "1-2-4-20-24/.."):
        with pytest.raises(DataError, match="was not saved"):
            services.feedback.backdrop(job.id, name)
    with pytest.raises(JobError):
        services.feedback.pictures("../models", [1])


def test_a_still_paints_classes_over_the_image(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    picture = np.asarray(Image.open(io.BytesIO(services.feedback.still(job.id, 2, Look(1.0, outline=False)))))
    assert picture.shape == (FIRST.height, FIRST.width, 3)
    colour = tuple(int(class_colour(0)[at : at + 2], 16) for at in (1, 3, 5))
    assert {tuple(pixel) for pixel in picture.reshape(-1, 3)} == {colour}
    bare = np.asarray(Image.open(io.BytesIO(services.feedback.still(job.id, 2, Look(0.0, outline=False)))))
    assert (bare == (np.arange(FIRST.width) * 5)[None, :, None]).all()
    bordered = np.asarray(Image.open(io.BytesIO(services.feedback.still(job.id, 2, Look(0.0, outline=True)))))
    assert (bordered[:, 7] == 255).all()
    assert (bordered[:, 8] == bare[:, 8]).all()
    with pytest.raises(JobError, match="epoch 9"):
        services.feedback.still(job.id, 9, Look())


def test_the_film_has_a_picture_of_every_epoch(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path, epochs=5)
    film = Image.open(io.BytesIO(services.feedback.film(job.id, Look())))
    assert film.n_frames == 5
    frames = []
    for number in range(5):
        film.seek(number)
        frames.append(np.asarray(film.convert("RGB")).astype(int))
    assert len({frame.shape for frame in frames}) == 1  # also where the part changed
    middle = [frame[frame.shape[0] // 2, 100:200].mean(0) for frame in frames]
    assert middle[0] @ [1, 0, -1] > 0 > middle[1] @ [1, 0, -1], "orange, then blue"
    assert any((one != other).any() for one, other in zip(frames[0][:20], frames[2][:20], strict=True)), (
        "no number"
    )


def test_a_long_run_gives_a_film_of_bounded_length_with_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.feedback_store.MOST_FRAMES", 4)
    services, job = make_watched(tmp_path, epochs=9)
    made = []
    monkeypatch.setattr("app.feedback_store.film", lambda frames, look: made.extend(frames))
    services.feedback.film(job.id, Look())
    assert len(made) == 4
    assert (made[0].epoch, made[-1].epoch) == (1, 9)


def test_borders_of_what_nobody_annotated_are_no_borders() -> None:
    label = np.array([[0, 0, 1, 255], [0, 255, 255, 0]], np.uint8)
    assert outline(label).tolist() == [[False, True, False, False], [False, False, False, False]]


def test_another_part_is_asked_for_in_the_run_folder(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    assert services.feedback.want(job.id, "1,30,40,9999,20") == "1,0,30,40,20"  # 40 × 50 px
    assert wanted(job.folder) == "1,0,30,40,20"
    assert services.feedback.recording(job.id).pending
    save_picture(job.folder, Window.parse("1,0,30,40,20"), 3, 0)
    assert not services.feedback.recording(job.id).pending
    with pytest.raises(DataError, match="0 to 2"):
        services.feedback.want(job.id, "3,0,0,20,20")
    assert services.feedback.want(job.id, "") == ""
    assert wanted(job.folder) == ""


def test_a_run_that_is_over_takes_no_wish_but_shows_everything(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path, State.FINISHED)
    with pytest.raises(JobError, match="finished"):
        services.feedback.want(job.id, "1,0,0,20,20")
    assert len(services.feedback.recording(job.id).shots) == 3


def test_a_damaged_picture_is_told_in_words(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    shot = services.feedback.recording(job.id).shots[0]
    shot.path.write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="cannot be read"):
        services.feedback.film(job.id, Look())


def test_a_look_at_500_epochs_opens_no_picture_and_each_part_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, job = make_watched(tmp_path, epochs=500)
    services.feedback.recording(job.id)
    opened: list[Path] = []
    really = Path.open

    def watched(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        return really(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", watched)
    recording = services.feedback.recording(job.id)
    assert len(recording.shots) == 500
    assert [path for path in opened if path.suffix == ".png"] == []
    assert sum(path.name == "scene.json" for path in opened) == len(recording.scenes)
