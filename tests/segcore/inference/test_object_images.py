"""Images are segmented into objects: one label image without seams, a table, scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from drawn_objects import blobs, same_objects
from torch import Tensor

from segcore.card import ModelCard, Normalization, PixelSize
from segcore.cli.predict import _copy
from segcore.config import RunConfig, build_config
from segcore.data.open import open_source
from segcore.errors import ConfigError
from segcore.events import Request
from segcore.files import sha256
from segcore.inference import object_image
from segcore.inference.compare import compare
from segcore.inference.evaluate import evaluate
from segcore.inference.pace import Stopped
from segcore.inference.run import segment
from segcore.jobs.comparison import read_comparison
from segcore.models.saved import LoadedModel
from segcore.models.segmenter import Segmenter
from segcore.objects import ObjectTable
from segcore.postprocess.boundary import BoundaryHead
from segcore.postprocess.heads import describe_head
from segcore.postprocess.stitch import link_planes

SIZE = PixelSize(z=0.5, y=0.1, x=0.1)


class SeesMaps(Segmenter):
    """A network whose images are the maps of the boundary head."""

    is_local = True
    receptive_radii = (0, 0)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return what a pixel needs."""
        return 16 * itemsize

    def aligned(self, image: Tensor) -> Tensor:
        """Return numbers of which `activate` makes the maps."""
        return torch.cat([image[:, :3].clamp(1e-6).log(), image[:, 3:]], 1)


@pytest.fixture
def labels() -> np.ndarray:
    """Two planes of objects, of which some touch."""
    return np.stack([blobs(150, 40, seed) for seed in (1, 2)]).astype(np.uint16)


