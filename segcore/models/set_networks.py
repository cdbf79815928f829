"""Mask2Former and DETR of transformers: how they are built, and where their weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from segcore.addresses import COCO, IMAGENET
from segcore.errors import ConfigError, ModelError
from segcore.models.encoder_weights import FILES, Transfer, fetch, hub_id, transfer
from segcore.models.smp_nets import load_encoder

TASKS = ("semantic", "instance", "panoptic")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
RESNETS = {name: {"backbone": name} for name in ("resnet50", "resnet101", "resnet18", "resnet34")}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "mask2former": {
        "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
        "small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
        "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
        "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
        **RESNETS,
    },
    "detr": RESNETS,
}
"""What the encoders differ in: Swin transformers (Liu et al. 2021), ResNets of timm; the usual one first."""
SWIN_WEIGHTS = {
    "tiny": "microsoft/swin-tiny-patch4-window7-224",
    "small": "microsoft/swin-small-patch4-window7-224",
    "base": "microsoft/swin-base-patch4-window12-384",
    "large": "microsoft/swin-large-patch4-window12-384",
}
"""Where the weights lie that Swin transformers were published with."""
COCO_WEIGHTS = {
    "mask2former": {size: f"facebook/mask2former-swin-{size}-coco-panoptic" for size in SWIN_WEIGHTS},
    "detr": {
        "resnet50": "facebook/detr-resnet-50-panoptic",
        "resnet101": "facebook/detr-resnet-101-panoptic",
    },
}
"""Where the weights of whole networks lie that were trained to the objects of COCO."""


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


def width_options(architecture: str, width: int) -> dict[str, int]:
    """Return the options of the library for maps of another width than 256 behind the encoder.

    Parameters
    ----------
    architecture : str
        "mask2former" or "detr".
    width : int
        Of the maps; that of the layers between them grows alike.
    """
    if architecture == "detr":
        return {"d_model": width, "encoder_ffn_dim": 8 * width, "decoder_ffn_dim": 8 * width}
    return {
        "feature_size": width,
        "mask_feature_size": width,
        "hidden_dim": width,
        "encoder_feedforward_dim": 4 * width,
        "dim_feedforward": 8 * width,
    }


def make_set(channels: int, classes: int, options: SetOptions) -> nn.Module:
    """Return the network of the library, randomly initialised."""
    count = classes - 1 if options.task == "instance" else classes
    fields = {"num_labels": count, "num_queries": options.queries, **options.head}
    if options.architecture == "mask2former":
        return _mask2former(channels, options, fields)
    from transformers import DetrConfig, DetrForSegmentation

    size = _size(options)
    network = DetrForSegmentation(
        DetrConfig(**size, **{"num_channels": channels, "auxiliary_loss": True, **fields})
    )
    _let_learn(network.detr.model.backbone)
    _spread(network.detr)
    return network


def load_set(network: Any, options: SetOptions, pretrained: str) -> Transfer:
    """Put pretrained weights into a network of `make_set`, or into its encoder if they are "imagenet".

    Raises
    ------
    ModelError
        The weights are not there, or are those of another size.
    """
    size = options.size or next(iter(SIZES[options.architecture]))
    if pretrained == COCO:
        pretrained = _of_coco(options.architecture, size)
    if pretrained != IMAGENET:
        return transfer(_state(pretrained, type(network)), network, pretrained)
    if options.architecture == "detr":
        return load_encoder(network.detr.model.backbone.model, size, IMAGENET)
    encoder = network.model.pixel_level_module.encoder
    if size in RESNETS:
        return load_encoder(encoder._backbone, size, IMAGENET)
    return transfer(_state(SWIN_WEIGHTS[size], type(encoder)), encoder, SWIN_WEIGHTS[size])


def _of_coco(architecture: str, size: str) -> str:
    known = COCO_WEIGHTS[architecture]
    if size not in known:
        raise ModelError(
            f"There are no coco weights of {architecture} with the encoder {size}.",
            f"There are some for {', '.join(known)}.",
        )
    return known[size]


def _size(options: SetOptions) -> dict[str, Any]:
    sizes = SIZES[options.architecture]
    return {**sizes[options.size or next(iter(sizes))], **options.backbone}


def _mask2former(channels: int, options: SetOptions, fields: dict[str, Any]) -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
    from transformers.models.timm_backbone import TimmBackboneConfig

    size = _size(options)
    if "backbone" in size:
        encoder: Any = TimmBackboneConfig(num_channels=channels, out_indices=[1, 2, 3, 4], **size)
        return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=encoder, **fields))
    encoder = SwinConfig(num_channels=channels, out_features=STAGES, **{"drop_path_rate": 0.1, **size})
    network: Any = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=encoder, **fields))
    # The library makes it and never asks it: nothing would ever be learned by it.
    network.model.pixel_level_module.encoder.swin.layernorm.requires_grad_(False)
    return network


def _let_learn(encoder: nn.Module) -> None:
    """Let the encoder of DETR learn, normalised by its batches.

    The library takes it for trained: it freezes its first stage, and all normalisations at what they were
    given. Random weights would stay random there, and their output without measure.
    """
    from transformers.models.detr.modeling_detr import DetrFrozenBatchNorm2d

    for part in list(encoder.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, DetrFrozenBatchNorm2d):
                setattr(part, name, nn.BatchNorm2d(len(child.weight)))
    encoder.requires_grad_(True)


def _spread(detr: nn.Module) -> None:
    """Draw the weights of DETR's transformer, queries and heads as the code of the paper does.

    The library draws them close to 0, with the same answer for all queries: it means to load weights.
    """
    model: Any = detr.model
    for weight in [*model.encoder.parameters(), *model.decoder.parameters()]:
        if weight.ndim > 1:
            nn.init.xavier_uniform_(weight)
    heads = [detr.get_submodule(name) for name in ("class_labels_classifier", "bbox_predictor")]
    for part in [model.query_position_embeddings, *(part for head in heads for part in head.modules())]:
        if isinstance(part, nn.Linear | nn.Embedding):
            part.reset_parameters()


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
