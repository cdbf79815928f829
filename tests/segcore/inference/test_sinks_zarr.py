"""OME-Zarr: what the specification demands, and a pyramid that invents no label and can be interrupted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segcore.card import PixelSize
from segcore.errors import JobError
from segcore.inference import pyramid, zarr_layout
from segcore.inference.pyramid import shrink
from segcore.inference.sinks import SinkSpec, create_sink, finish_sink
from segcore.inference.zarr_sink import Level

SIZE = PixelSize(z=0.5, y=0.2, x=0.1)
LABELS = SinkSpec(
    "ZYX", (3, 90, 81), np.dtype("uint16"), SIZE, format="ome-zarr", chunk=(2, 16, 32),
    names=((0, "back"), (7, "cell")),
)  # fmt: skip
PROBABILITIES = SinkSpec("TYX", (2, 75, 41), np.dtype("uint8"), SIZE, 2, "ome-zarr", (1, 16, 32))
SPECS = pytest.mark.parametrize("spec", [LABELS, PROBABILITIES], ids=["labels", "probabilities"])


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_layout, "SMALLEST_LEVEL", 20)


def _filled(path: Path, spec: SinkSpec) -> np.ndarray:
    channels = (spec.classes,) if spec.classes else ()
    rng = np.random.default_rng(0)
    shape = (spec.planes, *channels, *spec.shape[-2:])
    pixels = (rng.random(shape) * (1 if spec.classes else 9)).astype(spec.stored_dtype)
    sink = create_sink(path, spec)
    height, width = spec.shape[-2:]
    sink.write(range(spec.planes), slice(0, height), slice(0, width), pixels)
    sink.close()
    return pixels


def _levels(path: Path, spec: SinkSpec) -> list[np.ndarray]:
    """Read all levels, axes as in the specification."""
    group: Any = zarr.open_group(path, mode="r")
    back = np.argsort(zarr_layout.stored_order(spec))
    image = group.attrs["ome"]["multiscales"][0]
    return [np.asarray(group[level["path"]][...]).transpose(back) for level in image["datasets"]]


@SPECS
def test_every_level_is_half_of_the_one_above(tmp_path: Path, spec: SinkSpec) -> None:
    pixels = _filled(tmp_path / "work", spec)
    finish_sink(tmp_path / "work", spec, tmp_path / "r.ome.zarr")
    levels = _levels(tmp_path / "r.ome.zarr", spec)
    assert len(levels) >= 3
    np.testing.assert_array_equal(levels[0].reshape(pixels.shape), pixels)
    for finer, coarser in pairwise(levels):
        np.testing.assert_array_equal(coarser, shrink(finer, mean=spec.classes > 0))
    assert max(levels[-1].shape[-2:]) <= 20


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=3, max_side=5)))
def test_a_smaller_level_of_labels_has_only_labels_that_were_there(labels: np.ndarray) -> None:
    small = shrink(labels, mean=False)
    assert small.shape[-2:] == tuple(-(-size // 2) for size in labels.shape[-2:])
    for index in np.ndindex(small.shape):
        *outer, row, column = index
        assert small[index] == labels[(*outer, 2 * row, 2 * column)]


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.floats(0, 1, width=32),
    )
)
def test_a_smaller_level_of_probabilities_is_the_mean_of_what_it_covers(probabilities: np.ndarray) -> None:
    small = shrink(probabilities, mean=True)
    assert small.dtype == np.float32
    assert small.shape[-2:] == tuple(-(-size // 2) for size in probabilities.shape[-2:])
    for index in np.ndindex(small.shape):
        *outer, row, column = index
        covered = probabilities[(*outer, slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))]
        assert small[index] == pytest.approx(covered.mean(), abs=1e-6)


@SPECS
def test_the_description_keeps_the_rules_of_ome_zarr(tmp_path: Path, spec: SinkSpec) -> None:
    """The demands of https://ngff.openmicroscopy.org/0.5 on multiscales, axes and label images."""
    create_sink(tmp_path / "work", spec).close()
    group: Any = zarr.open_group(tmp_path / "work", mode="r")
    assert group.metadata.zarr_format == 3
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    image = ome["multiscales"][0]
    axes = image["axes"]
    kinds = [axis["type"] for axis in axes]
    assert kinds == sorted(kinds, key=["time", "channel", "space"].index)
    assert kinds.count("space") in (2, 3)
    assert all(axis.get("unit", "micrometer") == "micrometer" for axis in axes)
    arrays_of = [group[level["path"]] for level in image["datasets"]]
    assert {key for key, _ in group.arrays()} == {level["path"] for level in image["datasets"]}
    for level, array in zip(image["datasets"], arrays_of, strict=True):
        assert array.dtype == spec.stored_dtype
        assert list(array.metadata.dimension_names) == [axis["name"] for axis in axes]
        scale, *shift = level["coordinateTransformations"]
        assert scale["type"] == "scale"
        assert [step["type"] for step in shift] in ([], ["translation"])
        assert all(len(step[step["type"]]) == len(axes) for step in (scale, *shift))
    first = dict(zip([axis["name"] for axis in axes], _scale(image, 0), strict=True))
    assert (first["y"], first["x"], first.get("z", 0.5)) == (0.2, 0.1, 0.5)
    for number in range(1, len(arrays_of)):
        ratio = np.array(_scale(image, number)) / np.array(_scale(image, number - 1))
        assert ratio.tolist() == [2.0 if axis["name"] in "yx" else 1.0 for axis in axes]
    assert ("image-label" in ome) == (spec.classes == 0)
    if not spec.classes:
        assert ome["image-label"]["properties"][1] == {"label-value": 7, "class": "cell"}


