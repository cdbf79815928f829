"""Rescaling: the network sees the pixel size it knows, the result lies on the grid of the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segcore.blocks import BlockGrid
from segcore.card import ModelCard, PixelSize, write_config
from segcore.config import RunConfig, build_config
from segcore.inference.run import segment
from segcore.rescale import SAME, Rescaled, Restoring, Taps, scale_factors

MakeConfig = Callable[..., RunConfig]


class _Stack:
    """Planes in memory."""

    def __init__(self, image_ZCYX: np.ndarray, depth: int) -> None:
        self.image = image_ZCYX
        self.count, self.channels, self.height, self.width = image_ZCYX.shape
        self.depth = depth

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        return self.image[index, :, rows, columns]


SIZES = st.tuples(st.integers(1, 6), st.integers(2, 20), st.integers(2, 20))
FACTORS = st.tuples(*[st.floats(0.4, 2.5)] * 3)
ALL = slice(None)


@given(old=st.integers(1, 40), new=st.integers(1, 40), data=st.data())
@settings(deadline=None)
def test_mixes_are_averages_that_keep_what_is_even_and_what_stays(
    old: int, new: int, data: st.DataObject
) -> None:
    values = torch.arange(old).float()
    whole = Taps.of(old, new)
    assert (whole.first, whole.stop) == (0, old)
    assert (whole.weight_NT >= 0).all()
    torch.testing.assert_close(whole.weight_NT.sum(1), torch.ones(new))
    mixed = whole.mix(values, 0)
    assert (mixed.diff() >= 0).all()
    if old == new:
        assert torch.equal(mixed, values)
    start = data.draw(st.integers(0, new - 1))
    part = Taps.of(old, new, start, data.draw(st.integers(start + 1, new)))
    found = part.mix(values[part.first : part.stop], 0)
    torch.testing.assert_close(found, mixed[start : start + len(found)])


@given(old=st.integers(2, 30), new=st.integers(2, 30))
@settings(deadline=None)
def test_resampling_is_that_of_torch(old: int, new: int) -> None:
    values = torch.from_numpy(np.random.default_rng(old).random(old).astype(np.float32))
    image = values[None, None, :, None].repeat(1, 1, 1, 3)
    expected = functional.interpolate(image, (new, 3), mode="bilinear", align_corners=False, antialias=True)
    torch.testing.assert_close(Taps.of(old, new).mix(image, 2), expected, rtol=1e-4, atol=1e-4)


@given(shape=SIZES, factors=FACTORS, volumes=st.integers(1, 2), data=st.data())
@settings(deadline=None, max_examples=30)
def test_every_block_comes_back_on_its_own_grid_as_in_the_whole(
    shape: tuple[int, int, int], factors: tuple[float, float, float], volumes: int, data: st.DataObject
) -> None:
    image = np.random.default_rng(0).integers(0, 9, (volumes * shape[0], 2, *shape[1:])).astype(np.uint16)
    images = _Stack(image, shape[0])
    grid = Rescaled(images, factors)
    planes = np.stack([grid.window(index, ALL, ALL) for index in range(grid.count)])
    assert planes.shape == (grid.count, 2, grid.height, grid.width)
    assert image.min() <= planes.min()
    assert planes.max() <= image.max() + 1e-4
    logits_KZYX = torch.from_numpy(planes).transpose(0, 1)
    found = {}
    for size in (shape, [data.draw(st.integers(1, side)) for side in shape]):
        result = torch.full((2, *image[:, 0].shape), torch.nan)
        for block in BlockGrid.of(images, size):
            way = Restoring(grid, block)
            there = way.block
            region = logits_KZYX[
                :, there.planes[0] : there.planes[-1] + 1, slice(*there.rows), slice(*there.columns)
            ]
            place = slice(block.planes[0], block.planes[-1] + 1), slice(*block.rows), slice(*block.columns)
            result[:, *place] = way.back(region)
        torch.testing.assert_close(result.exp().sum(0), torch.ones(result.shape[1:]), rtol=1e-4, atol=1e-4)
        found[tuple(size)] = result
    first, *others = found.values()
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


def test_even_regions_survive_there_and_back() -> None:
    label = np.zeros((1, 2, 60, 60), np.float32)
    label[0, 1, 20:40, 10:50] = 20
    label[0, 0] = 20 - label[0, 1]
    for factor in (0.5, 1.7):
        images = _Stack(label, 1)
        grid = Rescaled(images, (1, factor, factor))
        (block,) = BlockGrid.of(images, (1, 60, 60))
        logits = torch.from_numpy(grid.window(0, ALL, ALL))[:, None]
        found = Restoring(grid, block).back(logits)[:, 0]
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
