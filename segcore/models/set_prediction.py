"""Networks of transformers that answer a set of masks: Mask2Former and DETR, one network for all tasks.

Mask2Former: Cheng et al. 2022 (arXiv 2112.01527), DETR: Carion et al. 2020 (arXiv 2005.12872). The library
matches answers and objects and computes the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.errors import ConfigError, ModelError
from segcore.models.encoder_weights import FILES, Transfer, fetch, hub_id, transfer
from segcore.models.library_voice import quiet
from segcore.models.measured import built
from segcore.models.object_targets import ObjectTarget, class_target, cover, joined, object_target
from segcore.models.painting import Objects
from segcore.models.segmenter import Segmenter, pad_behind
from segcore.models.set_decoding import Answers, PanopticRule, class_maps, instances, object_maps, panoptic
from segcore.tiling import IGNORE

TASKS = ("semantic", "instance", "panoptic")
STEP = 32
"""Px that rows and columns must be a multiple of."""
HALO = 128
"""Px that a tile reads around what it keeps: attention sees all."""
TINY = 1e-6
"""Least value of a map, whose logarithm is taken."""
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "mask2former": {
        "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
        "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
        "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
        "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
    },
    "detr": {name: {"backbone": name} for name in ("resnet50", "resnet101", "resnet18", "resnet34")},
}
"""What the encoders differ in: Swin transformers (Liu et al. 2021), ResNets of timm; the usual one first."""


@dataclass(frozen=True)
class SetOptions:
    """How such a network is built, and what becomes an object.

    Parameters
    ----------
    architecture : str
        "mask2former" or "detr".
    task : str
        "semantic", "instance" or "panoptic".
    size : str
        One of `SIZES`; "" for the usual one.
    queries : int
        Masks that it answers: most objects it can find, 1 to 2000.
    things : tuple of int
        In panoptic segmentation the classes that have objects; none: all but class 0.
    threshold, share : float
        Least score of an object, 0 to 1; share of a panoptic segment that no other may claim.
    backbone, head : mapping
        Options of the library's configuration, instead of ours.
    """

    architecture: str = "mask2former"
    task: str = "instance"
    size: str = ""
    queries: int = 100
    things: tuple[int, ...] = ()
    threshold: float = 0.5
    share: float = 0.8
    backbone: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        for name, known in (("architecture", tuple(SIZES)), ("task", TASKS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"There is no {name} {getattr(self, name)!r}.", f"Use {' or '.join(known)}."
                )
        sizes = SIZES[self.architecture]
        if self.size and self.size not in sizes:
            raise ConfigError(
                f"{self.architecture} has no size {self.size}.", f"Use one of {', '.join(sizes)}."
            )
        for name, low, high in (("queries", 1, 2000), ("threshold", 0, 1), ("share", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name} is {getattr(self, name):g}.", f"It must be between {low} and {high}."
                )


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
            self.network: nn.Module = built(lambda: _network(channels, classes, options))
        self.divisors, self.receptive_radii = (STEP, STEP), (HALO, HALO)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per px; always in float32, see `forward`."""
        # DETR draws every mask by convolutions of its own, up to a quarter of the resolution.
        floats = 250 + self.options.queries * (4 if self.options.architecture == "detr" else 1)
        return 4 * (floats + 4 * self.classes)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the encoder, the decoder of pixels, that of queries, and the heads."""
        network: Any = self.network
        if self.options.architecture == "mask2former":
            pixels = network.model.pixel_level_module
            rest = [("queries", network.model.transformer_module), ("head", network.class_predictor)]
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
        Weights to begin with: none (""), a folder as transformers writes it, or a hub id, for example
        `facebook/mask2former-swin-tiny-coco-instance` or `facebook/detr-resnet-50-panoptic`. The first
        convolution is adapted to the channels, the classifier begins anew for other classes.

    Raises
    ------
    ModelError
        The weights are not there, or are those of another size.
    """
    result = SetPrediction(channels, classes, options or SetOptions())
    if pretrained:
        with quiet():
            state = _state(pretrained, type(result.network))
        result.transferred = transfer(state, result.network, pretrained)
    return result


def _state(pretrained: str, kind: Any) -> dict[str, Tensor]:
    """Return weights by the names that transformers uses now."""
    if named := hub_id(pretrained):
        repository, revision = named
        fetch(repository, FILES[:2], revision)
        folder = fetch(repository, ["config.json"], revision).parent
    else:
        folder = Path(pretrained).expanduser()
        folder = folder if folder.is_dir() else folder.parent
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{pretrained} has no config.json beside it: it is not known which network it is.",
            "Give the folder as transformers wrote it (save_pretrained), or a hub id (owner/name).",
        )
    try:
        network, report = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # damaged, of another architecture, written by another version
        raise ModelError(
            f"{pretrained} is no {kind.__name__} that transformers can read: {_first_line(error)}",
            "Choose another, for example facebook/mask2former-swin-tiny-coco-instance.",
        ) from error
    fresh = set(report["missing_keys"])
    return {name: tensor for name, tensor in network.state_dict().items() if name not in fresh}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _network(channels: int, classes: int, options: SetOptions) -> nn.Module:
    sizes = SIZES[options.architecture]
    size = {**sizes[options.size or next(iter(sizes))], **options.backbone}
    count = classes - 1 if options.task == "instance" else classes
    common = {"num_labels": count, "num_queries": options.queries}
    if options.architecture == "mask2former":
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

        fields = {"drop_path_rate": 0.1, **size}
        swin = SwinConfig(num_channels=channels, out_features=STAGES, **fields)
        config = Mask2FormerConfig(backbone_config=swin, **{**common, **options.head})
        network: Any = Mask2FormerForUniversalSegmentation(config)
        # The library makes it and never asks it: it would be waited for where several processes train.
        network.model.pixel_level_module.encoder.swin.layernorm.requires_grad_(False)
        return network
    from transformers import DetrConfig, DetrForSegmentation

    fields = {"num_channels": channels, "auxiliary_loss": True, **common, **options.head}
    return DetrForSegmentation(DetrConfig(**size, **fields))


def _relative(boxes: Tensor, shape: torch.Size) -> Tensor:
    """Return boxes as DETR has them: middle, width and height, as shares of the image."""
    left, top, right, bottom = boxes.unbind(1)
    height, width = shape
    middles = [(left + right) / 2 / width, (top + bottom) / 2 / height]
    return torch.stack([*middles, (right - left) / width, (bottom - top) / height], 1)
