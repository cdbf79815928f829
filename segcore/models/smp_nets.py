"""Networks of segmentation-models-pytorch (Iakubovskii 2019) with its encoders and those of timm, in 2d.

U-Net, U-Net++ (Zhou et al. 2018), MAnet (Fan et al. 2020), FPN (Lin et al. 2017), PSPNet (Zhao et al. 2017),
DeepLabV3+ (Chen et al. 2018), UPerNet (Xiao et al. 2018), SegFormer's decoder (Xie et al. 2021) and DPT
(Ranftl et al. 2021), each on any encoder whose stages it can use.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from torch import Tensor, nn

from segcore.addresses import IMAGENET
from segcore.errors import ModelError
from segcore.families import ENCODERS
from segcore.models.encoder_weights import Transfer, fetch, find_weights, read_state, transfer
from segcore.models.measured import Measured, built, prune

HALO = 128
"""Px that a tile reads around what it keeps: these networks see farther, but hardly weigh it."""
WIDTHS = (256, 128, 64, 32, 16)
"""Feature maps of the decoders of U-Net, U-Net++ and MAnet, the deepest level first."""
PROBE = 64
"""Px of the image that tells which parts of an encoder are needed."""


class Architecture(NamedTuple):
    """How a network is called there, and what it needs to be told."""

    name: str
    depth: int = 5
    """Times that the encoder halves the image, unless another number is asked for."""
    widths: bool = False
    """Whether its decoder has one number of feature maps per level."""
    dropout: str = ""
    """What it calls the share of features that are dropped in training."""


ARCHITECTURES = {
    "unet": Architecture("Unet", widths=True),
    "unetplusplus": Architecture("UnetPlusPlus", widths=True),
    "manet": Architecture("MAnet", widths=True),
    "fpn": Architecture("FPN", dropout="decoder_dropout"),
    "pspnet": Architecture("PSPNet", depth=3, dropout="psp_dropout"),
    "deeplabv3plus": Architecture("DeepLabV3Plus", dropout="decoder_aspp_dropout"),
    "upernet": Architecture("UPerNet"),
    "segformer": Architecture("Segformer"),
    "dpt": Architecture("DPT", depth=4),
}


class SmpNet(Measured):
    """A network of segmentation-models-pytorch.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    network : Module
        With `encoder`, `decoder` and `segmentation_head`.
    divisor : int
        Px that rows and columns must be a multiple of.
    """

    transferred: Transfer | None = None
    """What was taken from the pretrained weights, where there were some."""

    def __init__(self, channels: int, classes: int, network: nn.Module, divisor: int) -> None:
        super().__init__(channels, classes)
        self.network = network
        self.divisors, self.receptive_radii = (divisor, divisor), (HALO, HALO)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the parts of the encoder from the image on, the decoder, and the head."""
        encoder: Any = self.network.encoder
        parts = [(f"encoder {name}", part) for name, part in _parts(getattr(encoder, "model", encoder))]
        rest = [("decoder", self.network.decoder), ("head", self.network.segmentation_head)]
        return [*parts, *rest]  # type: ignore[list-item]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        return self.network(image)


def build_smp(
    channels: int,
    classes: int,
    architecture: str = "unet",
    encoder: str = "resnet34",
    depth: int = 0,
    pretrained: str = "",
    dropout: float = 0.0,
) -> SmpNet:
    """Build a network of segmentation-models-pytorch.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    architecture : str
        One of `ARCHITECTURES`.
    encoder : str
        Its name there (see `segcore.families.encoders`), or that of any model of timm.
    depth : int
        Times that the encoder halves the image, 3 to 5; 0: as many as suit the architecture.
    pretrained : str
        Weights of the encoder: none (""), those the library has for it ("imagenet"), a file, or a hub id.
    dropout : float
        Share of the features dropped in training before the last convolution, where the architecture can.

    Raises
    ------
    ModelError
        There is no such encoder, it does not suit the architecture, or its weights are not there.
    """
    kind = ARCHITECTURES[architecture]
    name = encoder_name(encoder)
    options: dict[str, Any] = {
        "encoder_name": name,
        "encoder_depth": depth or kind.depth,
        "encoder_weights": None,
        "in_channels": channels,
        "classes": classes,
        **_of_timm(name),
    }
    if kind.widths:
        options["decoder_channels"] = WIDTHS[-options["encoder_depth"] :]
    if kind.dropout:
        options[kind.dropout] = dropout
    if architecture == "pspnet":
        options["upsampling"] = 2 ** options["encoder_depth"]
    network = built(lambda: _create(kind, encoder, options))
    result = SmpNet(channels, classes, network, _divisor(architecture, network))
    if pretrained:
        result.transferred = load_encoder(network.encoder, name, pretrained)  # type: ignore[arg-type]
    return result