def _scale(image: Any, level: int) -> list[float]:
    return image["datasets"][level]["coordinateTransformations"][0]["scale"]


def test_a_mean_lies_where_the_pixels_lie_that_it_is_of(tmp_path: Path) -> None:
    """The centre of a coarse pixel, in µm, is the mean of the centres of the fine pixels."""
    described = zarr_layout.describe(PROBABILITIES)["multiscales"][0]
    for number, level in enumerate(described["datasets"]):
        scale, *shift = level["coordinateTransformations"]
        moved = shift[0]["translation"][-1] if shift else 0.0
        for pixel in (0, 3):
            covered = np.arange(pixel * 2**number, (pixel + 1) * 2**number) * SIZE.x
            assert pixel * scale["scale"][-1] + moved == pytest.approx(covered.mean())


class _Break(Exception):
    pass


@SPECS
def test_an_interrupted_pyramid_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: SinkSpec
) -> None:
    monkeypatch.setattr(pyramid, "_SECONDS", 0)
    for name in ("whole", "broken"):
        _filled(tmp_path / name, spec)
    told: list[tuple[int, int]] = []
    finish_sink(tmp_path / "whole", spec, tmp_path / "whole.ome.zarr", lambda *now: told.append(now))
    total = told[-1][1]
    assert told == [(done, total) for done in range(1, total + 1)]

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked % 7 == 0:
            raise _Break

    again: list[tuple[int, int]] = []
    target = tmp_path / "broken.ome.zarr"
    for _ in range(total):
        try:
            finish_sink(tmp_path / "broken", spec, target, lambda *now: again.append(now), check)
            break
        except _Break:
            assert not target.exists()
    assert again == told  # nothing twice, nothing left out
    pairs = zip(_levels(tmp_path / "whole.ome.zarr", spec), _levels(target, spec), strict=True)
    for expected, found in pairs:
        np.testing.assert_array_equal(found, expected)


def test_a_pyramid_that_was_killed_between_records_is_the_same(tmp_path: Path) -> None:
    pixels = _filled(tmp_path / "work", LABELS)
    level = Level(tmp_path / "work", LABELS, 1)
    level.write((slice(0, 2), slice(0, 16), slice(0, 32)), np.full((2, 16, 32), 99, np.uint16))  # no record
    (tmp_path / "work" / "1" / "c" / "0.abc.partial").write_bytes(b"cut off")
    finish_sink(tmp_path / "work", LABELS, tmp_path / "r.ome.zarr")
    np.testing.assert_array_equal(_levels(tmp_path / "r.ome.zarr", LABELS)[1], pixels[:, ::2, ::2])
    assert not list((tmp_path / "r.ome.zarr").rglob("*.partial"))
    assert not list((tmp_path / "r.ome.zarr").rglob(".*"))


def test_background_takes_no_room(tmp_path: Path) -> None:
    sink = create_sink(tmp_path / "work", LABELS)
    sink.write(range(3), slice(0, 90), slice(0, 81), np.zeros((3, 90, 81), np.uint16))
    sink.close()
    finish_sink(tmp_path / "work", LABELS, tmp_path / "r.ome.zarr")
    assert {path.name for path in (tmp_path / "r.ome.zarr").rglob("*") if path.is_file()} == {"zarr.json"}


@pytest.mark.parametrize("rows", [slice(8, 32), slice(0, 40)])
def test_blocks_that_would_share_a_chunk_are_our_mistake(tmp_path: Path, rows: slice) -> None:
    sink = create_sink(tmp_path / "work", LABELS)
    values = np.ones((2, rows.stop - rows.start, 32), np.uint16)
    with pytest.raises(AssertionError):
        sink.write(range(2), rows, slice(0, 32), values)


def test_a_full_disk_in_the_pyramid_is_told_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = _filled(tmp_path / "work", LABELS)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", full)
        with pytest.raises(JobError, match="No space left"):
            finish_sink(tmp_path / "work", LABELS, tmp_path / "r.ome.zarr")
    assert not (tmp_path / "r.ome.zarr").exists()
    finish_sink(tmp_path / "work", LABELS, tmp_path / "r.ome.zarr")
    np.testing.assert_array_equal(_levels(tmp_path / "r.ome.zarr", LABELS)[1], pixels[:, ::2, ::2])
