"""The families there are, the usual ones first."""

from __future__ import annotations

from typing import Any

from segcore.families.family import ALL, Family
from segcore.registry import Registry

_UNETS = (
    Family(
        "unet",
        "U-Net",
        "Everything in microscopy; the standard that all others are measured against.",
        "From a few annotated slices on. Fast on every machine; 16 features suffice for a first look.",
        31_036_546,
        ALL,
        is_unet=True,
    ),
    Family(
        "unet-small",
        "U-Net, small",
        "Clear structures, laptops, and as the student of a larger model.",
        "A seventh of the U-Net's arithmetic, a third of its memory; from a few annotated slices on.",
        4_367_666,
        ALL,
        options=(),
        like=(24, 4),
        step=16,
        is_unet=True,
    ),
    Family(
        "unet-attention",
        "U-Net with attention gates",
        "Small targets in large images: gates quiet what lies elsewhere before levels are joined.",
        "Slightly more arithmetic than the U-Net, a third more memory; from a few annotated slices on.",
        31_387_110,
        ALL,
    ),
    Family(
        "unet-residual",
        "Residual U-Net",
        "Deep networks and long runs: every block adds to what it was given, so gradients reach all of it.",
        "Slightly more arithmetic than the U-Net, a third more memory; from a few annotated slices on.",
        32_435_138,
        ALL,
    ),
)

_SMP = "segmentation_models_pytorch"
_UNDILATED = (
    "densenet", "vgg", "inception", "xception", "tu-densenet", "tu-vgg", "tu-swin", "tu-hrnet", "tu-dla",
    "tu-ghostnet", "tu-pvt", "tu-edgenext", "tu-focalnet", "tu-poolformer", "tu-caformer", "tu-convformer",
    "tu-efficientvit", "tu-repvit", "tu-fastvit", "tu-tiny_vit", "tu-davit", "tu-mvit", "tu-nextvit",
    "tu-rdnet", "tu-hgnet", "tu-starnet", "tu-selecsls",
)  # fmt: skip
"""Encoders whose last level cannot be computed at twice the resolution, by how their names begin."""


def _with_encoder(
    name: str, title: str, good_for: str, costs: str, parameters: int, **changes: Any
) -> Family:
    """Return a family of segmentation-models-pytorch: any encoder, and weights it was trained to."""
    usual: dict[str, Any] = {
        "options": ("encoder", "pretrained"),
        "like": (16, 5),
        "step": 32,
        "package": _SMP,
    }
    return Family(name, title, good_for, costs, parameters, **{**usual, **changes})


_ENCODED = (
    _with_encoder(
        "unet-encoder",
        "U-Net on an encoder",
        "Few annotations: its descending half can begin with weights from a million photographs.",
        "A sixth of the U-Net's arithmetic with resnet34; from a few annotated slices on.",
        24_430_242,
        like=(21, 5),
    ),
    _with_encoder(
        "unetplusplus",
        "U-Net++",
        "Objects of very different sizes, thin ones among them: levels are joined step by step.",
        "Twice the arithmetic and memory of the U-Net on an encoder; some dozen annotated slices.",
        26_072_482,
        like=(38, 5),
        refused=("mit_",),
    ),
    _with_encoder(
        "manet",
        "MAnet",
        "Cluttered images where attention between channels and places helps, as in pathology.",
        "About as fast as the U-Net on an encoder, more memory; some dozen annotated slices.",
        31_777_506,
        like=(25, 5),
    ),
    _with_encoder(
        "fpn",
        "FPN",
        "Regions at several scales where borders need not be sharp to the pixel.",
        "Cheap and small; its borders are four times coarser than the image.",
        23_149_250,
    ),
    _with_encoder(
        "pspnet",
        "PSPNet",
        "Large regions that distant context tells apart, such as tissue types.",
        "The cheapest here; thin structures are lost, for the result is eight times coarser.",
        1_499_554,
        like=(7, 3),
        step=8,
    ),
    _with_encoder(
        "deeplabv3plus",
        "DeepLabV3+",
        "Regions of any size with fairly sharp borders; the usual choice for photographs.",
        "About as costly as the U-Net on an encoder; from some dozen annotated slices on.",
        22_430_930,
        like=(18, 5),
        refused=_UNDILATED,
    ),
    _with_encoder(
        "upernet",
        "UPerNet",
        "Large images of many classes; goes well with ConvNeXt and transformer encoders.",
        "Twice the arithmetic of the U-Net on an encoder; wants many annotations.",
        29_593_154,
        like=(22, 5),
    ),
    _with_encoder(
        "segformer",
        "SegFormer on an encoder",
        "Where distant context decides; take an encoder mit_b0 to mit_b5, with pretrained weights.",
        "Cheap decoder, costly encoder; borders four times coarser than the image; many annotations.",
        21_870_530,
    ),
)

