"""Mask R-CNN: torchvision's network by its names, on any image, with objects that do not overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_objects import best_ious, blobs
from networks import check_any_size, check_stages
from torchvision.models import detection, resnet18
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segcore.config import ModelConfig
from segcore.errors import ConfigError, ModelError
from segcore.models.detector_parts import crop_of
from segcore.models.detector_weights import WEIGHTS, fetch_file
from segcore.models.mask_rcnn import MaskRCNN, MaskRCNNOptions, build_mask_rcnn
from segcore.models.measured import built
from segcore.models.object_targets import object_target
from segcore.models.saved import read_weights, save_weights
from segcore.training.optim import freeze, set_training_mode

SMALL = MaskRCNNOptions(backbone="resnet18", features=32, hidden=64, smallest=8, enlarge=1, threshold=0.3)


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


def _scene(count: int = 2, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images on which objects are bright, and their numbers."""
    labels = torch.from_numpy(np.stack([blobs(size, 5, seed, (6, 9)) for seed in range(count)]))
    return torch.randn(count, 1, size, size) * 0.2 + 2 * (labels > 0)[:, None], labels


def _targets(labels: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Return what the library learns from."""
    found = [object_target(label) for label in labels]
    return [{"boxes": one.boxes, "labels": one.classes, "masks": one.masks.to(torch.uint8)} for one in found]


def _loss(network: MaskRCNN, image: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)  # some proposals are drawn by lot
    return network.train()(image, labels)


@pytest.mark.parametrize("version", [1, 2])
def test_arrays_are_called_as_in_the_library(version: int) -> None:
    build = detection.maskrcnn_resnet50_fpn if version == 1 else detection.maskrcnn_resnet50_fpn_v2
    with torch.device("meta"):
        theirs = built(lambda: build(weights=None, weights_backbone=None, num_classes=91))
        ours = build_mask_rcnn(3, 91, MaskRCNNOptions(version=version)).network
    shapes = [{name: array.shape for name, array in one.state_dict().items()} for one in (theirs, ours)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("version", [1, 2])
def test_it_takes_any_size_and_has_its_weights_in_stages(version: int) -> None:
    network = build_mask_rcnn(2, 3, MaskRCNNOptions(**{**vars(SMALL), "version": version}))
    check_any_size(network, (33, 70))
    check_stages(network)
    assert network.bytes_per_pixel(4) > 0


def test_two_images_are_learned_by_heart() -> None:
    network = build_mask_rcnn(1, 2, SMALL)
    image, labels = _scene()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(40):
        loss = network.train()(image, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5]), losses
    for found, label in zip(network.eval().objects(image), labels.numpy(), strict=True):
        assert found.labels.shape == label.shape
        assert np.mean(best_ious(label, found.labels) > 0.5) >= 0.6


def test_what_lies_where_nobody_annotated_does_not_count() -> None:
    network = build_mask_rcnn(1, 2, SMALL)
    image, labels = _scene()
    labels[:, :, :20] = -1
    other = image.clone()
    other[:, :, :, :20] = torch.randn(2, 1, 64, 20) * 30
    assert torch.equal(_loss(network, image, labels), _loss(network, other, labels))


@pytest.mark.parametrize("enlarge", [1.0, 1.5])
@pytest.mark.parametrize("label", [0, -1])
def test_images_without_objects_can_be_learned_from(label: int, enlarge: float) -> None:
    network = build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "enlarge": enlarge, "version": 2}))
    image, labels = _scene()
    labels[0] = label
    for given in (labels, labels[:1].expand(2, -1, -1)):
        loss = _loss(network, image, given)
        loss.backward()
        assert loss.isfinite()
    blank = network.eval().objects(torch.zeros(1, 1, 40, 40))
    assert blank[0].labels.shape == (40, 40)


def test_objects_have_the_size_of_the_image_however_it_is_enlarged() -> None:
    network = build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "enlarge": 2.0, "threshold": 0.0}))
    (found,) = network.eval().objects(torch.randn(1, 1, 45, 50))
    assert found.labels.shape == (45, 50)
    assert found.count == found.labels.max() <= SMALL.most
    assert (np.diff(found.scores) <= 0).all()


def test_masks_are_pasted_as_in_the_library() -> None:
    boxes = torch.rand(20, 4) * 30
    boxes[:, 2:] += boxes[:, :2] + 1
    masks = torch.rand(20, 1, 28, 28)
    pasted = paste_masks_in_image(masks, boxes, (100, 110))[:, 0]
    for mask, box, whole in zip(masks[:, 0], boxes, pasted, strict=True):
        filled, (top, left) = crop_of(mask, box)
        drawn = torch.zeros(140, 150)
        drawn[20 + top : 20 + top + filled.shape[0], 20 + left : 20 + left + filled.shape[1]] = filled
        torch.testing.assert_close(drawn[20:120, 20:130], whole)


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    network = build_mask_rcnn(1, 2, SMALL).eval()
    save_weights(network, tmp_path / "weights.pth")
    with torch.device("meta"):
        other = build_mask_rcnn(1, 2, SMALL)
    other.load_state_dict(read_weights(tmp_path / "weights.pth"), assign=True)
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), other.eval()(image))


def test_weights_are_taken_and_adapted(tmp_path: Path) -> None:
    origin = build_mask_rcnn(3, 7, SMALL)
    state = origin.network.state_dict()
    # As the files of torchvision's earlier versions call them, and those of COCO are such files.
    renamed = {"rpn.head.conv.0.0": "rpn.head.conv", "mask_head.0.0": "mask_head.mask_fcn1"}
    old = {}
    for name, array in state.items():
        for now, before in renamed.items():
            name = name.replace(now, before)
        old[name] = array
    torch.save(old, tmp_path / "old.pth")
    network = build_mask_rcnn(1, 2, SMALL, str(tmp_path / "old.pth"))
    taken = network.transferred
    assert taken is not None
    assert taken.adapted == ("backbone.body.conv1.weight",)
    assert all("predictor" in name for name in taken.replaced)
    assert not taken.missing
    ours = network.network.state_dict()
    for name in ("rpn.head.conv.0.0.weight", "roi_heads.mask_head.0.0.weight"):
        assert torch.equal(ours[name], state[name])
    with pytest.raises(ModelError, match="another size"):
        build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "features": 64}), str(tmp_path / "old.pth"))


def test_the_weights_of_a_classifier_go_into_the_resnet(tmp_path: Path) -> None:
    classifier = resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "resnet.pth")
    network = build_mask_rcnn(3, 2, SMALL, str(tmp_path / "resnet.pth"))
    body = network.network.backbone.body  # type: ignore[union-attr]
    assert torch.equal(body["layer3"][0].conv1.weight, classifier.layer3[0].conv1.weight)


def test_weights_of_a_wider_network_name_the_features_to_set(tmp_path: Path) -> None:
    wide = build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "features": 64}))
    torch.save(wide.network.state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ModelError, match="another size") as refused:
        build_mask_rcnn(1, 2, SMALL, str(tmp_path / "wide.pth"))
    assert "model.features to 16" in refused.value.remedy
    other = MaskRCNNOptions(**{**vars(SMALL), "features": 64, "hidden": 32})
    with pytest.raises(ModelError, match="another size") as refused:
        build_mask_rcnn(1, 2, other, str(tmp_path / "wide.pth"))
    assert "version and the backbone" in refused.value.remedy


@pytest.mark.parametrize("stages", [["head"], ["proposals"], ["proposals", "head"]])
def test_what_is_frozen_still_has_its_say_in_the_loss(stages: list[str]) -> None:
    network = build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "version": 2}))
    image, labels = _scene()
    torch.manual_seed(1)
    network.train()
    said = set(network.network(list(image), _targets(labels)))
    model = ModelConfig(freeze=stages)
    freeze(network, model)
    set_training_mode(network, model)
    losses = network.network(list(image), _targets(labels))
    assert set(losses) == said
    assert len(said) == 5
    before = {name: array.clone() for name, array in network.state_dict().items()}
    network(image, labels).backward()
    parts = {"proposals": "network.rpn.", "head": "network.roi_heads."}
    frozen = tuple(parts[stage] for stage in stages)
    assert all(weight.grad is None for name, weight in network.named_parameters() if name.startswith(frozen))
    same = {name for name, array in network.state_dict().items() if torch.equal(array, before[name])}
    assert all(name in same for name in before if name.startswith(frozen)), "statistics of batches stay, too"
    assert any(name not in same for name in before)


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(ModelError, match="switched off"):
        build_mask_rcnn(1, 2, SMALL, "imagenet")
    with pytest.raises(ModelError, match="resnet50, version 1"):
        build_mask_rcnn(1, 2, SMALL, "coco")
    with pytest.raises(ModelError, match="no weights"):
        build_mask_rcnn(1, 2, SMALL, "missing.pth")
    with pytest.raises(ConfigError, match="between 1 and 2"):
        MaskRCNNOptions(version=3)
    with pytest.raises(ConfigError, match="resnet18"):
        MaskRCNNOptions(backbone="vgg16")


def test_what_is_there_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = WEIGHTS["imagenet"]["resnet18", 1]
    kept = tmp_path / "checkpoints" / url.rpartition("/")[2]
    kept.parent.mkdir()
    kept.write_bytes(b"anything")
    assert fetch_file(url) == kept


def test_larger_images_have_as_many_times_more_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    from segcore.models import mask_rcnn

    monkeypatch.setattr(mask_rcnn, "AREA", 32 * 32)
    network = build_mask_rcnn(1, 2, MaskRCNNOptions(**{**vars(SMALL), "most": 2, "threshold": 0.0})).eval()
    for size, most in ((32, 2), (64, 8), (32, 2)):
        found = network._found(torch.randn(1, 1, size, size))[0]
        assert len(found["scores"]) == most


def test_the_first_image_decides_nothing() -> None:
    image = torch.randn(1, 1, 64, 64)
    fresh, used = (build_mask_rcnn(1, 2, SMALL).eval() for _ in range(2))
    used.load_state_dict(fresh.state_dict())
    used.objects(torch.randn(1, 1, 45, 33))
    (expected,), (found,) = fresh.objects(image), used.objects(image)
    assert np.array_equal(expected.labels, found.labels)
    assert np.array_equal(expected.scores, found.scores)
