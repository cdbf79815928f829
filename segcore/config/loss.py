"""What `training.loss` may say: names of losses, and sums of them with weights, as text."""

from __future__ import annotations

import re
from typing import NamedTuple

from segcore.errors import ConfigError

LOSS_TERMS = (
    "ce",
    "dice",
    "focal",
    "tversky",
    "focal-tversky",
    "generalised-dice",
    "lovasz",
    "border",
    "boundary",
    "mse",
    "mae",
)
"""What a sum may be made of."""
LOSS_MENU = (
    "dice+ce",
    "dice",
    "ce",
    "focal",
    "tversky",
    "focal-tversky",
    "generalised-dice",
    "lovasz",
    "ce+border",
    "dice+0.01*boundary",
    "mse",
    "mae",
)
"""What the form offers; sums of one's own can be typed."""
UNDIVIDED = ("lovasz",)
"""Losses that must see all pixels of a batch at once: several processes cannot add up their parts."""
_TERM = re.compile(r"(?:(\d*\.?\d+)\*)?([a-z-]+)")


class LossTerm(NamedTuple):
    """One part of a sum."""

    name: str
    weight: float


def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """Return the parts of a loss given as text, for example `dice`, `dice+ce` or `0.7*dice + 0.3*focal`.

    Raises
    ------
    ConfigError
        A part is not the name of a loss, occurs twice, or its weight is not above 0.

    Examples
    --------
    >>> parse_loss("0.7*dice + focal")
    (LossTerm(name='dice', weight=0.7), LossTerm(name='focal', weight=1.0))
    """
    terms = [_parse_term(part.strip(), text) for part in text.split("+")]
    twice = sorted({term.name for term in terms if [other.name for other in terms].count(term.name) > 1})
    if twice:
        raise ConfigError(
            f"The loss {text!r} names {twice[0]} more than once.", "Give it once, with one weight."
        )
    return tuple(terms)


def _parse_term(part: str, text: str) -> LossTerm:
    match = _TERM.fullmatch("".join(part.split()))
    if match is None or match[2] not in LOSS_TERMS:
        within = f" in {text!r}" if part != text else ""
        raise ConfigError(
            f"{part!r}{within} is not a loss.",
            f"Known: {', '.join(sorted(LOSS_TERMS))}; and sums with weights, as in 0.7*dice+0.3*focal.",
        )
    weight = float(match[1] or 1)
    if not weight > 0:
        raise ConfigError(f"The weight of {match[2]} in the loss {text!r} is 0.", "Use a weight above 0.")
    return LossTerm(match[2], weight)
