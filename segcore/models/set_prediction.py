"""Networks of transformers that answer a set of masks: Mask2Former and DETR, one network for all tasks.

Mask2Former: Cheng et al. 2022 (arXiv 2112.01527), DETR: Carion et al. 2020 (arXiv 2005.12872). The library
matches answers and objects and computes the loss.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.errors import ConfigError
from segcore.models.encoder_weights import Transfer
from segcore.models.library_voice import quiet
from segcore.models.measured import built
from segcore.models.object_targets import ObjectTarget, class_target, cover, joined, object_target
from segcore.models.painting import Objects
from segcore.models.segmenter import Segmenter, pad_behind
from segcore.models.set_decoding import Answers, PanopticRule, class_maps, instances, object_maps, panoptic
from segcore.models.set_networks import SetOptions, load_set, make_set
from segcore.tiling import IGNORE

STEP = 32
"""Px that rows and columns must be a multiple of."""
HALO = 128
"""Px that a tile reads around what it keeps: attention sees all."""
TINY = 1e-6
"""Least value of a map, whose logarithm is taken."""


class SetPrediction(Segmenter):
    """Mask2Former or DETR: with labels it answers the loss, without them maps, as any other network.

    Parameters
    ----------
    channels, classes : int
        Of the image; background is a class, too.
    options : SetOptions
        Its size, its task, and what becomes an object.
    """

    transferred: Transfer | None = None
    """What was taken from the pretrained weights, where there were some."""

    def __init__(self, channels: int, classes: int, options: SetOptions) -> None:
        super().__init__(channels, classes)
        self.options = options
        with quiet():
            self.network: nn.Module = built(lambda: make_set(channels, classes, options))
        self.divisors, self.receptive_radii = (STEP, STEP), (HALO, HALO)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per px; always in float32, see `forward`."""
        each = 1.0
        if self.options.architecture == "detr":
            # It draws every mask by convolutions of its own: the encoder's finest maps, at a 16th of the px,
            # are copied for each, and once more for the convolution.
            network: Any = self.network
            each = 2 + 2 * network.detr.model.backbone.intermediate_channel_sizes[0] / 16
        return math.ceil(4 * (250 + self.options.queries * each + 4 * self.classes))

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the encoder, the decoder of pixels, that of queries, and the heads."""
        network: Any = self.network
        if self.options.architecture == "mask2former":
            pixels = network.model.pixel_level_module
            # The loss keeps a weight for every class.
            head = nn.ModuleList([network.class_predictor, network.criterion])
            rest = [("queries", network.model.transformer_module), ("head", head)]
            return [("encoder", pixels.encoder), ("decoder", pixels.decoder), *rest]
        model = network.detr.model
        pixels = nn.ModuleList([model.input_projection, model.position_embedding, model.encoder])
        queries = nn.ModuleList([model.query_position_embeddings, model.decoder])
        heads = nn.ModuleList([network.detr.class_labels_classifier, network.detr.bbox_predictor])
        masks = nn.ModuleList([network.bbox_attention, network.mask_head])
        return [
            ("encoder", model.backbone),
            ("decoder", pixels),
            ("queries", queries),
            ("masks", masks),
            ("head", heads),
        ]

    def forward(self, image: Tensor, labels: Tensor | None = None, kinds: Tensor | None = None) -> Tensor:
        """Return logits `B K Y X` for images `B C Y X`; with labels the loss of the library, a scalar.

        All is float32: places where features are read need more digits than numbers of two bytes have.

        Parameters
        ----------
        image : Tensor
            `B C Y X`, of any size.
        labels : Tensor, optional
            `B Y X`: class indices for the semantic task, else object numbers (0 where there is none);
            negative where nobody annotated.
        kinds : Tensor, optional
            `B Y X`, class indices, for the other tasks; without them objects are of class 1, the rest of 0.
        """
        with torch.autocast(image.device.type, enabled=False):
            if labels is None:
                return super().forward(image.float())
            padded = pad_behind(image.float(), self.divisors)
            missing = [wide - given for wide, given in zip(padded.shape[2:], image.shape[2:], strict=True)]
            sides = (0, missing[1], 0, missing[0])
            labels = functional.pad(labels, sides, value=IGNORE)
            kinds = None if kinds is None else functional.pad(kinds, sides, value=IGNORE)
            targets = [
                self.target(label, None if kinds is None else kinds[number])
                for number, label in enumerate(labels)
            ]
            return self._loss(cover(padded, labels), targets)

    def target(self, labels: Tensor, kinds: Tensor | None = None) -> ObjectTarget:
        """Return the masks of one image and the classes that queries should answer for them.

        Parameters
        ----------
        labels, kinds : Tensor
            `(Y, X)`, see `forward`.
        """
        if self.options.task == "semantic":
            return class_target(labels)
        objects = object_target(labels, kinds)
        if self.options.task == "instance":  # queries do not count background: class 1 is their first
            return ObjectTarget(objects.masks, objects.boxes, objects.classes - 1)
        ground = torch.zeros_like(labels) if kinds is None else kinds
        known = torch.tensor(self._stuff, dtype=torch.int64, device=labels.device)
        stuff = torch.isin(ground.long(), known)
        rest = ground.masked_fill((labels != 0) | ~stuff, IGNORE)
        return joined(class_target(rest), objects)

    @property
    def _stuff(self) -> list[int]:
        things = self.options.things or range(1, self.classes)
        return [kind for kind in range(self.classes) if kind not in things]

    def _loss(self, image: Tensor, targets: list[ObjectTarget]) -> Tensor:
        if self.options.architecture == "mask2former":
            network: Any = self.network
            # The paper compares masks at 12544 points, in images of a million px. In small patches more than
            # four for each pixel of a mask, of which there are a 16th, would only cost time.
            most = math.prod(image.shape[2:]) // 4
            points = min(network.config.train_num_points, most)
            network.criterion.num_points = network.criterion.matcher.num_points = points
            masks = [target.masks.float() for target in targets]
            classes = [target.classes for target in targets]
            return self.network(pixel_values=image, mask_labels=masks, class_labels=classes).loss
        labels = [
            {
                "class_labels": target.classes,
                "boxes": _relative(target.boxes, image.shape[2:]),
                "masks": target.masks.float(),
            }
            for target in targets
        ]
        return self.network(pixel_values=image, labels=labels).loss

    def aligned(self, image: Tensor) -> Tensor:
        """Return logits of how much of a class a pixel is."""
        classes, masks = self._answers(image)
        whole = object_maps if self.options.task == "instance" else class_maps
        maps = functional.interpolate(
            whole(classes, masks), image.shape[2:], mode="bilinear", align_corners=False
        )
        return maps.clamp(min=TINY).log()

    @torch.no_grad()
    def objects(self, image: Tensor, least: int = 1) -> list[Objects]:
        """Return the objects, or panoptic segments, of images `B C Y X`, in evaluation mode.

        In panoptic segmentation the class of number n is `classes[n - 1]`, and 0 is where nothing is certain.

        Parameters
        ----------
        least : int
            Fewest px of an object.

        Raises
        ------
        ConfigError
            The network is for semantic segmentation, which knows no objects.
        """
        options = self.options
        if options.task == "semantic":
            raise ConfigError("A network for semantic segmentation has no objects.", "Use its class maps.")
        shape = (image.shape[2], image.shape[3])
        with torch.autocast(image.device.type, enabled=False):
            padded = pad_behind(image.float(), self.divisors)
            found = self._answers(padded)
        size = (padded.shape[2], padded.shape[3])
        answers = [Answers(classes, masks, size) for classes, masks in zip(*found, strict=True)]
        if options.task == "instance":
            return [instances(one, shape, options.threshold, least) for one in answers]
        rule = PanopticRule(tuple(self._stuff), options.threshold, options.share, least)
        return [panoptic(one, shape, rule) for one in answers]

    def _answers(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class logits `B Q K+1` and the mask logits `B Q y x` of the queries."""
        found = self.network(pixel_values=image)
        if self.options.architecture == "mask2former":
            return found.class_queries_logits, found.masks_queries_logits
        return found.logits, found.pred_masks


