"""Mask2Former and DETR: every task learns, answers are read by the rules, weights come from the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_objects import blobs
from networks import check_any_size, check_stages

from segcore.errors import ConfigError, ModelError
from segcore.models.saved import read_weights, save_weights
from segcore.models.set_decoding import Answers, PanopticRule, class_maps, instances, object_maps, panoptic
from segcore.models.set_prediction import SetOptions, SetPrediction, build_set_prediction

SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}
HEAD = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32,
    "dim_feedforward": 32, "num_attention_heads": 4, "encoder_layers": 1, "decoder_layers": 3,
    "train_num_points": 256,
}  # fmt: skip
DETR = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 8, "decoder_attention_heads": 4, "dropout": 0.0,
}  # fmt: skip
BOTH = pytest.mark.parametrize("architecture", ["mask2former", "detr"])


def _options(architecture: str, task: str = "instance", **fields: Any) -> SetOptions:
    mask2former = architecture == "mask2former"
    size, backbone, head = ("", SWIN, HEAD) if mask2former else ("resnet18", {}, DETR)
    values = {"size": size, "queries": 12, "backbone": backbone, "head": head, **fields}
    return SetOptions(architecture, task, **values)


def _build(architecture: str, task: str = "instance", channels: int = 1, **fields: Any) -> SetPrediction:
    torch.manual_seed(0)
    return build_set_prediction(channels, 3, _options(architecture, task, **fields))


def _scene(size: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images, object numbers, and class indices: two classes of objects, brighter and darker."""
    labels = torch.from_numpy(np.stack([blobs(size, 4, seed, (7, 10)) for seed in range(2)]))
    kinds = torch.where(labels > 0, 1 + labels % 2, 0)
    torch.manual_seed(0)
    return torch.randn(2, 1, size, size) * 0.2 + torch.tensor([0.0, 2.0, -2.0])[kinds][:, None], labels, kinds


def _targets(task: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    image, labels, kinds = _scene()
    return (image, kinds, None) if task == "semantic" else (image, labels, kinds)


@BOTH
@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_it_takes_any_size_and_has_its_weights_in_stages(architecture: str, task: str) -> None:
    network = _build(architecture, task, 2)
    check_any_size(network, (33, 70))
    check_stages(network)
    assert network.bytes_per_pixel(4) > 0


@BOTH
@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_two_images_are_learned(architecture: str, task: str) -> None:
    network = _build(architecture, task)
    image, labels, kinds = _targets(task)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    losses = []
    for step in range(20 if architecture == "mask2former" else 12):
        loss = network.train()(image, labels, kinds)
        optimizer.zero_grad()
        loss.backward()
        if not step:
            idle = [
                name for name, one in network.named_parameters() if one.requires_grad and one.grad is None
            ]
            assert not idle, idle
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3]), losses


@BOTH
@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_what_lies_where_nobody_annotated_does_not_count(architecture: str, task: str) -> None:
    network = _build(architecture, task).train()
    image, labels, kinds = _targets(task)
    labels = labels.clone()
    labels[:, :20] = -1
    other = image.clone()
    other[:, :, :20] = 50 * torch.randn(2, 1, 20, 64)
    torch.manual_seed(1)
    first = network(image, labels, kinds)
    torch.manual_seed(1)
    assert torch.equal(first, network(other, labels, kinds))


@BOTH
@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_images_without_objects_and_of_odd_sizes_can_be_learned_from(architecture: str, task: str) -> None:
    network = _build(architecture, task).train()
    for value in (0, -1):
        loss = network(torch.randn(2, 1, 40, 50), torch.full((2, 40, 50), value, dtype=torch.int32))
        loss.backward()
        assert loss.isfinite()


def test_things_are_single_objects_and_stuff_is_one_per_class() -> None:
    network = _build("mask2former", "panoptic", things=(2,))
    labels = torch.tensor([[4, 4, 0, 0], [9, 9, 0, -1]])
    kinds = torch.tensor([[2, 2, 1, 0], [2, 2, 1, 0]])
    target = network.target(labels, kinds)
    assert target.classes.tolist() == [0, 1, 2, 2]
    assert target.masks.sum((1, 2)).tolist() == [1, 2, 2, 2]
    assert _build("mask2former").target(labels, kinds).classes.tolist() == [1, 1]


@BOTH
def test_objects_have_the_size_of_the_image(architecture: str) -> None:
    for task in ("instance", "panoptic"):
        network = _build(architecture, task, threshold=0.0).eval()
        for found in network.objects(torch.randn(2, 1, 45, 70)):
            assert found.labels.shape == (45, 70)
            assert found.count == len(found.classes) == found.labels.max()
    with pytest.raises(ConfigError, match="no objects"):
        _build(architecture, "semantic").objects(torch.randn(1, 1, 32, 32))


