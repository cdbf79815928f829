"""Sensor3D (Novikov et al. 2019): a U-Net on each of a few slices, which recurrence joins, in 2.5d.

What the slices show at the bottom of the U-Net, and again before the output, goes through convolutional LSTMs
(Shi et al. 2015) from the first slice to the last and back; the middle slice is segmented.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.errors import ConfigError
from segcore.models.levels import Levels, keep_variance
from segcore.models.unet import DoubleConv


class ConvLSTM(nn.Module):
    """A recurrent layer whose state is an image: gates and memory are 3 × 3 convolutions.

    Parameters
    ----------
    features : int
        Feature maps of the slices.
    state : int
        Feature maps of the state.
    """

    def __init__(self, features: int, state: int) -> None:
        super().__init__()
        self.state = state
        # What the input does to the gates is computed for all slices at once.
        self.given = nn.Conv2d(features, 4 * state, 3, padding=1)
        self.recalled = nn.Conv2d(state, 4 * state, 3, padding=1, bias=False)

    def forward(self, slices_BSCYX: Tensor, last: int, backwards: bool = False) -> list[Tensor]:
        """Return the state at every slice, in the order it was reached, up to and with slice `last`."""
        batch, count = slices_BSCYX.shape[:2]
        gates = self.given(slices_BSCYX.flatten(0, 1)).unflatten(0, (batch, count))
        order = range(count - 1, last - 1, -1) if backwards else range(last + 1)
        states: list[Tensor] = []
        memory: Tensor | None = None
        for number in order:
            drive = gates[:, number] + self.recalled(states[-1]) if states else gates[:, number]
            let_in, forget, let_out, new = drive.chunk(4, dim=1)
            kept = let_in.sigmoid() * new.tanh()
            memory = kept if memory is None else forget.sigmoid() * memory + kept
            states.append(let_out.sigmoid() * memory.tanh())
        return states


class BothWays(nn.Module):
    """Two recurrent layers, one from the first slice on and one from the last; their states are added.

    Parameters
    ----------
    features : int
        Feature maps, of slices and states.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.forwards, self.backwards = ConvLSTM(features, features), ConvLSTM(features, features)

    def forward(self, slices_BSCYX: Tensor) -> Tensor:
        """Return what is known at every slice, `B S C Y X`."""
        count = slices_BSCYX.shape[1]
        there = self.forwards(slices_BSCYX, count - 1)
        back = self.backwards(slices_BSCYX, 0, backwards=True)
        return torch.stack([a + b for a, b in zip(there, reversed(back), strict=True)], dim=1)

    def middle(self, slices_BSCYX: Tensor) -> Tensor:
        """Return what is known at the middle slice, `B C Y X`; the other slices only lead there."""
        half = slices_BSCYX.shape[1] // 2
        there = self.forwards(slices_BSCYX, half)
        return there[-1] + self.backwards(slices_BSCYX, half, backwards=True)[-1]


class Sensor3D(Levels):
    """From a few slices to the logits of the middle one.

    Parameters
    ----------
    channels : int
        Channels of all slices: slices one behind the other, all channels of the first slice first.
    classes : int
        Of the logits.
    slices : int
        Slices that are seen together, an odd number.
    features : int
        Feature maps of the first level; every level below doubles them.
    layers : int
        How many times the slices are halved.
    """

    def __init__(
        self, channels: int, classes: int, slices: int = 3, features: int = 64, layers: int = 3
    ) -> None:
        super().__init__(channels // slices, classes, features, layers, (), DoubleConv)
        self.channels, self.slices = channels, slices
        self.join_bottom, self.join_end = BothWays(self.widths[-1]), BothWays(features)
        self.join_bottom.apply(_keep_state)
        self.join_end.apply(_keep_state)
        # A slice reaches the farthest one by a convolution per slice, and one more; the end only the middle.
        reach = slices * 2**layers + slices // 2 + 1
        self.receptive_radii = tuple(radius + reach for radius in self.receptive_radii)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of encoder, bottom, those of the decoder from below, the end, and the head."""
        parts = super().stages()
        place = [name for name, _ in parts].index("bottom")
        parts[place] = ("bottom", nn.ModuleList([self.bottom, self.join_bottom]))
        return [*parts[:-1], ("end", self.join_end), parts[-1]]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        x = image.unflatten(1, (self.slices, -1)).flatten(0, 1)  # every slice is an image of its own
        skips = []
        for block, step in zip(self.encoder, self.strides, strict=True):
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, step)
        x = self.join_bottom(self._apart(self.bottom(x))).flatten(0, 1)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](self.merged(level, skips.pop(), self.upsample[level](x)))
        return self.head(self.join_end.middle(self._apart(x)))

    def _apart(self, slices: Tensor) -> Tensor:
        return slices.unflatten(0, (-1, self.slices))


def _keep_state(module: nn.Module) -> None:
    """Fill a recurrent layer so that what goes round in it neither dies nor grows (Glorot & Bengio 2010)."""
    keep_variance(module)
    if isinstance(module, ConvLSTM) and not module.given.weight.is_meta:
        nn.init.xavier_uniform_(module.given.weight)
        nn.init.xavier_uniform_(module.recalled.weight)


def build_sensor3d(
    channels: int, classes: int, slices: int = 3, features: int = 64, layers: int = 3
) -> Sensor3D:
    """Build a Sensor3D, see `Sensor3D`.

    Raises
    ------
    ConfigError
        The number of slices is even or less than 3, or the channels cannot be shared among them.
    """
    if slices < 3 or slices % 2 == 0 or channels % slices:
        raise ConfigError(
            f"Sensor3D segments the middle one of 3 or more slices, an odd number: {channels} channels "
            f"cannot be those of {slices} slices.",
            "Set data.mode to 2.5d and data.context_slices to 3 or 5.",
        )
    return Sensor3D(channels, classes, slices, features, layers)
