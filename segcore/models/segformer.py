"""SegFormer (Xie et al. 2021) of the transformers library, B0 to B5, in 2d."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from segcore.errors import ConfigError, ModelError
from segcore.models.encoder_weights import (
    FILES,
    Transfer,
    fetch,
    find_weights,
    hub_id,
    read_state,
    transfer,
)
from segcore.models.library_voice import quiet
from segcore.models.measured import Measured, built

HALO = 128
"""Px that a tile reads around what it keeps: attention sees all, but hardly weighs what is far away."""


class Size(NamedTuple):
    """What the sizes differ in (table 6 and 7 of the paper)."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder: int


_WIDE = (64, 128, 320, 512)
SIZES = {
    "b0": Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": Size(_WIDE, (2, 2, 2, 2), 256),
    "b2": Size(_WIDE, (3, 4, 6, 3), 768),
    "b3": Size(_WIDE, (3, 4, 18, 3), 768),
    "b4": Size(_WIDE, (3, 8, 27, 3), 768),
    "b5": Size(_WIDE, (3, 6, 40, 3), 768),
}


class SegFormer(Measured):
    """The network of transformers, its logits enlarged to the size of the image.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    network : Module
        A `SegformerForSemanticSegmentation`.
    """

    transferred: Transfer | None = None
    """What was taken from the pretrained weights, where there were some."""

    def __init__(self, channels: int, classes: int, network: nn.Module) -> None:
        super().__init__(channels, classes)
        self.network = network
        self.divisors, self.receptive_radii = (32, 32), (HALO, HALO)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the four stages of the encoder, the decoder, and the head."""
        network: Any = self.network
        encoder = [(f"encoder {number}", part) for number, part in enumerate(network.segformer.stages, 1)]
        head = network.decode_head
        decoder = nn.ModuleList([head.linear_projections, head.linear_fuse, head.batch_norm])
        return [*encoder, ("decoder", decoder), ("head", head.classifier)]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        quarter = self.network(pixel_values=image).logits
        return functional.interpolate(quarter, image.shape[2:], mode="bilinear", align_corners=False)


def build_segformer(
    channels: int, classes: int, size: str = "b0", pretrained: str = "", dropout: float = 0.0
) -> SegFormer:
    """Build a SegFormer.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    size : str
        "b0" (3.7 M parameters) to "b5" (84.6 M).
    pretrained : str
        Weights to begin with: none (""), a file, a folder as transformers writes it, or a hub id, for example
        `nvidia/mit-b0`. The first convolution is adapted to the channels, the classifier to the classes.
    dropout : float
        Share of the features dropped in training before the last convolution.

    Raises
    ------
    ConfigError
        There is no such size; the message lists those there are.
    ModelError
        The weights are not there, or are those of another size.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    if size not in SIZES:
        raise ConfigError(f"SegFormer has no size {size}.", f"Use one of {', '.join(SIZES)}.")
    chosen = SIZES[size]
    config = SegformerConfig(
        num_channels=channels,
        num_labels=classes,
        hidden_sizes=list(chosen.widths),
        depths=list(chosen.depths),
        decoder_hidden_size=chosen.decoder,
        classifier_dropout_prob=dropout,
        drop_path_rate=0.0,
    )
    with quiet():
        result = SegFormer(channels, classes, built(lambda: SegformerForSemanticSegmentation(config)))
        if pretrained:
            state, source = _state(pretrained, classes)
            result.transferred = transfer(state, result.network, source)
    return result


def _state(pretrained: str, classes: int) -> tuple[dict[str, Tensor], str]:
    """Return weights by the names that transformers uses now, and where they come from.

    Raises
    ------
    ModelError
        They are not there, or transformers cannot read them.
    """
    from transformers import SegformerForSemanticSegmentation

    if named := hub_id(pretrained):
        repository, revision = named
        folder = fetch(repository, FILES[:2], revision).parent
        fetch(repository, ["config.json"], folder.name)  # of the same commit, after which the folder is named
    else:
        folder = Path(pretrained).expanduser()
        if folder.name in FILES:  # whose names only transformers can tell, from what lies beside it
            folder = folder.parent
        if not (folder / "config.json").is_file():
            path = find_weights(pretrained)
            return read_state(path), str(path)
    try:
        network, report = SegformerForSemanticSegmentation.from_pretrained(
            folder,
            num_labels=classes,
            ignore_mismatched_sizes=True,
            attn_implementation="sdpa",  # whatever the file asks for: that could be code of a hub
            weights_only=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # damaged, of another architecture, written by another version
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{pretrained} is no SegFormer that transformers can read: {reason}",
            "Choose another, for example nvidia/mit-b0.",
        ) from error
    fresh = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    state = {name: tensor for name, tensor in network.state_dict().items() if name not in fresh}
    return state, pretrained