_SEGFORMERS = tuple(
    Family(
        f"segformer-{size}",
        f"SegFormer {size.upper()}",
        "Where distant context decides, begun with weights of the whole network, for example nvidia/mit-b0.",
        f"{costs}; borders four times coarser than the image; many annotations, or pretrained weights.",
        parameters,
        options=("pretrained",),
        like=(like, 5),
        step=32,
        package="transformers",
    )
    for size, costs, parameters, like in (
        ("b0", "The smallest transformer here", 3_711_522, 11),
        ("b1", "A small transformer", 13_671_490, 18),
        ("b2", "A transformer of middling size", 27_341_890, 38),
        ("b3", "A large transformer", 47_217_730, 53),
        ("b4", "A very large transformer for graphics cards", 63_988_290, 70),
        ("b5", "The largest transformer here, for large graphics cards", 84_588_610, 84),
    )
)

_DENSE = tuple(
    Family(
        f"fc-densenet-{size}",
        f"FC-DenseNet {size}",
        "Fine structures with few weights: every layer sees the results of all before it.",
        f"{costs}; from a few annotated slices on.",
        parameters,
        options=(),
        like=(like, 2),
        step=32,
    )
    for size, costs, parameters, like in (
        ("56", "Two and a half times the U-Net's memory, a quarter of its arithmetic", 1_372_706, 159),
        ("67", "Four times the U-Net's memory, for graphics cards", 3_457_458, 275),
        ("103", "Four times the U-Net's memory, for graphics cards", 9_315_730, 259),
    )
)

_MONAI = (
    Family(
        "dynunet",
        "DynUNet",
        "Volumes above all: the U-Net of nnU-Net, with strided convolutions and instance normalisation.",
        "About as costly as the U-Net of as many features; a graphics card for volumes.",
        20_547_778,
        ALL,
        package="monai",
    ),
    Family(
        "segresnet",
        "SegResNet",
        "Volumes with voxels about as deep as wide; a strong encoder and a light decoder.",
        "Take 16 or 32 features: 64 are costly. A graphics card for volumes.",
        25_179_970,
        ALL,
        options=("features",),
        step=8,
        groups=8,
        halvings=3,
        package="monai",
    ),
    Family(
        "swin-unetr",
        "Swin UNETR",
        "Volumes in which distant context decides: attention within windows that move.",
        "A tenth of the U-Net's arithmetic in 2d; many annotations, and for volumes patches 32 deep.",
        6_302_228,
        ALL,
        options=(),
        like=(44, 5),
        step=32,
        halvings=5,
        package="monai",
    ),
)

_SERIES = (
    Family(
        "sensor3d",
        "Sensor3D",
        "Stacks with slices far apart: what each of a few slices shows goes through a recurrent network.",
        "Costly: take 16 features and 3 layers. Its time grows with the slices that are seen together.",
        182_630_018,
        ("2.5d",),
        slice_by_slice=True,
    ),
)

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
_SWINS = (
    "tu-swin_tiny_patch4_window7_224", "tu-swin_small_patch4_window7_224",
    "tu-swin_base_patch4_window12_384", "tu-swin_large_patch4_window12_384",
)  # fmt: skip


def _answering(name: str, title: str, good_for: str, costs: str, parameters: int, **changes: Any) -> Family:
    """Return a family that answers whole objects, with the loss of its library."""
    usual: dict[str, Any] = {
        "options": ("encoder", "pretrained", "features", "objects"),
        "kinds": ("semantic", "instance", "panoptic"),
        "heads": ("semantic", "masks", "panoptic"),
        "encoders": _RESNETS,
        "package": "transformers",
        "step": 32,
        "own_loss": True,
    }
    return Family(name, title, good_for, costs, parameters, **{**usual, **changes})


_MASK_RCNN: dict[str, Any] = {
    "kinds": ("instance",),
    "heads": ("masks",),
    "package": "torchvision",
    "unsized": ("pretrained", "objects"),
}
_ANSWERING = (
    _answering(
        "mask-rcnn",
        "Mask R-CNN",
        "Objects that overlap, or are few and of different sizes: each is found in a box, then drawn.",
        "Take 16 features without a graphics card; some dozen annotated slices, or weights of COCO.",
        41_008_603,
        like=(40, 5),
        **_MASK_RCNN,
    ),
    _answering(
        "mask-rcnn-v2",
        "Mask R-CNN, version 2",
        "The same with deeper heads, normalised throughout: better, above all from random weights.",
        "Half slower than Mask R-CNN, for graphics cards; some dozen annotated slices.",
        42_913_499,
        like=(52, 5),
        **_MASK_RCNN,
    ),
    _answering(
        "mask2former",
        "Mask2Former",
        "One network for classes, objects and both at once; strong where annotations are many.",
        "For graphics cards, or 16 features on a laptop; hundreds of annotated slices, or weights of COCO.",
        41_036_419,
        like=(40, 5),
        groups=8,
        encoders=(*_RESNETS, *_SWINS),
    ),
    _answering(
        "detr",
        "DETR",
        "The first of the networks that answer a set of objects; to compare with, or with weights of COCO.",
        "Learns slowly and takes much memory for every object: a graphics card, many annotated slices.",
        40_136_800,
        like=(60, 5),
        groups=32,
    ),
)

_ALL = (*_UNETS, *_ENCODED, *_SEGFORMERS, *_DENSE, *_MONAI, *_SERIES, *_ANSWERING)
FAMILIES: Registry[Family] = Registry("model family", {family.name: family for family in _ALL})
"""All families by name, the usual ones first."""
