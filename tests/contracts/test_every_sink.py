"""One suite for every sink: any process may write any block, and what was written is what is read."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcore.card import PixelSize
from segcore.data.open import open_source
from segcore.errors import JobError
from segcore.inference import sinks, tiled_tiff, zarr_layout
from segcore.inference.sinks import SinkSpec, create_sink, finish_sink, remove, reopen_sink, result_bytes

SIZE = PixelSize(z=0.5, y=0.2, x=0.1)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "tifffile", "zarr", "segcore.inference.sinks"])
ENDINGS = {"tiff": "tif", "ome-zarr": "ome.zarr"}
TILE = 32
"""Tiles of TIFF files and smallest levels of pyramids in these tests, px: small images have several."""


@dataclass(frozen=True)
class Kind:
    """A way to store a result."""

    name: str
    format: str
    dtype: str = "uint8"
    axes: str = "ZYX"
    shape: tuple[int, ...] = (3, 70, 81)
    classes: int = 0
    large: bool = False

    @property
    def spec(self) -> SinkSpec:
        """What is stored."""
        dtype = np.dtype(self.dtype)
        return SinkSpec(self.axes, self.shape, dtype, SIZE, self.classes, self.format, (1, TILE, TILE))


KINDS = [
    Kind("imagej", "tiff"),
    Kind("imagej-time", "tiff", "uint16", "TZYX", (2, 3, 40, 35)),
    Kind("imagej-probabilities", "tiff", classes=3),
    Kind("ome-plane", "tiff", "int32", "YX", (70, 81)),
    Kind("tiled", "tiff", "uint16", large=True),
    Kind("tiled-time", "tiff", "int32", "TZYX", (2, 3, 40, 35), large=True),
    Kind("tiled-probabilities", "tiff", axes="YX", shape=(33, 100), classes=2, large=True),
    Kind("one-tile", "tiff", axes="YX", shape=(9, 7), large=True),
    Kind("zarr", "ome-zarr", "uint16"),
    Kind("zarr-time", "ome-zarr", "int32", "TZYX", (2, 3, 40, 35)),
    Kind("zarr-plane-probabilities", "ome-zarr", axes="YX", shape=(33, 100), classes=2),
    Kind("zarr-time-probabilities", "ome-zarr", axes="TZYX", shape=(2, 2, 40, 35), classes=2),
]
ONE_OF_EACH = [kind for kind in KINDS if kind.name in ("imagej", "tiled", "zarr")]
Block = tuple[range, slice, slice]


@contextmanager
def small_parts(large: bool) -> Iterator[None]:
    """Let small images be stored as large ones are."""
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(tiled_tiff, "TILE", TILE))
        patches.enter_context(mock.patch.object(zarr_layout, "SMALLEST_LEVEL", TILE))
        if large:
            patches.enter_context(mock.patch.object(sinks, "LARGE_PLANE", 0))
        yield


@pytest.fixture(autouse=True)
def scale(request: pytest.FixtureRequest) -> Iterator[None]:
    kind = request.node.callspec.params.get("kind") if hasattr(request.node, "callspec") else None
    with small_parts(bool(kind and kind.large)):
        yield


def pixels_of(spec: SinkSpec, seed: int = 0) -> np.ndarray:
    """Return random pixels, planes first: `(Z, Y, X)` or `(Z, K, Y, X)`."""
    channels = (spec.classes,) if spec.classes else ()
    shape = (spec.planes, *channels, *spec.shape[-2:])
    rng = np.random.default_rng(seed)
    if spec.classes:
        return rng.random(shape, np.float32)
    limits = np.iinfo(spec.dtype)
    return rng.integers(limits.min, limits.max, shape, spec.dtype, endpoint=True)


def blocks_of(spec: SinkSpec, step: tuple[int, int, int]) -> list[Block]:
    """Cut a result into blocks; those of planes never span two volumes."""
    depth = spec.shape[-3] if len(spec.shape) > 2 else 1
    planes = [
        range(start + first, start + min(first + step[0], depth))
        for start in range(0, spec.planes, depth)
        for first in range(0, depth, step[0])
    ]
    sides = [
        [slice(start, min(start + side, size)) for start in range(0, size, side)]
        for side, size in zip(step[1:], spec.shape[-2:], strict=True)
    ]
    return list(itertools.product(planes, *sides))


def part(pixels: np.ndarray, block: Block) -> np.ndarray:
    planes, rows, columns = block
    return pixels[planes.start : planes.stop, ..., rows, columns]


def fill(path: Path, spec: SinkSpec, large: bool, blocks: list[Block], seed: int) -> None:
    """Write blocks, as one of several processes does."""
    pixels = pixels_of(spec, seed)
    with small_parts(large):
        sink = reopen_sink(path, spec)
        for block in blocks:
            sink.write(*block, part(pixels, block))
        sink.close()


def write_all(path: Path, spec: SinkSpec, seed: int = 0) -> np.ndarray:
    pixels = pixels_of(spec, seed)
    sink = create_sink(path, spec)
    for block in blocks_of(spec, (1, TILE, TILE)):
        sink.write(*block, part(pixels, block))
    sink.close()
    return pixels


def stored(path: Path, spec: SinkSpec) -> np.ndarray:
    """Read a result with the reference reader of its format; shape as of `pixels_of`."""
    if spec.format == "tiff":
        found = tifffile.imread(path)
    else:
        array: Any = zarr.open_array(path / "0", mode="r")
        names = [name.upper() for name in array.metadata.dimension_names]
        found = np.asarray(array[...]).transpose([names.index(axis) for axis in spec.stored_axes])
    channels = (spec.classes,) if spec.classes else ()
    return found.reshape(spec.planes, *channels, *spec.shape[-2:])


def result_of(folder: Path, spec: SinkSpec) -> Path:
    target = folder / f"result.{ENDINGS[spec.format]}"
    finish_sink(folder / "work", spec, target)
    return target


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=CONTEXT) as pool:
        yield pool


@st.composite
def cut_results(draw: st.DrawFn) -> tuple[Kind, SinkSpec, list[Block]]:
    """Draw a result, blocks that make it up, and their order."""
    axes = draw(st.sampled_from(["YX", "ZYX", "TYX", "TZYX"]))
    shape = (
        *(draw(st.integers(1, 4)) for _ in axes[:-2]),
        draw(st.integers(1, 90)),
        draw(st.integers(1, 90)),
    )
    kind = Kind(
        "drawn",
        draw(st.sampled_from(["tiff", "ome-zarr"])),
        draw(st.sampled_from(["uint8", "uint16", "int32"])),
        axes,
        shape,
        draw(st.sampled_from([0, 0, 1, 3])),
        draw(st.booleans()),
    )
    chunk = (draw(st.integers(1, 3)), draw(st.integers(5, 70)), draw(st.integers(5, 70)))
    step = tuple(draw(st.integers(1, 2)) * side for side in chunk)
    spec = replace(kind.spec, chunk=chunk)
    return kind, spec, draw(st.permutations(blocks_of(spec, (step[0], step[1], step[2]))))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=cut_results(), seed=st.integers(0, 99))
def test_disjoint_blocks_of_two_processes_in_any_order_make_up_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    processes: ProcessPoolExecutor,
    drawn: tuple[Kind, SinkSpec, list[Block]],
    seed: int,
) -> None:
    kind, spec, blocks = drawn
    folder = tmp_path_factory.mktemp("sink")
    with small_parts(kind.large):
        create_sink(folder / "work", spec).close()
        shares = [blocks[::2], blocks[1::2]]
        jobs = [processes.submit(fill, folder / "work", spec, kind.large, share, seed) for share in shares]
        for job in jobs:
            job.result()
        target = result_of(folder, spec)
    np.testing.assert_array_equal(stored(target, spec), pixels_of(spec, seed))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_our_own_reader_finds_pixels_axes_and_pixel_size(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    pixels = write_all(tmp_path / "work", spec)
    source = open_source(result_of(tmp_path, spec))
    assert sorted(source.axes) == sorted(spec.stored_axes)
    assert source.dtype == spec.stored_dtype
    whole = source.read((slice(None),) * len(source.axes))
    ordered = whole.transpose([source.axes.index(axis) for axis in spec.stored_axes])
    np.testing.assert_array_equal(ordered.reshape(pixels.shape), pixels)
    assert (source.pixel_size.y, source.pixel_size.x) == pytest.approx((0.2, 0.1))
    if "Z" in spec.axes:
        assert source.pixel_size.z == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_an_unknown_pixel_size_stays_unknown(tmp_path: Path, kind: Kind) -> None:
    spec = replace(kind.spec, pixel_size=PixelSize())
    write_all(tmp_path / "work", spec)
    assert open_source(result_of(tmp_path, spec)).pixel_size == PixelSize()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_nobody_wrote_is_0_and_the_last_word_counts(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    blocks = blocks_of(spec, (1, TILE, TILE))
    first, second = pixels_of(spec, 1), pixels_of(spec, 2)
    create_sink(tmp_path / "work", spec).close()
    sink = reopen_sink(tmp_path / "work", spec)
    expected = np.zeros_like(first)
    for block in blocks[::2]:
        sink.write(*block, part(first, block))
        part(expected, block)[...] = part(first, block)
    sink.close()
    sink = reopen_sink(tmp_path / "work", spec)
    for block in blocks[::4]:  # as after a resume, and with 0 where there was something else
        part(second, block)[..., ::2] = 0
        sink.write(*block, part(second, block))
        part(expected, block)[...] = part(second, block)
    sink.write(*blocks[0], np.zeros_like(part(first, blocks[0])))
    part(expected, blocks[0])[...] = 0
    sink.close()
    np.testing.assert_array_equal(stored(result_of(tmp_path, spec), spec), expected)


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_threads_may_write_at_once(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    pixels = pixels_of(spec)
    sink = create_sink(tmp_path / "work", spec)

    def write(block: Block) -> None:
        sink.write(*block, part(pixels, block))
        sink.flush()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, blocks_of(spec, (1, TILE, TILE))))
    sink.close()
    np.testing.assert_array_equal(stored(result_of(tmp_path, spec), spec), pixels)


def die_after_flush(folder: Path, flushed: int, written: int) -> None:
    with ExitStack() as stack:
        for kind in ONE_OF_EACH:
            spec, pixels = kind.spec, pixels_of(kind.spec)
            stack.enter_context(small_parts(kind.large))
            sink = reopen_sink(folder / kind.name, spec)
            for number, block in enumerate(blocks_of(spec, (1, TILE, TILE))[:written]):
                if number == flushed:
                    sink.flush()
                sink.write(*block, part(pixels, block))
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_flushed_survives_a_kill_and_the_rest_can_be_written_again(tmp_path: Path) -> None:
    for kind in ONE_OF_EACH:
        with small_parts(kind.large):
            create_sink(tmp_path / kind.name, kind.spec).close()
    process = CONTEXT.Process(target=die_after_flush, args=(tmp_path, 5, 7))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for kind in ONE_OF_EACH:
        spec, pixels, work = kind.spec, pixels_of(kind.spec), tmp_path / kind.name
        with small_parts(kind.large):
            sink = reopen_sink(work, spec)
            for block in blocks_of(spec, (1, TILE, TILE))[5:]:
                sink.write(*block, part(pixels, block))
            sink.close()
            finish_sink(work, spec, tmp_path / "result")
            np.testing.assert_array_equal(stored(tmp_path / "result", spec), pixels)
        remove(tmp_path / "result")


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_the_result_appears_at_once_and_alone_and_replaces_an_older_one(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    write_all(tmp_path / "work", spec, seed=1)
    target = result_of(tmp_path, spec)
    pixels = write_all(tmp_path / "work", spec, seed=2)
    assert not np.array_equal(stored(target, spec), pixels)
    for _ in range(2):  # finished again, as after a kill between the move and its note
        finish_sink(tmp_path / "work", spec, target)
        np.testing.assert_array_equal(stored(target, spec), pixels)
    assert list(tmp_path.iterdir()) == [target]
    if target.is_dir():
        assert sorted(path.name for path in target.iterdir()) == ["0", "1", "2", "zarr.json"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_result_takes_no_more_room_than_was_said(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    write_all(tmp_path / "work", spec)
    target = result_of(tmp_path, spec)
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    assert sum(max(path.stat().st_size, 512 * path.stat().st_blocks) for path in files) <= result_bytes(spec)


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_a_work_file_that_is_missing_or_cut_off_is_told(tmp_path: Path, kind: Kind) -> None:
    spec = kind.spec
    with pytest.raises(JobError, match="missing or cut off") as caught:
        reopen_sink(tmp_path / "work", spec)
    with pytest.raises(JobError, match="missing or cut off"):
        result_of(tmp_path, spec)
    assert "again" in caught.value.remedy
    create_sink(tmp_path / "work", spec).close()
    broken = tmp_path / "work"
    if broken.is_dir():
        broken = broken / "0" / "zarr.json"
    for size in (broken.stat().st_size // 2, 10, 0):
        os.truncate(broken, size)
        with pytest.raises(JobError, match="missing or cut off"):
            reopen_sink(tmp_path / "work", spec)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_AT: dict[str, Callable[[SinkSpec], Any]] = {
    "write": lambda spec: (
        mock.patch.object(os, "pwrite", side_effect=FULL)
        if spec.format == "tiff"
        else mock.patch("zarr.storage._local._put", side_effect=FULL)
    ),
    "flush": lambda spec: mock.patch.object(os, "fsync", side_effect=FULL),
}


@pytest.mark.parametrize("moment", FULL_AT)
@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_a_full_disk_is_told_and_the_work_goes_on_when_there_is_room(
    tmp_path: Path, kind: Kind, moment: str
) -> None:
    spec = kind.spec
    pixels, blocks = pixels_of(spec), blocks_of(spec, (1, TILE, TILE))
    sink = create_sink(tmp_path / "work", spec)
    sink.write(*blocks[0], part(pixels, blocks[0]))
    sink.flush()

    def write() -> None:
        sink.write(*blocks[1], part(pixels, blocks[1]))
        sink.flush()

    with FULL_AT[moment](spec), pytest.raises(JobError, match="No space left") as caught:
        write()
    assert "disk space" in caught.value.remedy
    for block in blocks[1:]:
        sink.write(*block, part(pixels, block))
    sink.close()
    with mock.patch.object(os, "replace", side_effect=FULL), pytest.raises(JobError, match="No space left"):
        result_of(tmp_path, spec)
    np.testing.assert_array_equal(stored(result_of(tmp_path, spec), spec), pixels)


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_a_full_disk_at_the_start_leaves_nothing_behind(tmp_path: Path, kind: Kind) -> None:
    with mock.patch.object(os, "fsync", side_effect=FULL), pytest.raises(JobError, match="No space left"):
        create_sink(tmp_path / "work", kind.spec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_memory_does_not_grow_with_the_image(tmp_path: Path, kind: Kind) -> None:
    block = np.ones((1, 256, 256), np.uint8)

    def peak(rows: int) -> int:
        spec = SinkSpec("YX", (rows, 256), block.dtype, SIZE, format=kind.format, chunk=(1, 256, 256))
        sink = create_sink(tmp_path / "work", spec)
        tracemalloc.start()
        for row in range(0, rows, 256):
            sink.write(range(1), slice(row, row + 256), slice(0, 256), block)
            sink.flush()
        sink.close()
        result_of(tmp_path, spec)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(256)  # what is imported and compiled the first time does not count
    few, many = peak(512), peak(4096)
    assert many < few + 2 * block.nbytes
