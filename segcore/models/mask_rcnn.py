"""Mask R-CNN of torchvision: boxes are proposed, judged, and filled with a mask.

He et al. 2017 (arXiv 1703.06870). Version 2 has the deeper heads and normalisations of Li et al. 2021 (arXiv
2111.11429).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN as Library
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops.poolers import initLevelMapper

from segcore.errors import ConfigError, ModelError
from segcore.models.detector_parts import AsItIs, crop_of
from segcore.models.detector_weights import WEIGHTS, read_detector
from segcore.models.encoder_weights import Transfer, transfer
from segcore.models.measured import built
from segcore.models.object_targets import cover, object_target
from segcore.models.painting import Objects, Painter, overlap
from segcore.models.segmenter import Segmenter

HALO = 128
"""Px that a tile reads around what it keeps: more than most objects are long."""
LEVELS = 5
"""Levels of the pyramid, each with boxes of twice the size of the one before."""
WIDER = 4
"""Feature maps of the pyramid for each of `model.features`."""
PYRAMID = (2, 3, 4, 5)
"""How often the levels are halved that boxes are read from."""
RATIOS = (0.5, 1.0, 2.0)
"""Shapes of the boxes that proposals are made from, height over width."""
POOLED = 7
"""Rows and columns of features that a box is judged by."""
FLOATS = 290
"""About so many numbers per px of the enlarged image live at once while it predicts, as was seen."""
AREA = 512 * 512
"""Px of an image that the number of objects is meant for; larger ones have as many times more."""
PROPOSED = 1000
"""Boxes that are judged in as many px."""
TINY = 1e-6
"""Least probability in the maps, whose logarithm is taken."""


@dataclass(frozen=True)
class MaskRCNNOptions:
    """How a Mask R-CNN is built, and what becomes an object.

    Parameters
    ----------
    version : int
        1 as in the paper, or 2: better, half slower.
    backbone : str
        A ResNet of torchvision, for example resnet50 or resnet18.
    features, hidden : int
        Feature maps of the pyramid, and numbers by which a box is judged.
    smallest : float
        Side of the smallest boxes that proposals are made from, px, 2 to 512; others are up to 16 times as
        long.
    enlarge : float
        How much the image is enlarged first, 0.25 to 8: masks have a quarter of its resolution.
    most : int
        Objects per image, 1 to 10000; of one larger than 512 × 512 px as many times more.
    threshold : float
        Least score of an object, 0 to 1.
    overlap : float
        Of boxes that have more of their union in common, 0 to 1, only the most certain one stays.
    """

    version: int = 1
    backbone: str = "resnet50"
    features: int = 256
    hidden: int = 1024
    smallest: float = 16.0
    enlarge: float = 2.0
    most: int = 300
    threshold: float = 0.5
    overlap: float = 0.5

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        ranges = {
            "version": (1, 2),
            "smallest": (2, 512),
            "enlarge": (0.25, 8),
            "most": (1, 10_000),
            "threshold": (0, 1),
            "overlap": (0, 1),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name} of Mask R-CNN is {getattr(self, name):g}.",
                    f"It must be between {low} and {high}.",
                )
        if not (self.backbone.startswith("resnet") and hasattr(resnet, self.backbone)):
            raise ConfigError(
                f"{self.backbone} is no ResNet of torchvision.",
                "Use resnet18, resnet34, resnet50 or resnet101.",
            )


class MaskRCNN(Segmenter):
    """The network of torchvision, which takes images as this program normalises them.

    With labels it answers the loss, without them maps as any other network; `objects` are what it is for.

    Parameters
    ----------
    channels, classes : int
        Of the image; background and the classes of objects.
    options : MaskRCNNOptions
        Its size, and what becomes an object.
    """

    transferred: Transfer | None = None
    """What was taken from the pretrained weights, where there were some."""

    def __init__(self, channels: int, classes: int, options: MaskRCNNOptions) -> None:
        super().__init__(channels, classes)
        self.options = options
        self.network: nn.Module = built(lambda: _network(channels, classes, options))
        self.divisors, self.receptive_radii = (32, 32), (HALO, HALO)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per px; always in float32, see `forward`."""
        return int(4 * FLOATS * self.options.enlarge**2 + 4 * 3 * self.classes)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the parts of the ResNet, the pyramid, what proposes boxes, what judges and fills them."""
        network: Any = self.network
        body = network.backbone.body
        stem = ("encoder stem", nn.ModuleList([body["conv1"], body["bn1"]]))
        parts = [(f"encoder {number}", body[f"layer{number}"]) for number in range(1, 5)]
        judges = network.roi_heads
        return [
            stem,
            *parts,
            ("decoder", network.backbone.fpn),
            # Not what calls them: in evaluation mode, as frozen parts are, that would answer no loss.
            ("proposals", network.rpn.head),
            (
                "head",
                nn.ModuleList(
                    [judges.box_head, judges.box_predictor, judges.mask_head, judges.mask_predictor]
                ),
            ),
        ]

    def forward(self, image: Tensor, labels: Tensor | None = None, kinds: Tensor | None = None) -> Tensor:
        """Return logits `B K Y X` for images `B C Y X`; with labels the loss, a scalar.

        It is the sum of the five losses of the paper: whether a proposal is an object, and where; its class,
        its box and its mask. All is float32: boxes need more digits than numbers of two bytes have. Without
        labels it must be in evaluation mode.

        Parameters
        ----------
        image : Tensor
            `B C Y X`, of any size.
        labels : Tensor, optional
            `B Y X`, object numbers; 0 is background, negative where nobody annotated.
        kinds : Tensor, optional
            `B Y X`, class indices; without them all objects are of class 1.
        """
        with torch.autocast(image.device.type, enabled=False):
            if labels is None:
                return super().forward(image.float())
            return self._loss(cover(image.float(), labels), labels, kinds)

    def _loss(self, image: Tensor, labels: Tensor, kinds: Tensor | None) -> Tensor:
        targets = []
        for number, label in enumerate(labels):
            found = object_target(label, None if kinds is None else kinds[number])
            masks = found.masks.to(torch.uint8)
            targets.append({"boxes": found.boxes, "labels": found.classes, "masks": masks})
        return torch.stack(list(self.network(list(image), targets).values())).sum()

    def aligned(self, image: Tensor) -> Tensor:
        """Return logits of how certainly a pixel belongs to an object of every class, or to none."""
        maps = image.new_zeros(len(image), self.classes, *image.shape[2:])
        for found, certain in zip(self._found(image), maps, strict=True):
            for mask, box, score, kind in _sorted(found):
                filled, corner = crop_of(mask, box)
                inside, within = overlap(corner, tuple(filled.shape), tuple(certain.shape[1:]))
                certain[kind][inside] = torch.maximum(certain[kind][inside], score * filled[within])
        maps[:, 0] = 1 - maps[:, 1:].amax(1)
        return maps.clamp(min=TINY).log()

    @torch.no_grad()
    def objects(self, image: Tensor, least: int = 1) -> list[Objects]:
        """Return the objects of images `B C Y X`, in evaluation mode; each pixel belongs to one at most.

        Parameters
        ----------
        least : int
            Fewest px of an object.
        """
        with torch.autocast(image.device.type, enabled=False):
            found = self._found(image.float())
        return [self._drawn(one, tuple(image.shape[2:]), least) for one in found]

    def _found(self, image: Tensor) -> list[dict[str, Tensor]]:
        """Return what the library finds: as much in a large image as in parts of it."""
        network: Any = self.network
        times = max(1.0, math.prod(image.shape[2:]) / AREA)
        network.roi_heads.detections_per_img = math.ceil(self.options.most * times)
        for kept in (network.rpn._pre_nms_top_n, network.rpn._post_nms_top_n):
            kept["testing"] = math.ceil(PROPOSED * times)
        found: list[dict[str, Tensor]] = network(list(image))
        return found

    def _drawn(self, found: dict[str, Tensor], shape: tuple[int, ...], least: int) -> Objects:
        painter = Painter((shape[0], shape[1]), least=least)
        for mask, box, score, kind in _sorted(found):
            filled, corner = crop_of(mask, box)
            painter.add((filled > 0.5).cpu().numpy(), corner, score, kind)
        return painter.objects()


def build_mask_rcnn(
    channels: int, classes: int, options: MaskRCNNOptions | None = None, pretrained: str = ""
) -> MaskRCNN:
    """Build a Mask R-CNN.

    Parameters
    ----------
    channels, classes : int
        Of the image; background and the classes of objects.
    options : MaskRCNNOptions, optional
        Its size, and what becomes an object.
    pretrained : str
        Weights to begin with: none (""), torchvision's of COCO ("coco") or of the ResNet alone ("imagenet"),
        a file, or a hub id. The first convolution is adapted to the channels, what names classes begins anew.

    Raises
    ------
    ModelError
        The weights are not there, or are those of another network.
    """
    options = options or MaskRCNNOptions()
    result = MaskRCNN(channels, classes, options)
    if pretrained:
        result.transferred = _load(result, pretrained)
    return result


def _load(result: MaskRCNN, pretrained: str) -> Transfer:
    options, network = result.options, result.network
    if pretrained in WEIGHTS and (options.backbone, options.version) not in WEIGHTS[pretrained]:
        known = [f"{name}, version {version}" for name, version in WEIGHTS[pretrained]]
        raise ModelError(
            f"torchvision has no {pretrained} weights of a Mask R-CNN with {options.backbone}, version "
            f"{options.version}.",
            f"There are some for {'; '.join(known)}.",
        )
    state, source = read_detector(pretrained, options.backbone, options.version)
    head = state.get("roi_heads.box_predictor.cls_score.weight")
    if head is None:  # a classifier: the ResNet alone
        body: Any = network.backbone.body  # type: ignore[union-attr]
        return transfer({name: weight for name, weight in state.items() if name[:3] != "fc."}, body, source)
    # The library itself knows how its layers were called in files of its earlier versions.
    reference = _network(state["backbone.body.conv1.weight"].shape[1], len(head), options)
    try:
        report = reference.load_state_dict(state, strict=False)
    except RuntimeError as error:
        remedy = (
            f"Choose the version and the backbone it was made with; these are {options.version} and "
            f"{options.backbone}."
        )
        proposing = state.get("rpn.head.cls_logits.weight")
        if proposing is not None and (width := proposing.shape[1]) != options.features:
            remedy = f"Set model.features to {width // WIDER}: its pyramid has {width} feature maps."
        raise ModelError(
            f"{source} holds a Mask R-CNN of another size: {str(error).splitlines()[-1].strip()}", remedy
        ) from error
    missing = set(report.missing_keys)
    given = {name: weight for name, weight in reference.state_dict().items() if name not in missing}
    return transfer(given, network, source)


def _network(channels: int, classes: int, options: MaskRCNNOptions) -> nn.Module:
    """Build the network of torchvision with its names, so that its weights fit."""
    second, features = options.version == 2, options.features
    norm = nn.BatchNorm2d if second else None
    first = options.smallest * options.enlarge
    anchors = AnchorGenerator(tuple((first * 2**level,) for level in range(LEVELS)), (RATIOS,) * LEVELS)
    if second:
        box_head = FastRCNNConvFCHead(
            (features, POOLED, POOLED), [features] * 4, [options.hidden], norm_layer=nn.BatchNorm2d
        )
    else:
        box_head = TwoMLPHead(features * POOLED**2, options.hidden)
    network = Library(
        _backbone(channels, options),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(features, len(RATIOS), conv_depth=options.version),
        box_head=box_head,
        box_predictor=FastRCNNPredictor(options.hidden, classes),
        box_score_thresh=options.threshold,
        box_nms_thresh=options.overlap,
        box_detections_per_img=options.most,
        mask_head=MaskRCNNHeads(features, [features] * 4, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(features, features, classes),
    )
    network.transform = AsItIs(options.enlarge)
    for pool in (network.roi_heads.box_roi_pool, network.roi_heads.mask_roi_pool):
        # Else it would guess them from the first image, wrongly if that is small and no multiple of 32.
        pool.scales, pool.map_levels = (
            [0.5**level for level in PYRAMID],
            initLevelMapper(PYRAMID[0], PYRAMID[-1]),
        )
    return network


def _backbone(channels: int, options: MaskRCNNOptions) -> nn.Module:
    body = getattr(resnet, options.backbone)(weights=None)
    if channels != 3:
        body.conv1 = nn.Conv2d(channels, body.conv1.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    widths = [body.inplanes // 8 * 2**level for level in range(4)]
    names = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    norm = nn.BatchNorm2d if options.version == 2 else None
    return BackboneWithFPN(body, names, widths, options.features, norm_layer=norm)


def _sorted(found: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, float, int]]:
    """Return mask, box, score and class index of what was found, the most certain first."""
    order = found["scores"].argsort(descending=True, stable=True)
    scores, kinds = found["scores"][order].tolist(), found["labels"][order].tolist()
    return list(zip(found["masks"][order, 0], found["boxes"][order], scores, kinds, strict=True))
