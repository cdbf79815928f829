"""Stacks of labels: every object a number of its own, slices nobody looked at, and work that goes on."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_objects import best_ious, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from known_objects import KnownObjects
from PIL import Image

from segcore.config import DataConfig
from segcore.data.collection import Collection, open_collection
from segcore.data.targets import LabelRule, number_plane, table_of
from segcore.errors import DataError
from segcore.events import Event, NoteEvent, Progress
from segcore.promptable.images import FOLDER, find_in_images
from segcore.promptable.kept import keep_numbers, kept_numbers
from segcore.promptable.promptable import Embedding, Everything
from segcore.promptable.stack import consecutive, numbering, plain_name, stack_names, write_stack
from segcore.tiling import IGNORE

GRID = Everything(side=12, least=10)


def write_images(folder: Path, count: int = 3) -> tuple[Path, np.ndarray]:
    """Write a stack whose grey values are the numbers of objects."""
    objects = np.stack([blobs(96, 5, seed, (8, 12)) for seed in range(count)]).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "cells.tif", objects, photometric="minisblack", metadata={"axes": "ZYX"})
    return folder / "cells.tif", objects


def opened(path: Path) -> Collection:
    return open_collection(DataConfig(images=str(path)), labelled=False)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.int32, (5, 6), elements=st.integers(0, 40)), st.integers(0, 1000))
def test_numbers_follow_each_other_and_objects_stay(numbers: np.ndarray, first: int) -> None:
    renumbered, count = consecutive(numbers, first)
    assert np.array_equal(renumbered > 0, numbers > 0)
    assert sorted(set(renumbered[numbers > 0].tolist())) == list(range(first + 1, first + count + 1))
    for number in np.unique(numbers[numbers > 0]):
        assert len(np.unique(renumbered[numbers == number])) == 1


def test_slices_nobody_looked_at_are_unlabelled_when_they_are_read(tmp_path: Path) -> None:
    path, objects = write_images(tmp_path)
    images = opened(path).open(0).images
    slices = {0: objects[0].astype(np.int32), 2: objects[2].astype(np.int32)}
    how = numbering([(images.count, slices.get)])
    assert (how.dtype, how.unlabelled) == (np.uint16, 65535)
    assert how.objects == sum(len(np.unique(objects[plane])) - 1 for plane in slices)
    write_stack(tmp_path / "labels.tif", images, slices.get, how)
    data = DataConfig(
        images=str(path), labels=str(tmp_path / "labels.tif"), labels_as="objects", unlabelled_value=65535
    )
    collection, rule = open_collection(data), LabelRule.of(data)
    assert (number_plane(collection, 0, 1, rule) == IGNORE).all()
    seen: list[int] = []
    for plane, expected in slices.items():
        found = number_plane(collection, 0, plane, rule)
        assert np.array_equal(found > 0, expected > 0)
        assert (best_ious(expected, found) == 1).all()
        seen += np.unique(found[found > 0]).tolist()
    assert len(seen) == len(set(seen)) == how.objects
    assert set(table_of(collection, rule).pixels) == {0, 1}


def test_many_objects_get_larger_numbers_and_pixels_their_size(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((2, 256, 256), np.uint8), photometric="minisblack", imagej=True,
        metadata={"axes": "ZYX", "unit": "um"}, resolution=(4.0, 4.0),
    )  # fmt: skip
    images = opened(tmp_path / "a.tif").open(0).images
    every = np.arange(256 * 256, dtype=np.int32).reshape(256, 256)
    how = numbering([(2, lambda plane: every)])
    assert (how.dtype, how.unlabelled, how.objects) == (np.uint32, None, 2 * 65535)
    write_stack(tmp_path / "labels.tif", images, lambda plane: every, how)
    written = tifffile.imread(tmp_path / "labels.tif")
    assert np.array_equal(np.unique(written), np.arange(2 * 65535 + 1))
    size = opened(tmp_path / "labels.tif").open(0).images.source.pixel_size
    assert size.x == pytest.approx(images.source.pixel_size.x)
    with pytest.raises(DataError, match="70000 objects"):
        keep_numbers(tmp_path / "many.png", np.array([[70000]]))


def test_numbers_are_kept_or_named_as_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "7.png"
    assert kept_numbers(path) is None
    numbers = np.array([[0, 65535, 3]], np.int32)
    keep_numbers(path, numbers)
    assert np.array_equal(kept_numbers(path), numbers)
    with monkeypatch.context() as patched:
        patched.setattr(Image, "MAX_IMAGE_PIXELS", 1)  # of 3: Pillow calls that an attack
        assert np.array_equal(kept_numbers(path), numbers)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="damaged"):
        kept_numbers(path)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.b.tif", "a.b"),
        ("P.d/3.ome.zarr", "P.d/3"),
        ("v.nii.gz", "v"),
        ("P/exp.2", "P/exp.2"),
        ("A.TIF", "A"),
    ],
)
def test_labels_are_named_like_their_image(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_all_images_of_a_folder_are_found_again_as_pairs(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name in ("A/1.tif", "A/2.tif", "B/1.tif"):
        write_images((folder / name).parent, 1)
        (folder / name).parent.joinpath("cells.tif").rename(folder / name)
    told: list[Event] = []
    stacks, how = find_in_images(opened(folder), KnownObjects(), GRID, tmp_path / "masks", report=told.append)
    assert how.unlabelled is None
    assert [path.relative_to(tmp_path / "masks").as_posix() for path in stacks] == [
        "A/1.tif", "A/2.tif", "B/1.tif",
    ]  # fmt: skip
    pairs = open_collection(DataConfig(images=str(folder), labels=str(tmp_path / "masks")))
    for number, entry in enumerate(pairs.entries):
        image, labels = pairs.open(number).images.read(0)[0], pairs.open(number).labels
        assert Path(entry.item.labels).name == Path(entry.item.images[0]).name
        assert labels is not None
        assert (best_ious(image.astype(np.int32), labels.read(0)[0].astype(np.int32)) > 0.7).all()
    progress = [event for event in told if isinstance(event, Progress)]
    assert [event.done for event in progress] == sorted({event.done for event in progress})
    assert progress[-1].done == progress[-1].total == 3 * GRID.side**2
    assert progress[-1].seconds_left == 0
    assert not (tmp_path / "masks" / FOLDER).exists()


def test_names_that_would_clash_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)[0].rename(tmp_path / "images" / "a.tif")
    shutil.copy(tmp_path / "images" / "a.tif", tmp_path / "images" / "a.ome.tif")
    with pytest.raises(DataError, match=r"labels a\.tif"):
        stack_names(opened(tmp_path / "images"))


class Interrupted(KnownObjects):
    """Is interrupted at a plane."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def embed(self, plane: np.ndarray) -> Embedding:
        """Return the plane itself, or be interrupted."""
        if self.embedded == self.planes:
            raise KeyboardInterrupt
        return super().embed(plane)


