"""Glances: part of a slice predicts as the whole does; the process answers, and ends with who asked."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segcore.config import DataConfig, HardwareConfig, RunConfig
from segcore.data.collection import open_collection
from segcore.devices import choose
from segcore.inference.glance import Glancer, Request, predict_part, serve
from segcore.inference.run import segment
from segcore.models.saved import find_model, load_model
from segcore.predictor import Predictor

WaitUntil = Callable[..., None]


@pytest.fixture
def request_for(model_folder: Path, image_file: Path, tmp_path: Path) -> Callable[..., Request]:
    """Return a builder of requests for the whole of slice 1; fields given replace the default."""

    def build(**fields: Any) -> Request:
        values = {
            "weights": model_folder / "best_model.pth", "config": model_folder / "config.json",
            "data": {"images": str(image_file)}, "plane": 1, "rows": (0, 40), "columns": (0, 33),
            "out": tmp_path / "previews" / "out.png", "answer": tmp_path / "answer.json",
        }  # fmt: skip
        return Request.model_validate(values | fields)

    return build


def test_a_part_predicts_as_the_whole_slice_does(model_folder: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 150, 171)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, photometric="minisblack", metadata={"axes": "ZYX"})
    planes = open_collection(DataConfig(images=str(tmp_path / "large.tif")), labelled=False)
    hardware = choose(HardwareConfig(device="cpu", precision="fp32"))
    model = load_model(*find_model(model_folder), hardware)
    predictor = Predictor(model.network, model.card, hardware)
    whole_YX = predictor.labels(planes.read(1))
    assert len(np.unique(whole_YX)) > 1
    for rows, columns in [
        ((0, 150), (0, 171)), ((61, 90), (50, 131)), ((149, 150), (170, 171)), ((0, 7), (96, 100)),
    ]:  # fmt: skip
        part_YX = predict_part(predictor, planes, 1, (rows, columns))
        assert (part_YX == whole_YX[slice(*rows), slice(*columns)]).all()


def test_the_kept_epoch_of_a_run_finds_its_configuration(
    make_config: Callable[..., RunConfig], model_folder: Path, tmp_path: Path, listener
) -> None:
    kept = model_folder / "checkpoints" / "epoch-0010.pth"
    kept.parent.mkdir()
    shutil.copy(model_folder / "best_model.pth", kept)
    for name, model in (("kept", kept), ("best", model_folder)):
        (tmp_path / name).mkdir()
        config = make_config(inference={"model": str(model)})
        segment(config, tmp_path / name, listener)
    first, second = (tifffile.imread(tmp_path / name / "segmentation.tif") for name in ("kept", "best"))
    assert (first == second).all()


def test_every_request_is_answered_until_who_asks_is_gone(
    request_for: Callable[..., Request], wait_until: WaitUntil, tmp_path: Path
) -> None:
    good, bad = request_for(), request_for(weights=tmp_path / "none.pth", answer=tmp_path / "bad.json")
    gone = threading.Event()

    def lines() -> Iterator[str]:
        yield "this is no request\n"
        yield bad.model_dump_json() + "\n"
        yield good.model_dump_json() + "\n"
        gone.wait(60)

    process = threading.Thread(target=serve, args=(lines(),))
    process.start()
    try:
        wait_until(lambda: good.answer.exists())
    finally:
        gone.set()
        process.join(20)
    assert not process.is_alive()
    assert json.loads(good.answer.read_text()) == {"message": "", "remedy": ""}
    assert json.loads(bad.answer.read_text())["message"]
    with Image.open(good.out) as picture:
        assert picture.size == (33, 40)


def test_an_idle_process_ends_by_itself(wait_until: WaitUntil) -> None:
    gone = threading.Event()

    def lines() -> Iterator[str]:
        gone.wait(60)
        yield from ()

    process = threading.Thread(target=serve, args=(lines(), 0.01))
    process.start()
    try:
        wait_until(lambda: not process.is_alive())
    finally:
        gone.set()


def test_replaced_weights_are_read_again(
    request_for: Callable[..., Request], model_folder: Path, tmp_path: Path
) -> None:
    glancer, request = Glancer(), request_for()
    glancer.answer(request)
    assert json.loads(request.answer.read_text())["message"] == ""
    (model_folder / "best_model.pth").unlink()
    (model_folder / "best_model.pth").write_bytes(b"no weights")
    glancer.answer(request)
    assert "not a model file" in json.loads(request.answer.read_text())["message"]


def test_images_that_do_not_fit_are_told_in_the_answer(
    request_for: Callable[..., Request], tmp_path: Path
) -> None:
    image = np.zeros((3, 40, 33), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", image, photometric="minisblack", metadata={"axes": "CYX"})
    request = request_for(data={"images": str(tmp_path / "rgb.tif")}, plane=0)
    Glancer().answer(request)
    said = json.loads(request.answer.read_text())
    assert "the image has 3" in said["message"]
    assert said["remedy"]
    assert not request.out.exists()
