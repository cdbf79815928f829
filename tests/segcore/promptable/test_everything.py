"""All objects by prompts on a grid: good, stable and different masks only, and what is kept of embeddings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from drawn_objects import best_ious, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from known_objects import KnownObjects

from segcore.errors import ConfigError
from segcore.promptable.cache import EmbeddingCache, plane_key
from segcore.promptable.everything import boxes_of, find_everything, suppressed
from segcore.promptable.promptable import Everything, Prompt


@pytest.mark.parametrize("share", [(1.0, 1.0), (1.0, 0.75), (0.5, 1.0)])
def test_every_object_is_found_once(share: tuple[float, float]) -> None:
    labels = blobs(128, 12, 0, (8, 12))
    network = KnownObjects(share=share)
    found = find_everything(network, network.embed(labels))
    assert found.count == len(np.unique(labels)) - 1
    assert (best_ious(labels, found.labels) > 0.7).all()
    assert found.labels.dtype == np.int32
    assert np.allclose(found.scores, 0.95)


def test_options_decide_what_is_an_object() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[5:15, 5:15], labels[30:50, 20:55] = 1, 2
    network = KnownObjects()
    embedding = network.embed(labels)

    def count(**fields: float) -> int:
        return find_everything(network, embedding, Everything(**fields)).count  # type: ignore[arg-type]

    assert count() == 2
    assert count(iou=0.97, largest=0.9) == 0
    assert count(iou=0.97, largest=1.0) == 1  # the whole plane, which is certain enough
    assert count(least=300) == 1
    assert count(side=1) == 1  # the one point is in the larger object
    assert count(largest=0.1) == 1
    for fields in ({"side": 0}, {"iou": 1.1}, {"largest": 0}, {"least": 0}):
        with pytest.raises(ConfigError, match="between"):
            Everything(**fields)  # type: ignore[arg-type]


def test_a_plane_without_objects_has_none() -> None:
    network = KnownObjects()
    found = find_everything(network, network.embed(np.zeros((40, 50), np.uint8)))
    assert found.count == 0
    assert not found.labels.any()


BOXES = st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 9)] * 2), min_size=0, max_size=15).map(
    lambda sides: np.array([(t, left, t + h, left + w) for t, left, h, w in sides]).reshape(-1, 4)
)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.floats(0, 1))
def test_of_boxes_that_overlap_the_better_stays(boxes: np.ndarray, overlap: float) -> None:
    def iou(one: np.ndarray, other: np.ndarray) -> float:
        low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
        common = np.prod(np.maximum(high - low, 0))
        return float(common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common))

    kept = suppressed(boxes, overlap).tolist()
    for at in range(len(boxes)):
        better = [one for one in kept if one < at and iou(boxes[one], boxes[at]) > overlap + 1e-9]
        assert (at in kept) == (not better)


def test_boxes_hold_their_masks() -> None:
    masks = np.zeros((3, 9, 11), bool)
    masks[0, 2:5, 3:9], masks[1, 8, 10] = True, True
    assert boxes_of(masks).tolist()[:2] == [[2, 3, 5, 9], [8, 10, 9, 11]]
    top, left, bottom, right = boxes_of(masks)[2]
    assert (bottom - top) * (right - left) == 0


def test_an_embedding_is_made_once(tmp_path: Path) -> None:
    network, cache = KnownObjects(), EmbeddingCache(tmp_path / "kept")
    plane = np.arange(30, dtype=np.uint8).reshape(5, 6)
    first = cache.embed(network, plane)
    again = EmbeddingCache(tmp_path / "kept").embed(network, plane.copy())
    assert network.embedded == 1
    assert (first.key, first.size, first.share) == (again.key, again.size, again.share)
    assert all(np.array_equal(*pair) for pair in zip(first.features, again.features, strict=True))
    for other in (plane.T, plane.astype(np.uint16), plane + 1):
        assert plane_key(other, "known") != first.key
    assert plane_key(plane, "another") != first.key
    cache.embed(KnownObjects("another"), plane)
    assert len(list(cache.folder.iterdir())) == 2


def test_only_so_much_is_kept_and_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    network, cache = KnownObjects(), EmbeddingCache(tmp_path, limit=5000)
    planes = [np.full((20, 20), value, np.uint8) for value in range(6)]
    for at, plane in enumerate(planes):
        key = cache.embed(network, plane).key
        if path := next(tmp_path.glob(f"{key}*"), None):
            os.utime(path, ns=(at, at))  # some file systems count time in seconds
        assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= cache.limit
    assert 0 < len(list(tmp_path.iterdir())) < 6
    last = plane_key(planes[-1], network.key)
    assert cache.find(last) is not None
    (tmp_path / f"{last}.npz").write_bytes(b"cut off")
    made = network.embedded
    assert cache.embed(network, planes[-1]).size == (20, 20)
    assert network.embedded == made + 1


def test_what_cannot_be_kept_is_made_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    network = KnownObjects()
    assert EmbeddingCache(tmp_path / "file").embed(network, np.zeros((4, 4), np.uint8)).size == (4, 4)


def test_prompts_that_say_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="empty"):
        Prompt()
    with pytest.raises(ConfigError, match="label"):
        Prompt(((1, 2),), (2,))
    with pytest.raises(ConfigError, match="points"):
        Prompt(((1, 2),), ())
    with pytest.raises(ConfigError, match="box"):
        Prompt(box=(5, 5, 5, 9))