def encoder_name(encoder: str) -> str:
    """Return an encoder's name in segmentation-models-pytorch; that of one of timm begins with "tu-".

    Raises
    ------
    ModelError
        Neither library has such an encoder; the message names the nearest.
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    bare = encoder.removeprefix("tu-").removeprefix("timm/")
    if encoder in encoders:
        return encoder
    if timm.is_model(bare):
        return f"tu-{bare}"
    near = difflib.get_close_matches(bare, [*ENCODERS, *timm.list_models()], 5, 0.5)
    raise ModelError(
        f"There is no encoder {encoder}.",
        f"Near to it: {', '.join(near)}." if near else "Use one of the list, or a model name of timm.",
    )


def load_encoder(encoder: nn.Module, name: str, pretrained: str) -> Transfer:
    """Put pretrained weights into an encoder; its first convolution is adapted to the channels.

    Parameters
    ----------
    encoder : Module
        Is changed.
    name : str
        As `encoder_name` returns it.
    pretrained : str
        "imagenet", a file, or a hub id.

    Raises
    ------
    ModelError
        The weights are not there, or are those of another encoder.
    """
    path = _own_weights(name) if pretrained == IMAGENET else find_weights(pretrained)
    return transfer(read_state(path), encoder, str(path))


def _own_weights(name: str) -> Any:
    """Return the file of the weights that the library has for an encoder."""
    if not name.startswith("tu-"):
        from segmentation_models_pytorch.encoders import encoders

        offered = encoders[name]["pretrained_settings"]
        chosen = offered.get(IMAGENET) or next(iter(offered.values()))
        return fetch(chosen["repo_id"], ["model.safetensors"], chosen["revision"])
    import timm

    settings = timm.get_pretrained_cfg(name.removeprefix("tu-"))
    if settings is None or not settings.hf_hub_id:
        raise ModelError(
            f"timm has no weights for {name.removeprefix('tu-')}.", "Choose another encoder, or give a file."
        )
    return fetch(settings.hf_hub_id, ["model.safetensors", "pytorch_model.bin"])


def _create(kind: Architecture, encoder: str, options: dict[str, Any]) -> nn.Module:
    import segmentation_models_pytorch as smp

    try:
        network = getattr(smp, kind.name)(**options)
        return _tidied(network, (1, options["in_channels"], PROBE, PROBE))
    except Exception as error:  # every encoder refuses in its own way what it cannot
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{encoder} cannot be the encoder of {kind.name}: {reason}",
            "Choose another encoder, for example resnet34 or tu-convnext_tiny.",
        ) from error


def _tidied(network: nn.Module, image: tuple[int, ...]) -> nn.Module:
    """Return the network without what it does not need, or does at random, or cannot do with one image."""
    for module in network.modules():
        if hasattr(module, "drop_prob"):  # whole paths that some encoders drop at random
            module.drop_prob = 0.0  # type: ignore[assignment]
        if hasattr(module, "_drop_connect_rate"):  # the same in its own EfficientNet
            module._drop_connect_rate = 0.0  # type: ignore[assignment]
        if isinstance(module, nn.Sequential) and len(module) > 1 and _averages(module[0]):
            # One number per image and feature: batches of one image have no variance to divide by.
            for part in module.modules():
                for name, child in list(part.named_children()):
                    if isinstance(child, nn.BatchNorm2d):
                        setattr(part, name, nn.Identity())
    prune(network, image)
    return network


def _averages(module: nn.Module) -> bool:
    return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))


def _divisor(architecture: str, network: Any) -> int:
    """Return the px that every level must divide: also those that only the decoder makes."""
    return 32 if architecture == "dpt" else 2**network.encoder._depth


def _of_timm(name: str) -> dict[str, Any]:
    """Return what an encoder must be told to take images of any size."""
    bare = name.removeprefix("tu-")
    if name == bare:
        return {}
    if bare.startswith(("vit_", "deit", "beit", "eva")):
        return {"dynamic_img_size": True}
    return {"strict_img_size": False} if bare.startswith("swin") else {}


def _parts(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the parts of an encoder that have weights, from the image on; long rows one by one."""
    children = dict(encoder.named_children())
    if "patch_embed1" in children:  # of SegFormer, which lists all patches before all blocks
        numbers = sorted(name.removeprefix("patch_embed") for name in children if name.startswith("patch_em"))
        return [
            (number, nn.ModuleList(part for name, part in children.items() if name.endswith(number)))
            for number in numbers
        ]
    found: list[tuple[str, nn.Module]] = []
    for name, part in children.items():
        if isinstance(part, nn.Sequential | nn.ModuleList) and name in ("blocks", "stages", "features"):
            found += [(f"{name} {number}", inner) for number, inner in part.named_children()]
        else:
            found.append((name, part))
    own = list(encoder.parameters(recurse=False))  # the places of patches in an image, and such
    if own:
        found.insert(0, ("tokens", nn.ParameterList(own)))
    return [(name, part) for name, part in found if next(part.parameters(), None) is not None]
