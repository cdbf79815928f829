"""Step 4: whether images suit a model is said before it runs; results of a folder are shown one by one."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from starlette.applications import Starlette
from starlette.testclient import TestClient
from tabs_workspace import make_result, make_run, make_services, write_labels, write_stack

from app import fitting, forms, zips
from app.services import Services
from app.steps import infer
from segcore.card import Histogram, ModelCard, Normalization, PixelSize, read_config, write_config
from segcore.config import RunConfig, build_config
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.jobs.store import Job, State, create_job, end_job, start_job

SHOWN = forms.from_config(RunConfig(), infer.FIELDS)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


def trained(services: Services, **card: object) -> Job:
    """Return a finished run with another card."""
    job = make_run(services)
    known = {
        "channels": 1, "class_values": (0, 255), "class_names": ("background", "cell"), "axes": "ZYX",
        "dtype": "uint16", "normalization": Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
        "histograms": (Histogram(low=0, high=4000, counts=(5, 5, 5, 5)),),
    }  # fmt: skip
    write_config(job.folder / "config.json", job.config, ModelCard.model_validate(known | card))
    return job


def judged(services: Services, job: Job, images: str = "data/images.tif", **options: str) -> tuple[str, bool]:
    shown = dict(zip((field.path for field in infer.FIELDS), SHOWN, strict=True))
    shown |= {f"data.{name}": value for name, value in options.items()}
    text, adapt = infer.judge(services, job.id, "", images, list(shown.values()))
    return text, bool(adapt.visible)


def test_images_like_those_of_the_training_suit(services: Services) -> None:
    text, adapt = judged(services, trained(services))
    assert "suit the model" in text
    assert "<polyline" in text
    assert not adapt


def test_other_grey_values_are_shown_over_those_of_the_training(services: Services) -> None:
    far = Histogram(low=40_000, high=44_000, counts=(5, 5, 5, 5))
    text, _ = judged(services, trained(services, histograms=(far,)))
    assert "grey values are not those" in text
    assert "<polyline" in text


def test_another_pixel_size_offers_to_adapt_it_once(services: Services) -> None:
    job = trained(services, pixel_size=PixelSize(y=0.5, x=0.5))
    text, adapt = judged(services, job, pixel_size="1.0")
    assert "another size" in text
    assert adapt
    shown = dict(zip((field.path for field in infer.FIELDS), SHOWN, strict=True))
    shown |= {"data.pixel_size": "1.0", "inference.rescale": True}
    text, button = infer.judge(services, job.id, "", "data/images.tif", list(shown.values()))
    assert "another size" not in text
    assert not button.visible


def test_other_channels_are_refused_in_words(services: Services) -> None:
    two = Normalization(kind="none", offset=(0.0, 0.0), scale=(1.0, 1.0))
    text, adapt = judged(services, trained(services, channels=2, normalization=two, histograms=()))
    assert "2 channels" in text
    assert not adapt


def test_without_model_or_images_nothing_is_said(services: Services) -> None:
    assert infer.judge(services, None, "", "data/images.tif", SHOWN)[0] == ""
    assert infer.judge(services, "20200101-000000-none", "", None, SHOWN)[0] == ""
    text, _ = infer.judge(services, "20200101-000000-none", "", "data/images.tif", SHOWN)
    assert "finding error" in text
    assert fitting.fit_html(None) == ""


def test_the_results_of_a_folder_are_shown_one_by_one(services: Services) -> None:
    folder = services.workspace.data / "set"
    folder.mkdir()
    config = build_config({"data": {"images": str(folder)}, "inference": {"model": "a-run"}})
    job = create_job(services.workspace, "predict", config)
    start_job(job.folder)
    entries = []
    for number, size in enumerate((32, 48)):
        name = f"{number}.tif"
        tifffile.imwrite(folder / name, np.full((size, size), 10 * number, np.uint8))
        result = job.folder / "segmentation" / name
        result.parent.mkdir(exist_ok=True)
        tifffile.imwrite(result, np.eye(size, dtype=np.uint8) * 255)
        entries.append({"name": name, "segmentation": f"segmentation/{name}"})
    metadata = {"images": entries, "class_pixels": {"0": 9, "255": 1}}
    (job.folder / "metadata.json").write_text(json.dumps(metadata))
    end_job(job.folder, State.FINISHED)

    updates = dict(zip(infer.SHOWN, infer.show(services, job.id, 40), strict=False))
    assert updates["result"].visible
    assert updates["result"].value == "0.tif"
    assert str(updates["download"]).count('class="download"') == 4
    assert "Download all 2 results (ZIP)" in updates["download"]
    pictures = [infer.choose(services, job.id, name, 40)[0] for name in ("0.tif", "1.tif")]
    assert pictures[0] != pictures[1]
    assert all(picture.count("<img") == 2 for picture in pictures)


def test_an_ome_zarr_result_is_shown_and_taken_along_as_zip(services: Services) -> None:
    path = make_result(services, file_format="ome-zarr")
    identity = path.split("/")[1]
    updates = dict(zip(infer.SHOWN, infer.show(services, identity, 40), strict=False))
    assert str(updates["picture"]).count("<img") == 2
    assert "Download segmentation.ome.zarr (ZIP)" in updates["download"]
    address = re.search(rf'href="({zips.ADDRESS}[^"]+)"', updates["download"])
    assert address
    client = TestClient(Starlette(routes=[zips.zip_route(services.workspace)]))
    answer = client.get(address[1])
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(services.workspace.data / "taken")
    copy = Planes(open_source(services.workspace.data / "taken" / "segmentation.ome.zarr"))
    assert np.array_equal(copy.read(1), Planes(open_source(services.resolve(path))).read(1))


def test_what_it_will_need_is_told_before_it_begins(services: Services) -> None:
    (services.workspace.state / "machine.json").write_text('{"text": "CPU, 2 cores", "gflops": 50}')
    text, _ = judged(services, trained(services))
    assert "Memory" in text
    assert "at most" in text
    assert "on this machine" in text


def test_a_disk_that_is_too_small_is_told_and_nothing_is_queued(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = trained(services)
    usage = shutil.disk_usage(services.workspace.root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    text, _ = judged(services, job)
    assert "finding error" in text
    assert "OME-Zarr" in text
    started, message = infer.start(services, job.id, "", "data/images.tif", SHOWN)
    assert "free" in message
    assert not isinstance(started, str)
    assert not services.jobs("predict")


def test_further_models_may_be_runs_too(services: Services) -> None:
    first, second = trained(services), trained(services)
    data = {"images": "data/images.tif"}
    asked = build_config({"data": data, "inference": {"model": first.id, "ensemble": [second.id]}})
    job = services.submit_segmentation(asked)
    assert services.job(job.id).config.inference.ensemble == [str(second.folder)]


def test_images_are_read_as_the_training_repaired_them(services: Services) -> None:
    job = trained(services)
    options = job.config.model_copy(
        update={"data": job.config.data.model_copy(update={"recipe": ["images.depth uint16"]})}
    )
    _, card = read_config(job.folder / "config.json")
    write_config(job.folder / "config.json", options, card)
    folder = services.workspace.root / "data" / "mixed"
    folder.mkdir()
    for name, dtype in (("a.tif", np.uint8), ("b.tif", np.uint16)):
        tifffile.imwrite(folder / name, np.full((40, 30), 9, dtype))
    asked = build_config({"data": {"images": "data/mixed"}, "inference": {"model": job.id}})
    assert services.submit_segmentation(asked).state is State.QUEUED
