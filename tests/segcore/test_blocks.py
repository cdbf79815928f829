"""Blocks cover every pixel once, and what a network sees of them is what it would see in the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.blocks import BlockGrid, own_normalization, view_block
from segcore.card import ModelCard, Normalization
from segcore.data.neighbours import neighbours
from segcore.data.normalize import fit_normalization

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))


class _Planes:
    """Planes in memory."""

    def __init__(self, image_ZCYX: np.ndarray, depth: int) -> None:
        self.image = image_ZCYX
        self.count, self.channels, self.height, self.width = image_ZCYX.shape
        self.depth = depth

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        return self.image[index, :, rows, columns]


def _planes(shape: tuple[int, int, int], volumes: int, channels: int = 1) -> _Planes:
    values = np.arange(volumes * channels * int(np.prod(shape)), dtype=np.float32)
    return _Planes(values.reshape(volumes * shape[0], channels, *shape[1:]), shape[0])


@given(shape=SIZES, size=SIZES, volumes=st.integers(1, 3))
@settings(deadline=None)
def test_every_pixel_lies_in_one_block_of_one_volume(
    shape: tuple[int, int, int], size: tuple[int, int, int], volumes: int
) -> None:
    images = _planes(shape, volumes)
    blocks = BlockGrid.of(images, size)
    times = np.zeros((images.count, *shape[1:]), int)
    for number, block in enumerate(blocks):
        assert block.number == number
        assert block == blocks[number]
        assert len({plane // shape[0] for plane in block.planes}) == 1
        assert np.prod(block.shape) > 0
        times[block.planes[0] : block.planes[-1] + 1, slice(*block.rows), slice(*block.columns)] += 1
    assert (times == 1).all()
    assert len(blocks) == number + 1
    with pytest.raises(IndexError):
        blocks[len(blocks)]
    wanted = {images.count - 1}
    held = blocks.holding(wanted)
    assert all(wanted & set(block.planes) for block in held)
    assert sum(block.shape[1] * block.shape[2] for block in held) == shape[1] * shape[2]


@given(
    shape=SIZES,
    size=SIZES,
    halo=st.tuples(*[st.integers(0, 20)] * 3),
    mode=st.sampled_from(["2d", "2.5d", "3d"]),
    step=st.sampled_from([1, 4, 8]),
)
@settings(deadline=None)
def test_a_view_holds_the_block_and_its_surroundings(
    shape: tuple[int, int, int], size: tuple[int, int, int], halo: tuple[int, int, int], mode: str, step: int
) -> None:
    images = _planes(shape, 2, channels=2)
    card = _card(mode)
    size = size if mode == "3d" else (1, *size[1:])
    for block in BlockGrid.of(images, size):
        view = view_block(images, card, block, halo, (1, step, step))
        place = slice(block.planes[0], block.planes[-1] + 1), slice(*block.rows), slice(*block.columns)
        if mode == "3d":
            own = view.images[0][:, *view.keep]
            assert np.array_equal(own, images.image.swapaxes(0, 1)[:, *place])
        else:
            (seen,) = view.images
            first = block.planes[0] // shape[0] * shape[0]
            planes = neighbours(block.planes[0] - first, shape[0], card.context_slices, 1)
            around = [images.image[first + plane][:, *place[1:]] for plane in planes]
            assert np.array_equal(seen[:, *view.keep], np.concatenate(around))
        for axis, (at, end) in enumerate((block.rows, block.columns), start=-2):
            kept, length, limit = view.keep[axis], view.images[0].shape[axis], images.image.shape[axis]
            assert (at - kept.start) % step == 0
            assert kept.start >= min(halo[axis], at)
            assert length - kept.stop >= min(halo[axis], limit - end)


def _card(mode: str) -> ModelCard:
    return ModelCard(
        axes="ZCYX",
        dtype="uint8",
        class_values=(0, 1),
        class_names=("a", "b"),
        channels=2,
        mode=mode,
        context_slices=3 if mode == "2.5d" else 1,
        normalization=Normalization(kind="none", offset=(0, 0), scale=(1, 1)),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_statistics_do_not_depend_on_strips(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 250, (3, 2, 50, 40)).astype(dtype)
    trained = Normalization(kind="percentile", per="image", offset=(0, 0), scale=(1, 1))
    monkeypatch.setattr("segcore.data.planes.STRIP_PIXELS", 700)
    assert own_normalization(_Planes(image, 3), trained) == fit_normalization(iter(image), "percentile")
    assert own_normalization(_Planes(image, 3), trained.model_copy(update={"per": "set"})) is None