@pytest.fixture
def files(tmp_path: Path, labels: np.ndarray) -> dict[str, str]:
    """Write the maps of the planes as images of four channels, and the objects as their labels."""
    head = BoundaryHead()
    maps = np.stack([head.ideal(head.encode(plane)) for plane in labels]).astype(np.float32)
    tifffile.imwrite(tmp_path / "image.tif", maps, imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    return {"images": str(tmp_path / "image.tif"), "labels": str(tmp_path / "labels.tif")}


@pytest.fixture
def model() -> LoadedModel:
    """Return a model that sees through the maps."""
    card = ModelCard(
        channels=4,
        class_values=(0, 1),
        class_names=("background", "object"),
        head=describe_head("boundary", False, SIZE, 18.0),
        normalization=Normalization(kind="none", offset=(0.0,) * 4, scale=(1.0,) * 4),
        axes="ZCYX",
        dtype="float32",
        pixel_size=SIZE,
    )
    config = build_config({"data": {"labels_as": "objects"}, "model": {"head": "boundary"}})
    return LoadedModel(SeesMaps(4, 4), config, card, Path("best_model.pth"), "0" * 64)


def config_of(images: str, labels: str | None = None, **inference: object) -> RunConfig:
    """Return the options of a segmentation."""
    data = {"images": images} | ({"labels": labels} if labels else {})
    return build_config({"data": data, "inference": inference, "hardware": {"device": "cpu"}})


def _at(number: int, request: Request) -> Callable[[], Request | None]:
    left: Iterator[int] = iter(range(number))
    return lambda: request if next(left, None) is None else None


@pytest.mark.parametrize("tile", [None, 64])
def test_the_result_numbers_the_objects_and_the_table_lists_them(
    files: dict[str, str], labels: np.ndarray, model: LoadedModel, tmp_path: Path, listener, tile: int | None
) -> None:
    folder = tmp_path / "result"
    outcome = segment(config_of(files["images"], tile_size=tile), folder, listener, model=model)
    result = tifffile.imread(folder / "segmentation.tif")
    assert result.dtype == np.uint16
    for found, expected in zip(result, labels, strict=True):
        assert ((found > 0) == (expected > 0)).mean() > 0.99
        assert abs(len(np.unique(found)) - len(np.unique(expected))) <= 1
    numbers = np.unique(result)
    assert numbers.tolist() == list(range(len(numbers)))
    assert outcome.metrics["objects"] == len(numbers) - 1
    with (folder / "segmentation.objects.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(ObjectTable.COLUMNS)
    assert [int(row["label"]) for row in rows] == numbers[1:].tolist()
    assert [int(row["pixels"]) for row in rows] == np.bincount(result.ravel())[1:].tolist()
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["objects_table"] == "segmentation.objects.csv"
    assert metadata["class_pixels"] == {"0": int((result == 0).sum()), "1": int((result > 0).sum())}


@pytest.mark.parametrize(("kind", "ending"), [("tiff", ".tif"), ("ome-zarr", ".ome.zarr")])
def test_a_copy_of_the_result_takes_the_table_along(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener, kind: str, ending: str
) -> None:
    folder = tmp_path / "result"
    segment(config_of(files["images"], format=kind, tile_size=64), folder, listener, model=model)
    copy = _copy(folder / f"segmentation{ending}", tmp_path / f"mine{ending}")
    own, there = (
        source.read((slice(None),) * len(source.shape))
        for source in map(open_source, (copy, folder / f"segmentation{ending}"))
    )
    assert np.array_equal(own, there)
    table = (tmp_path / "mine.objects.csv").read_text()
    assert table == (folder / "segmentation.objects.csv").read_text()
    assert len(table.splitlines()) == int(own.max()) + 1


def test_tiles_leave_no_seam(files: dict[str, str], model: LoadedModel, tmp_path: Path, listener) -> None:
    found = []
    for name, tile in (("whole", None), ("tiles", 64)):
        segment(config_of(files["images"], tile_size=tile), tmp_path / name, listener, model=model)
        found.append(tifffile.imread(tmp_path / name / "segmentation.tif"))
    for whole, tiles in zip(*found, strict=True):
        assert same_objects(whole, tiles)


@pytest.mark.parametrize("questions", [1, 30, 100])
def test_what_was_broken_off_goes_on_to_the_same_result(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener, questions: int
) -> None:
    config = config_of(files["images"], tile_size=64)
    segment(config, tmp_path / "whole", listener, model=model)
    paused = segment(config, tmp_path / "parts", listener, _at(questions, Request.PAUSE), model=model)
    assert paused.request is Request.PAUSE
    assert not (tmp_path / "parts" / "segmentation.tif").exists()
    segment(config, tmp_path / "parts", listener, model=model)
    for name in ("segmentation.tif", "segmentation.objects.csv"):
        assert sha256(tmp_path / "parts" / name) == sha256(tmp_path / "whole" / name)
    assert not (tmp_path / "parts" / "partial").exists()


def test_a_segmentation_that_is_discarded_leaves_nothing(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener
) -> None:
    config = config_of(files["images"], tile_size=64)
    segment(config, tmp_path / "run", listener, _at(3, Request.DISCARD), model=model)
    assert not list((tmp_path / "run").iterdir())


def test_who_stops_while_the_result_is_written_finds_no_table(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise Stopped(Request.STOP)

    monkeypatch.setattr(object_image, "finish_sink", stop)
    outcome = segment(config_of(files["images"]), tmp_path / "run", listener, model=model)
    assert outcome.request is Request.STOP
    assert not list((tmp_path / "run").iterdir())


def test_an_image_whose_table_is_gone_is_segmented_again(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    config, folder = config_of(files["images"]), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("segcore.inference.run._metadata", die)
        with pytest.raises(RuntimeError, match="killed"):
            segment(config, folder, listener, model=model)
    (folder / "segmentation.objects.csv").unlink()
    segment(config, folder, listener, model=model)
    assert (folder / "segmentation.objects.csv").exists()


def test_options_that_say_nothing_for_objects_are_told(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener
) -> None:
    segment(config_of(files["images"], probabilities=True), tmp_path / "run", listener, model=model)
    assert any("inference.probabilities" in event.text for event in listener.of("note"))
    assert not (tmp_path / "run" / "probabilities.tif").exists()


def test_objects_on_another_grid_are_refused(
    files: dict[str, str], labels: np.ndarray, model: LoadedModel, tmp_path: Path, listener
) -> None:
    metadata = {"axes": "ZCYX", "spacing": 0.5, "unit": "um"}
    image = tifffile.imread(files["images"])
    tifffile.imwrite(tmp_path / "coarse.tif", image, imagej=True, resolution=(5, 5), metadata=metadata)
    config = config_of(str(tmp_path / "coarse.tif"), rescale=True)
    with pytest.raises(ConfigError, match=r"inference\.rescale"):
        segment(config, tmp_path / "run", listener, model=model)


@pytest.mark.parametrize("tile", [None, 64])
def test_scores_are_those_of_the_objects(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener, tile: int | None
) -> None:
    scores = evaluate(config_of(**files, tile_size=tile), listener, model)
    assert scores["val_f1"] > 0.95
    assert scores["val_ap50"] > 0.9
    assert scores["val_dice"] > 0.98
    assert scores["slices"] == 2
    segment(config_of(files["images"], tile_size=tile), tmp_path / "result", listener, model=model)
    own = config_of(files["images"], str(tmp_path / "result" / "segmentation.tif"), tile_size=tile)
    scores = evaluate(own, listener, model)
    assert scores["val_f1"] == scores["val_pq"] == scores["val_ap"] == scores["val_dice"] == 1
    assert scores["objects_annotated"] == scores["objects_predicted"] > 40


def test_a_comparison_tells_the_objects_of_every_slice(
    files: dict[str, str], model: LoadedModel, tmp_path: Path, listener
) -> None:
    outcome = compare(config_of(**files), tmp_path / "job", listener, model=model)
    assert outcome.metrics["val_f1"] > 0.95
    found = read_comparison(tmp_path / "job")
    assert found is not None
    assert all(one.f1 is not None and one.f1 > 0.9 for one in found.worst)
    with (tmp_path / "job" / "comparison" / "slices.csv").open(encoding="utf-8") as stream:
        assert all(float(row["f1 of objects"]) > 0.9 for row in csv.DictReader(stream))


@pytest.mark.parametrize("tile", [None, 64])
def test_objects_of_neighbouring_slices_may_be_one(
    tmp_path: Path, model: LoadedModel, listener, tile: int | None
) -> None:
    head, plane = BoundaryHead(), blobs(150, 30, 3)
    moved = np.roll(plane, 1, 0)
    maps = np.stack([head.ideal(head.encode(each)) for each in (plane, moved, moved)])
    image = str(tmp_path / "stack.tif")
    tifffile.imwrite(image, maps.astype(np.float32), imagej=True, metadata={"axes": "ZCYX"})
    found = {}
    for least in (0, 0.25):
        folder = tmp_path / str(least)
        segment(config_of(image, tile_size=tile, join_slices=least), folder, listener, model=model)
        found[least] = tifffile.imread(folder / "segmentation.tif")
    apart, joined = found[0], found[0.25]
    assert not set(np.unique(apart[0])) & set(np.unique(apart[1])) - {0}
    assert same_objects(joined, link_planes(apart))
    assert np.array_equal(joined[1], joined[2])
    assert np.unique(joined).tolist() == list(range(joined.max() + 1))
    with (tmp_path / "0.25" / "segmentation.objects.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["pixels"]) for row in rows] == np.bincount(joined.ravel())[1:].tolist()
