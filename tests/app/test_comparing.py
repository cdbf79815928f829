"""Comparing in step 4: what is asked for is checked, what was found is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tabs_workspace import make_run, make_services, write_labels, write_stack

from app import comparing, forms
from app.jobview import JobView
from app.linking import FIELDS, PLACES, open_link
from app.services import Services
from app.steps import infer
from segcore.config import DataConfig, RunConfig, build_config
from segcore.errors import DataError, ModelError
from segcore.jobs.comparison import UNANNOTATED, ComparisonWriter, ScoredSlice
from segcore.jobs.store import Compared, Job, State, create_job, end_job, start_job

SHOWN = forms.from_config(RunConfig(), infer.FIELDS)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


@pytest.fixture
def evaluation(services: Services) -> JobView:
    """Make a finished evaluation of three slices as the job writes it, the second the worst."""
    paths = {name: str(services.workspace.data / f"{name}.tif") for name in ("images", "labels")}
    config = build_config({"data": paths, "inference": {"model": "a-run"}})
    job = start_job(create_job(services.workspace, "predict", config, evaluates="validation").folder)
    writer = ComparisonWriter(job.folder, (0, 7, 255))
    for index, dice in enumerate((0.9, 0.2, 0.5)):
        scores = {"0": 1.0, "255": dice}
        scored = ScoredSlice(index=index, name=f"slice {index}", mean_dice=dice, dice=scores, iou=scores)
        writer.add(scored, np.full((2, 40, 50), index, np.uint8))
    writer.close(config.data)
    results = {
        "val_dice": 0.6123456789, "val_dice_per_class": {"0": 0.95, "255": 0.27},
        "val_iou_per_class": {"0": 0.9, "255": 0.2}, "mean_iou": 0.55, "part": "validation", "images": 1,
        "slices": 3, "class_names": {"0": "0", "7": "wall", "255": "cell"}, "model": "/w/models/day/a-run",
    }  # fmt: skip
    (job.folder / "results.json").write_text(json.dumps(results))
    end_job(job.folder, State.FINISHED)
    return services.job(job.id)


def test_scores_slices_and_pictures_are_shown(services: Services, evaluation: JobView) -> None:
    updates = dict(zip(infer.SHOWN, infer.show(services, evaluation.id, 40), strict=False))
    table = updates["classes"]
    for text in (
        "255 cell",
        "0.2700",
        "0.6123",
        "0.5500",
        "3 slices of 1 image",
        "what validated",
        "slice 2",
    ):
        assert text in table
    assert [value for _, value in updates["result"].choices] == ["255", "0", "7"]
    assert updates["result"].value == "255"
    assert updates["plane"].maximum == 3
    assert "slice 1, class 255 cell: Dice 0.200" in updates["picture"]
    assert str(updates["picture"]).count("<img") == 2
    assert str(updates["download"]).count('class="download"') == 2
    assert not updates["viewer"].visible
    third = infer.redraw(services, evaluation.id, "255", 3, 40)
    assert "slice 0, class 255 cell: Dice 0.900" in third
    assert "nothing of class 7 wall" in infer.redraw(services, evaluation.id, "7", 1, 40)


def test_where_the_images_are_gone_the_colours_stay(services: Services, evaluation: JobView) -> None:
    services.resolve("data/images.tif").unlink()
    picture = infer.redraw(services, evaluation.id, "255", 1, 40)
    assert picture.count("<img") == 1
    assert "slice 1" in picture


def test_an_address_leads_back_to_an_evaluation(services: Services, evaluation: JobView) -> None:
    updates = open_link(services, {"run": evaluation.id})
    places = dict(zip([*PLACES, *(field.path for field in FIELDS)], updates, strict=True))
    assert (places["infer_run"], places["annotated"]) == (evaluation.id, "data/labels.tif")
    assert places["part"] == "validation"
    assert evaluation.noun == "evaluation"
    assert not evaluation.segmentations


def test_a_comparison_waits_in_the_line_of_segmentations(services: Services) -> None:
    run = make_run(services)
    id_, message = infer.start(services, run.id, "", "data/images.tif", SHOWN, "data/labels.tif", "default")
    assert message == ""
    job = services.job(id_)
    assert (job.kind, job.evaluates, job.place) == ("predict", "default", 1)
    assert job.config.data.labels == str(services.workspace.data / "labels.tif")


def test_what_is_missing_is_said_before_anything_waits(services: Services) -> None:
    run = make_run(services)
    for images, labels, words in ((None, None, "needs images and"), ("data/images.tif", None, "no annotat")):
        _, message = infer.start(services, run.id, "", images, SHOWN, labels, "default")
        assert words in message
    with pytest.raises(ModelError, match="needs a model"):
        services.submit_evaluation(build_config({}), "test")
    outside = make_run(services, data={"images": "/elsewhere/a.tif", "labels": "/elsewhere/b.tif"})
    with pytest.raises(DataError, match="outside the workspace"):
        services.submit_evaluation(build_config({"inference": {"model": outside.id}}), "test")
    assert services.jobs("predict") == []


def keep_split(run: Job) -> None:
    (run.folder / "split.json").write_text(json.dumps({"train": [], "validation": [], "test": []}))


def test_of_the_models_own_images_nothing_of_the_form_counts(services: Services) -> None:
    run = make_run(services)
    given = build_config({"data": {"axes": "ZYX", "channels": "0", "pixel_size": "0.5"}})
    shown = forms.from_config(given, infer.FIELDS)
    chosen = "data/images.tif", shown, "data/labels.tif"
    _, message = infer.start(services, run.id, "", *chosen, "validation")
    assert "no split.json" in message
    keep_split(run)
    kept = run.folder / "checkpoints" / "epoch-0001.pth"
    kept.parent.mkdir()
    kept.write_bytes(b"weights")
    for model in (run.id, services.relative(str(kept))):
        for part in ("validation", "all"):
            id_, message = infer.start(services, model, "", *chosen, part)
            assert message == ""
            job = services.job(id_)
            assert (job.evaluates, job.config.data) == (part, DataConfig())


def test_an_evaluation_needs_no_cluster(services: Services) -> None:
    run = make_run(services)
    paths = {"images": "data/images.tif", "labels": "data/labels.tif"}
    config = build_config({"data": paths, "inference": {"model": run.id, "cluster": "local:2"}})
    assert services.submit_evaluation(config).config.inference.cluster is None


def test_nothing_that_a_model_names_outside_the_workspace_is_read(services: Services) -> None:
    own = make_run(services, data={"mask": "/elsewhere/mask.tif"})
    keep_split(own)
    paths = {name: str(services.workspace.data / f"{name}.tif") for name in ("images", "labels")}
    text = (own.folder / "config.json").read_text()
    models = [own.id]
    for name in ("beside", "folder.pth", "above"):
        folder = services.workspace.data / name
        folder.mkdir()
        weights = {"beside": "x.pth", "folder.pth": "best_model.pth", "above": "checkpoints/x.pth"}[name]
        configuration = "x.json" if name == "beside" else "config.json"
        (folder / weights).parent.mkdir(exist_ok=True)
        (folder / weights).write_bytes(b"weights")
        (folder / configuration).write_text(text)
        models.append(f"data/{name}" if name == "folder.pth" else f"data/{name}/{weights}")
    for model in models:
        for data in (paths, {}):
            with pytest.raises(DataError, match="outside the workspace"):
                services.submit_evaluation(
                    build_config({"data": data, "inference": {"model": model}}), "default" if data else "all"
                )
    fit = make_run(services)
    keep_split(fit)
    more = {"images": "/elsewhere/a.tif", "labels": "/elsewhere/b.tif"}
    for data in ({"mask": "/elsewhere/mask.tif"}, {"sets": [more]}):
        with pytest.raises(DataError, match="outside the workspace"):
            services.submit_evaluation(
                build_config({"data": data, "inference": {"model": fit.id}}), "validation"
            )
    # Of a run, what it was trained with counts, whatever configuration is named.
    given = {"model": fit.id, "config_file": str(own.folder / "config.json")}
    job = services.submit_evaluation(build_config({"inference": given}), "validation")
    assert job.config.inference.config_file is None


def test_every_part_of_an_evaluation_can_be_shown() -> None:
    assert {value for _, value in comparing.PARTS} == set(get_args(Compared)) - {""}


classes = st.sampled_from([0, 1, 2, UNANNOTATED])


@given(arrays(np.uint8, (2, 5, 6), elements=classes), st.sampled_from([0, 1, 2]))
def test_every_pixel_has_the_colour_of_what_happened_to_it(shown: np.ndarray, index: int) -> None:
    shown[0, shown[1] == UNANNOTATED] = UNANNOTATED
    plain = np.full((5, 6, 3), 100, np.uint8)
    picture = comparing.painted(plain, shown, index, 1.0)
    colours = {
        (True, True): comparing.COLOURS["agreement"],
        (True, False): comparing.COLOURS["too much"],
        (False, True): comparing.COLOURS["missed"],
    }
    for place in np.ndindex(5, 6):
        predicted, annotated = (part[place] == index for part in shown)
        rgb = tuple(picture[place])
        if shown[1][place] == UNANNOTATED:
            assert rgb == (40, 40, 40)
        elif predicted or annotated:
            colour = colours[bool(predicted), bool(annotated)]
            assert rgb == tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
        else:
            assert rgb == (100, 100, 100)