def test_what_was_done_before_an_interruption_is_not_done_again(tmp_path: Path) -> None:
    path, _ = write_images(tmp_path / "images")
    output, whole = tmp_path / "masks", tmp_path / "whole"
    with pytest.raises(KeyboardInterrupt):
        find_in_images(opened(path), Interrupted(2), GRID, output)
    assert not (output / "cells.tif").exists()
    network = KnownObjects()
    find_in_images(opened(path), network, GRID, output)
    assert network.embedded == 1
    find_in_images(opened(path), KnownObjects(), GRID, whole)
    assert np.array_equal(tifffile.imread(output / "cells.tif"), tifffile.imread(whole / "cells.tif"))


@pytest.mark.parametrize("what", ["network", "options", "image"])
def test_what_was_asked_otherwise_is_done_anew(tmp_path: Path, what: str) -> None:
    path, objects = write_images(tmp_path / "images")
    find = partial(find_in_images, output=tmp_path / "masks")
    with pytest.raises(KeyboardInterrupt):
        find(opened(path), Interrupted(2), GRID)
    if what == "image":
        tifffile.imwrite(path, objects[::-1], photometric="minisblack", metadata={"axes": "ZYX"})
    network = KnownObjects("another" if what == "network" else "known")
    find(opened(path), network, Everything(side=8) if what == "options" else GRID)
    assert network.embedded == 3


def test_small_objects_of_a_large_slice_are_found_in_pieces(tmp_path: Path) -> None:
    objects = blobs(256, 40, 0, (8, 12))
    tifffile.imwrite(tmp_path / "large.tif", objects.astype(np.uint8), photometric="minisblack")
    found = {}
    for tile in (0, 128):
        output = tmp_path / str(tile)
        (path,), _ = find_in_images(opened(tmp_path / "large.tif"), KnownObjects(), GRID, output, tile)
        found[tile] = best_ious(objects, tifffile.imread(path).astype(np.int32))
    assert (found[128] > 0.6).mean() > 0.95
    assert (found[128] > 0.6).sum() > (found[0] > 0.6).sum()
    told: list[Event] = []
    find_in_images(opened(tmp_path / "large.tif"), KnownObjects(), GRID, tmp_path / "small", 64, told.append)
    assert any(isinstance(event, NoteEvent) and "beyond the pieces" in event.text for event in told)


def test_objects_that_were_cut_before_an_interruption_are_told_of(tmp_path: Path) -> None:
    objects = np.stack([blobs(256, 40, 0, (8, 12)), np.zeros((256, 256), np.int32)]).astype(np.uint8)
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, objects, photometric="minisblack", metadata={"axes": "ZYX"})
    told: dict[str, list[str]] = {"whole": [], "again": []}

    def find(network: KnownObjects, name: str) -> None:
        def report(event: Event) -> None:
            told[name] += [event.text] if isinstance(event, NoteEvent) else []

        find_in_images(opened(path), network, GRID, tmp_path / name, 64, report)

    counter = KnownObjects()
    find(counter, "whole")
    with pytest.raises(KeyboardInterrupt):
        find(Interrupted(counter.embedded // 2), "again")
    find(KnownObjects(), "again")
    assert told["whole"]
    assert told["again"] == told["whole"]