def build_set_prediction(
    channels: int, classes: int, options: SetOptions | None = None, pretrained: str = ""
) -> SetPrediction:
    """Build a Mask2Former or DETR.

    Parameters
    ----------
    channels, classes : int
        Of the image; background is a class, too.
    options : SetOptions, optional
        Its size, its task, and what becomes an object.
    pretrained : str
        Weights to begin with: none (""), those that the encoder was published with ("imagenet"), or of the
        whole network: those of COCO ("coco"), a folder as transformers writes it, or a hub id, for example
        `facebook/mask2former-swin-tiny-coco-instance`. The first convolution is adapted to the channels, the
        classifier begins anew for other classes.

    Raises
    ------
    ModelError
        The weights are not there, or are those of another size.
    """
    result = SetPrediction(channels, classes, options or SetOptions())
    if pretrained:
        with quiet():
            result.transferred = load_set(result.network, result.options, pretrained)
    return result


def _relative(boxes: Tensor, shape: torch.Size) -> Tensor:
    """Return boxes as DETR has them: middle, width and height, as shares of the image."""
    left, top, right, bottom = boxes.unbind(1)
    height, width = shape
    middles = [(left + right) / 2 / width, (top + bottom) / 2 / height]
    return torch.stack([*middles, (right - left) / width, (bottom - top) / height], 1)
