"""What all instance heads promise, in 2d and 3d."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn_objects import best_ious, blobs, ellipse, ellipses, same_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segcore.errors import ConfigError, DataError
from segcore.postprocess.boundary import BoundaryDecoding
from segcore.postprocess.flows import FlowDecoding
from segcore.postprocess.heads import HEADS, InstanceHead, build_head
from segcore.postprocess.stars import StarDecoding
from segcore.tiling import IGNORE

EVERY = [(name, dimensions) for name in HEADS for dimensions in (2, 3)]
LEAST_IOU = {"boundary": 0.9, "stars": 0.7, "flows": 0.9}
"""Stars are polygons: those of small objects, and of what the border cuts, are coarse."""
every_head = pytest.mark.parametrize(("name", "dimensions"), EVERY)


def _head(name: str, dimensions: int) -> InstanceHead:
    return build_head(name, dimensions, **({"rays": 48} if (name, dimensions) == ("stars", 3) else {}))


def _decoded(head: InstanceHead, labels: np.ndarray, options: Any = None) -> np.ndarray:
    return head.decode(head.ideal(head.encode(labels)), options)


def _one(dimensions: int) -> np.ndarray:
    shape, centre = (31, 37, 41)[-dimensions:], (13, 17, 20)[-dimensions:]
    return ellipse(shape, centre, (9, 11, 10)[-dimensions:]).astype(np.int32) * 7


@pytest.mark.parametrize("name", HEADS)
@given(labels=ellipses())
@settings(deadline=None, max_examples=15)
def test_objects_survive_in_planes(name: str, labels: np.ndarray) -> None:
    found = _decoded(_head(name, 2), labels)
    assert found.max() == len(np.unique(labels[labels > 0]))
    assert (best_ious(labels, found) >= LEAST_IOU[name]).all()


@pytest.mark.parametrize("name", HEADS)
@given(data=st.data())
@settings(deadline=None, max_examples=5)
def test_objects_survive_in_volumes(name: str, data: st.DataObject) -> None:
    labels = data.draw(ellipses(dimensions=3, most=3, whole=name == "stars"))
    found = _decoded(build_head(name, 3), labels)
    assert found.max() == len(np.unique(labels[labels > 0]))
    assert (best_ious(labels, found) >= {"stars": 0.6}.get(name, 0.9)).all()


@every_head
def test_numbers_of_objects_mean_nothing(name: str, dimensions: int) -> None:
    labels = _one(dimensions)
    labels[..., :4, :5] = 3
    renumbered = np.array([0, 0, 0, 70_000, 0, 0, 0, 12], np.int64)[labels]
    head = _head(name, dimensions)
    assert np.array_equal(head.encode(labels), head.encode(renumbered))
    huge = np.where(labels == 7, 2**40, labels.astype(np.int64))
    assert np.array_equal(head.encode(labels), head.encode(huge))


@every_head
def test_no_target_where_nobody_annotated(name: str, dimensions: int) -> None:
    labels = _one(dimensions)
    labels[..., 15:, :] = IGNORE
    target = _head(name, dimensions).encode(labels)
    assert target.dtype == np.float32
    assert np.array_equal(target[0] == IGNORE, labels == IGNORE)
    assert (target[1:][:, labels == IGNORE] == 0).all()


@every_head
def test_loss_and_gradient_are_blind_where_nobody_annotated(name: str, dimensions: int) -> None:
    head, labels = _head(name, dimensions), _one(dimensions)
    labels[..., 15:, :] = IGNORE
    hidden = torch.from_numpy(labels == IGNORE)
    target = torch.from_numpy(head.encode(labels))[None]
    output = torch.randn((1, head.channels, *labels.shape), generator=torch.Generator().manual_seed(0))
    losses = []
    for value in (0.0, 1e4, float("inf")):
        changed = output.clone()
        changed[:, :, hidden] = value
        changed.requires_grad_()
        loss = head.loss(changed, target)
        if value != float("inf"):
            loss.backward()
            assert changed.grad is not None
            assert (changed.grad[:, :, hidden] == 0).all()
            assert changed.grad.isfinite().all()
            assert changed.grad.abs().sum() > 0
        losses.append(loss.item())
    assert losses[0] == losses[1] == losses[2]


@every_head
def test_nothing_annotated_is_no_loss(name: str, dimensions: int) -> None:
    head = _head(name, dimensions)
    target = torch.from_numpy(head.encode(np.full((5, 6, 7)[-dimensions:], IGNORE)))[None]
    output = torch.ones((1, head.channels, *target.shape[2:]), requires_grad=True)
    loss = head.loss(output, target)
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None
    assert (output.grad == 0).all()


@every_head
def test_loss_of_a_shared_batch_is_that_of_the_batch(name: str, dimensions: int) -> None:
    head, labels = _head(name, dimensions), _one(dimensions)
    other = labels.copy()
    other[..., 10:, :] = IGNORE
    target = torch.from_numpy(np.stack([head.encode(labels), head.encode(other)]))
    output = torch.randn((2, head.channels, *labels.shape), generator=torch.Generator().manual_seed(1))
    shares: list[list[torch.Tensor]] = [[], []]
    for at, share in enumerate(shares):
        head.loss(
            output[at : at + 1], target[at : at + 1], lambda part, kept=share: kept.append(part) or part
        )
    sums = iter([first + second for first, second in zip(*shares, strict=True)])
    shared = head.loss(output[:1], target[:1], lambda part: next(sums))
    assert shared.item() == pytest.approx(head.loss(output, target).item(), rel=1e-5)


@every_head
def test_training_on_the_output_finds_the_objects(name: str, dimensions: int) -> None:
    """What makes the loss small decodes to the objects: loss, activation and decoding fit together."""
    head, labels = _head(name, dimensions), _one(dimensions)[..., ::2, ::2]
    target = torch.from_numpy(head.encode(labels))[None]
    output = torch.zeros((1, head.channels, *labels.shape), requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.8)
    first = head.loss(output, target).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = head.loss(output, target)
        loss.backward()
        optimizer.step()
    assert loss.item() < first
    found = head.decode(head.activate(output.detach())[0].numpy())
    assert found.max() == 1
    assert best_ious(labels, found).min() > 0.6


@every_head
@pytest.mark.parametrize("content", ["empty", "full", "one pixel", "unannotated"])
def test_strange_images(name: str, dimensions: int, content: str) -> None:
    labels = np.zeros((5, 9, 7)[-dimensions:], np.int32)
    if content == "full":
        labels[:] = 4
    elif content == "one pixel":
        labels[(2,) * dimensions] = 4
    elif content == "unannotated":
        labels[:] = IGNORE
    head = _head(name, dimensions)
    target = head.encode(labels)
    assert np.isfinite(target).all()
    found = head.decode(head.ideal(target), FlowDecoding(least=1) if name == "flows" else None)
    assert found.dtype == np.int32
    if content in ("empty", "unannotated"):
        assert (found == 0).all()
    elif content == "full":
        assert (found == 1).mean() > (0.5 if name == "stars" else 0.99)  # a box is not the shape of a star
    elif name != "flows":  # its objects are sinks at which some pixels meet
        assert np.array_equal(found > 0, labels > 0)


@every_head
@pytest.mark.parametrize("size", [1, 2])
def test_images_of_a_pixel(name: str, dimensions: int, size: int) -> None:
    head = _head(name, dimensions)
    labels = np.zeros((size,) * dimensions, np.uint8)
    labels[(0,) * dimensions] = 1
    assert _decoded(head, labels).shape == labels.shape


@pytest.mark.parametrize(("name", "dimensions"), [entry for entry in EVERY if entry != ("stars", 3)])
@given(data=st.data())
@settings(deadline=None, max_examples=8)
def test_flips_commute_with_encoding(name: str, dimensions: int, data: st.DataObject) -> None:
    labels = data.draw(ellipses(dimensions=dimensions, most=3))
    axis = data.draw(st.integers(0, dimensions - 1))
    head = _head(name, dimensions)
    maps = head.ideal(head.encode(labels))
    flipped = head.ideal(head.encode(np.flip(labels, axis)))
    np.testing.assert_allclose(head.flip(maps, axis), flipped, atol=1e-3)


def test_rays_without_mirror_images_are_refused() -> None:
    for head in (build_head("stars", 3), build_head("stars", 2, rays=30)):
        with pytest.raises(ConfigError, match="mirror"):
            head.flip(np.zeros((head.channels, 4, 4, 4)[: 1 + head.dimensions]), 0)


@pytest.mark.parametrize("name", HEADS)
def test_touching_objects_stay_two(name: str) -> None:
    labels = np.zeros((40, 60), np.uint16)
    labels[8:30, 10:30], labels[8:30, 30:52] = 1, 2
    found = _decoded(_head(name, 2), labels)
    assert found.max() == 2
    assert best_ious(labels, found).min() > 0.85


@pytest.mark.parametrize("name", HEADS)
def test_many_objects_survive(name: str) -> None:
    labels = blobs(200, 70, 0)
    found = _decoded(_head(name, 2), labels)
    assert found.max() == labels.max()
    assert best_ious(labels, found).min() > 0.7


@pytest.mark.parametrize("name", HEADS)
def test_small_objects_are_left_out_if_asked(name: str) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[3:9, 3:9], labels[15:35, 15:35] = 1, 2
    options = {"boundary": BoundaryDecoding, "stars": StarDecoding, "flows": FlowDecoding}[name]
    assert same_objects(
        _decoded(_head(name, 2), labels, options(least=100)) > 0,
        _decoded(_head(name, 2), np.where(labels == 2, labels, 0)) > 0,
    )


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.float32), np.zeros(4, np.int32)])
@every_head
def test_what_is_no_label_image_is_refused(name: str, dimensions: int, labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="whole numbers"):
        _head(name, dimensions).encode(labels)


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="boundary"):
        build_head("snakes")
    for make in (
        lambda: build_head("stars", rays=3),
        lambda: build_head("flows", 4),
        lambda: build_head("boundary", anisotropy=0.0),
        lambda: StarDecoding(overlap=1.5),
        lambda: FlowDecoding(steps=0),
        lambda: BoundaryDecoding(prominence=0),
    ):
        with pytest.raises(ConfigError, match="between"):
            make()


@pytest.mark.parametrize("name", HEADS)
def test_small_mistakes_of_a_network_change_no_object(name: str) -> None:
    labels = blobs(120, 20, 2, (7, 12))
    head = _head(name, 2)
    maps = head.ideal(head.encode(labels))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=maps.shape), (0, 1, 1))
    noise *= 0.05 / noise.std()
    noise[1:] *= 20 if name == "stars" else 1  # distances in px: wrong by one
    found = head.decode((maps + noise).astype(np.float32))
    assert found.max() == labels.max()
    assert best_ious(labels, found).min() > 0.65