def _certain(kinds: list[int], classes: int, by: float = 9.0) -> torch.Tensor:
    """Return logits of queries that are certain of a class each; `classes` stands for none."""
    logits = torch.zeros(len(kinds), classes + 1)
    logits[torch.arange(len(kinds)), torch.tensor(kinds)] = by
    return logits


def _rectangles(*boxes: tuple[int, int, int, int], size: int = 16) -> torch.Tensor:
    masks = torch.full((len(boxes), size, size), -9.0)
    for mask, (top, bottom, left, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 9.0
    return masks


def test_instances_are_the_masks_the_more_certain_ones_first() -> None:
    masks = _rectangles((0, 4, 0, 4), (2, 6, 2, 6), (9, 12, 9, 12), (0, 16, 0, 16))
    classes = _certain([0, 1, 1, 2], 2)
    classes[1] *= 2
    found = instances(Answers(classes, masks, (16, 16)), (15, 14), 0.5)
    assert found.count == 3
    assert found.labels.shape == (15, 14)
    assert found.classes.tolist() == [2, 1, 2] or found.classes.tolist() == [2, 2, 1]
    sizes = np.bincount(found.labels.ravel())[1:]
    assert sizes[0] == 16  # of the two that overlap the certain one is whole
    assert sorted(sizes) == [9, 12, 16]
    assert (np.diff(found.scores) <= 0).all()


def test_panoptic_segments_cover_what_is_certain_and_stuff_is_one() -> None:
    masks = _rectangles((0, 16, 0, 8), (0, 16, 12, 16), (0, 4, 8, 12), (10, 14, 8, 12), (0, 4, 8, 11))
    classes = _certain([0, 0, 1, 1, 1], 2)
    classes[4] = 0.5 * classes[4]  # claims what another one is more certain of
    found = panoptic(Answers(classes, masks, (16, 16)), (16, 16), PanopticRule((0,)))
    assert found.classes.tolist() == [0, 1, 1]
    sizes = np.bincount(found.labels.ravel())
    assert sizes.tolist() == [16 * 16 - 192 - 32, 192, 16, 16]
    nothing = panoptic(Answers(_certain([2, 2], 2), masks[:2], (16, 16)), (16, 16), PanopticRule((0,)))
    assert nothing.count == 0
    assert not nothing.labels.any()


def test_maps_are_the_sums_and_the_most_certain_of_queries() -> None:
    torch.manual_seed(0)
    classes, masks = torch.randn(1, 5, 4), torch.randn(1, 5, 6, 7)
    probability, inside = classes.softmax(-1), masks.sigmoid()
    summed, most = class_maps(classes, masks), object_maps(classes, masks)
    for kind in range(3):
        parts = torch.stack([probability[0, query, kind] * inside[0, query] for query in range(5)])
        torch.testing.assert_close(summed[0, kind], parts.sum(0))
        torch.testing.assert_close(most[0, kind + 1], parts.amax(0))
    torch.testing.assert_close(most[:, 0], 1 - most[:, 1:].amax(1))


@BOTH
def test_it_comes_back_from_a_file(architecture: str, tmp_path: Path) -> None:
    network = _build(architecture).eval()
    save_weights(network, tmp_path / "weights.pth")
    with torch.device("meta"):
        other = _build(architecture)
    other.load_state_dict(read_weights(tmp_path / "weights.pth"), assign=True)
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), other.eval()(image))


@BOTH
def test_weights_of_the_library_are_taken_and_adapted(architecture: str, tmp_path: Path) -> None:
    origin = build_set_prediction(3, 8, _options(architecture, "panoptic"))
    origin.network.save_pretrained(tmp_path / "weights")  # type: ignore[operator]
    options = _options(architecture)
    for named in (tmp_path / "weights", tmp_path / "weights" / "model.safetensors"):
        taken = build_set_prediction(1, 2, options, str(named)).transferred
        assert taken is not None
        assert len(taken.adapted) == 1
        assert not taken.missing
        assert all("class" in name or "criterion" in name for name in taken.replaced)
    same = build_set_prediction(3, 8, _options(architecture, "panoptic"), str(tmp_path / "weights")).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(same(image), origin.eval()(image))


@BOTH
def test_what_is_not_there_is_named(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="switched off"):
        build_set_prediction(1, 2, _options(architecture), "someone/some-network")
    with pytest.raises(ModelError, match=r"no config\.json"):
        build_set_prediction(1, 2, _options(architecture), str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="transformers can read"):
        build_set_prediction(1, 2, _options(architecture), str(tmp_path))


def test_options_out_of_their_range_are_refused() -> None:
    for fields in ({"architecture": "unet"}, {"task": "depth"}, {"size": "b0"}, {"queries": 0}, {"share": 2}):
        with pytest.raises(ConfigError):
            SetOptions(**fields)  # type: ignore[arg-type]
