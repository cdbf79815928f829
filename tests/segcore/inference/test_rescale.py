"""Rescaling: the network sees the pixel size it knows, the result lies on the grid of the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segcore.card import ModelCard, PixelSize, write_config
from segcore.config import RunConfig, build_config
from segcore.inference.rescale import SAME, Rescaled, linear_mixes, resized, restored, scale_factors
from segcore.inference.run import segment

MakeConfig = Callable[..., RunConfig]


class _Stack:
    """Planes in memory."""

    def __init__(self, image_ZCYX: np.ndarray, depth: int) -> None:
        self.image = image_ZCYX
        self.count, self.channels, self.height, self.width = image_ZCYX.shape
        self.depth = depth

    def read(self, index: int) -> np.ndarray:
        return self.image[index]


@given(old=st.integers(1, 40), new=st.integers(1, 40))
def test_mixes_are_averages_that_keep_what_is_even_and_what_stays(old: int, new: int) -> None:
    values = np.arange(old, dtype=float)
    mixed = []
    for first, weights in linear_mixes(old, new):
        assert min(weights) > 0
        assert sum(weights) == pytest.approx(1)
        mixed.append(np.dot(weights, values[first : first + len(weights)]))
    assert np.all(np.diff(mixed) >= 0)
    if old == new:
        assert mixed == list(values)


@given(old=st.integers(2, 30), new=st.integers(2, 30))
@settings(deadline=None)
def test_planes_are_mixed_as_rows_are(old: int, new: int) -> None:
    values = np.random.default_rng(old).random(old).astype(np.float32)
    mixed = [np.dot(w, values[first : first + len(w)]) for first, w in linear_mixes(old, new)]
    rows = resized(torch.from_numpy(values)[None, :, None].repeat(1, 1, 3), new, 3)
    np.testing.assert_allclose(mixed, rows[0, :, 0].numpy(), atol=1e-4)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(2, 20), st.integers(2, 20)),
    factors=st.tuples(*[st.floats(0.4, 2.5)] * 3),
    volumes=st.integers(1, 2),
)
@settings(deadline=None, max_examples=30)
def test_every_plane_comes_back_once_on_its_own_grid(
    shape: tuple[int, int, int], factors: tuple[float, float, float], volumes: int
) -> None:
    image = np.random.default_rng(0).integers(0, 9, (volumes * shape[0], 2, *shape[1:])).astype(np.uint16)
    grid = Rescaled(_Stack(image, shape[0]), factors)
    planes = [grid.read(index) for index in range(grid.count)]
    assert {plane.shape for plane in planes} == {(2, grid.height, grid.width)}
    assert all(image.min() <= plane.min() and plane.max() <= image.max() + 1e-4 for plane in planes)
    logits = ((index, torch.from_numpy(plane)) for index, plane in enumerate(planes))
    back = list(restored(logits, grid))
    assert [index for index, _ in back] == list(range(len(image)))
    for _, found in back:
        assert found.shape == (2, *shape[1:])
        torch.testing.assert_close(found.exp().sum(0), torch.ones(shape[1:]), rtol=1e-4, atol=1e-4)


@given(wanted=st.sets(st.integers(0, 7), min_size=1))
@settings(deadline=None, max_examples=30)
def test_planes_that_nobody_predicted_are_left_out(wanted: set[int]) -> None:
    image = np.random.default_rng(0).integers(0, 9, (8, 2, 12, 10)).astype(np.uint16)
    grid = Rescaled(_Stack(image, 4), (1, 0.5, 0.5))
    logits = [(index, torch.from_numpy(grid.read(index))) for index in range(8)]
    whole = dict(restored(iter(logits), grid))
    some = dict(restored((pair for pair in logits if pair[0] in wanted), grid))
    assert set(some) == wanted
    assert all(torch.equal(found, whole[index]) for index, found in some.items())


def test_even_regions_survive_there_and_back() -> None:
    label = np.zeros((1, 2, 60, 60), np.float32)
    label[0, 1, 20:40, 10:50] = 20
    label[0, 0] = 20 - label[0, 1]
    for factor in (0.5, 1.7):
        grid = Rescaled(_Stack(label, 1), (1, factor, factor))
        ((_, found),) = restored(iter([(0, torch.from_numpy(grid.read(0)))]), grid)
        assert (found.argmax(0).numpy() != label[0].argmax(0)).mean() < 0.05


def test_factors_are_those_of_the_axes_the_network_sees(card: ModelCard) -> None:
    trained = card.model_copy(update={"pixel_size": PixelSize(z=1, y=0.2, x=0.2)})
    there = PixelSize(z=0.5, y=0.1, x=0.205)
    assert scale_factors(there, trained) == (1.0, 0.5, 1.0)
    assert scale_factors(there, trained.model_copy(update={"mode": "3d"})) == (0.5, 0.5, 1.0)
    assert scale_factors(PixelSize(), trained) == SAME


def test_a_magnified_image_gives_the_magnified_result(
    make_config: MakeConfig, model_folder: Path, tmp_path: Path, listener
) -> None:
    smooth = np.random.default_rng(0).random((1, 1, 12, 10)).astype(np.float32)
    image = functional.interpolate(torch.from_numpy(smooth), (96, 80), mode="bicubic")[0, 0].numpy()
    image = (image * 255).clip(0, 255).astype(np.uint8)
    cases = {"plain": (1, True), "double": (2, True), "as it is": (2, False)}
    results = {}
    for name, (zoom, rescale) in cases.items():
        path = tmp_path / f"{zoom}.tif"
        larger = image.repeat(zoom, 0).repeat(zoom, 1)
        size = {"resolution": (10 * zoom, 10 * zoom), "metadata": {"axes": "YX", "unit": "um"}}
        tifffile.imwrite(path, larger, imagej=True, **size)  # type: ignore[arg-type]
        config = make_config(
            data={"images": str(path)},
            inference={"rescale": rescale},
            hardware={"device": "cpu", "precision": "fp32"},
        )
        segment(config, tmp_path / name, listener)
        results[name] = tifffile.imread(tmp_path / name / "segmentation.tif")
        assert results[name].shape == larger.shape
    wrong = {
        name: (result[::2, ::2] != results["plain"]).mean()
        for name, result in results.items()
        if name != "plain"
    }
    assert wrong["double"] < 0.9 * wrong["as it is"]  # of a network with random weights
    metadata = [json.loads((tmp_path / name / "metadata.json").read_text()) for name in cases]
    assert [each["rescaled"] for each in metadata] == [[1.0, 1.0, 1.0], [1.0, 0.5, 0.5], [1.0, 1.0, 1.0]]


def test_a_pixel_size_nobody_knows_is_told(
    make_config: MakeConfig, card: ModelCard, model_folder: Path, listener, tmp_path: Path
) -> None:
    config = build_config({"model": {"features": 4, "layers": 2}})
    write_config(model_folder / "config.json", config, card.model_copy(update={"pixel_size": PixelSize()}))
    segment(make_config(inference={"rescale": True}), tmp_path / "result", listener)
    assert any("cannot be adapted" in event.text for event in listener.of("note"))
