"""Do labels lie on their images? Borders between labels are compared with the image at every shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segcore.data.doctor.facts import finite

REACH = 48
"""Largest shift that is recognised, in pixels; on small slices an eighth of the side."""
NEAR = 3
"""Borders are drawn inside or outside of an edge: a shift of less than this is no shift."""
STRONG = 7.0
"""A peak must lie so many standard deviations above what all other shifts give: chance among the thousands
of shifts reaches 4 to 5."""
MARGIN = 1.4
"""And be so many times as high as what the labels reach as they lie."""
AGREE = 0.75
"""And this share of the slices must say the same."""
MIN_BORDER = 64
"""Pixels of border a slice needs to be asked."""
TURNS = ("none", "Y", "X", "YX", "transpose", "transpose Y", "transpose X", "transpose YX")
"""How labels may lie: as they are, rows turned around, columns, both; rows and columns exchanged before."""


@dataclass(frozen=True)
class Match:
    """How well borders and edges of one slice fit together in every position.

    Parameters
    ----------
    surfaces : mapping
        For every turn, the correlation at shifts of -reach … reach rows and columns (of the labels), in
        standard deviations of the correlation at all shifts: `(2, rows, columns)`, with edges and with lines.
    """

    surfaces: Mapping[str, np.ndarray]

    @property
    def reach(self) -> int:
        """Largest shift, in pixels."""
        return self.surfaces["none"].shape[-1] // 2


@dataclass(frozen=True)
class Position:
    """Where labels should lie: turn first, then shift by rows and columns."""

    turn: str
    rows: int
    columns: int
    confidence: float


def match_slice(image_CYX: np.ndarray, labels_YX: np.ndarray) -> Match | None:
    """Compare the borders of the labels with the image; None where there is too little to compare.

    A border may lie on an edge (of a nucleus) or along a line (a wall or membrane, bright or dark, which has
    an edge on either side): it is compared with both. Fourier transforms give every shift at once.
    """
    border = border_map(labels_YX)
    if min(border.shape) < 32 or border.sum() < MIN_BORDER:
        return None
    features = [feature for feature in (edge_strength(image_CYX), line_strength(image_CYX)) if feature.any()]
    if len(features) < 2:
        return None
    height, width = border.shape
    reach = max(NEAR + 1, min(REACH, height // 8, width // 8))
    turns = TURNS if height == width else TURNS[:4]
    spectra = np.stack([np.fft.rfft2(feature - feature.mean()) for feature in features])
    near = np.ix_(np.arange(2), np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    surfaces = {}
    for turn in turns:
        turned = turned_labels(border, turn)
        product = spectra * np.conj(np.fft.rfft2(turned - turned.mean()))
        everywhere = np.fft.irfft2(product, s=border.shape)
        deviation = everywhere.std(axis=(1, 2), keepdims=True)
        if not deviation.all():
            return None
        # Every ninth shift tells the median as well, and it is most of the time this takes.
        middle = np.median(everywhere[:, ::3, ::3], axis=(1, 2), keepdims=True)
        surfaces[turn] = ((everywhere[near] - middle) / deviation).astype(np.float32)
    return Match(surfaces)


def find_position(matches: Sequence[Match]) -> Position | None:
    """Return where the labels of some slices should lie, if they clearly lie elsewhere than they do.

    The evidence of all slices is added up; they must also say the same one by one.
    """
    if not matches:
        return None
    reach = min(match.reach for match in matches)
    turns = [turn for turn in TURNS if all(turn in match.surfaces for match in matches)]
    scale = len(matches) ** 0.5
    # Lines may be bright or dark, but in all slices the same.
    total = {
        turn: np.abs(sum(_cut(match.surfaces[turn], reach) for match in matches)) / scale for turn in turns
    }
    now = float(_cut(total["none"], NEAR - 1).max())
    turn = max(turns, key=lambda name: float(total[name].max()))
    best = float(total[turn].max())
    feature, *at = (int(index) for index in np.unravel_index(int(total[turn].argmax()), total[turn].shape))
    rows, columns = at[0] - reach, at[1] - reach
    far = max(abs(rows), abs(columns))
    # A peak at the rim is a slope, no peak.
    if far >= reach or best < STRONG or best < MARGIN * now or (turn == "none" and far < NEAR):
        return None
    agreeing = [_prefers(match, turn, feature, (rows, columns)) for match in matches]
    if np.mean(agreeing) < AGREE:
        return None
    sure = min(1.0, best / (2 * STRONG)) * (1 - now / best)
    return Position(turn, rows, columns, sure) if far >= NEAR else Position(turn, 0, 0, sure)


def edge_strength(image_CYX: np.ndarray) -> np.ndarray:
    """Return how steep the image is, summed over its channels; the steepest one per cent count the same."""
    from scipy import ndimage

    total = np.zeros(image_CYX.shape[1:], np.float32)
    for channel_YX in finite(image_CYX):
        steep = ndimage.gaussian_gradient_magnitude(channel_YX.astype(np.float32), 1.0)
        most = float(np.percentile(steep, 99))
        if most > 0:
            total += np.minimum(steep / most, 1)
    return total


def line_strength(image_CYX: np.ndarray) -> np.ndarray:
    """Return how much brighter (above 0) or darker than its surroundings the image is, over its channels."""
    from scipy import ndimage

    total = np.zeros(image_CYX.shape[1:], np.float32)
    for channel_YX in finite(image_CYX):
        channel = channel_YX.astype(np.float32)
        contrast = ndimage.gaussian_filter(channel, 1.0) - ndimage.gaussian_filter(channel, 6.0)
        most = float(np.percentile(np.abs(contrast), 99))
        if most > 0:
            total += np.clip(contrast / most, -1, 1)
    return total


def border_map(labels_YX: np.ndarray) -> np.ndarray:
    """Return 1 on both sides of a border: where a label pixel differs from one beside, above or below it."""
    border = np.zeros(labels_YX.shape, np.float32)
    down = labels_YX[1:] != labels_YX[:-1]
    across = labels_YX[:, 1:] != labels_YX[:, :-1]
    border[1:][down] = border[:-1][down] = 1
    border[:, 1:][across] = border[:, :-1][across] = 1
    return border


def turned_labels(plane_YX: np.ndarray, turn: str) -> np.ndarray:
    """Return a plane turned as one of `TURNS` says: exchanged first, then mirrored."""
    turned = plane_YX.T if "transpose" in turn else plane_YX
    axes = tuple("YX".index(letter) for letter in turn.removeprefix("transpose").strip() if letter in "YX")
    return np.flip(turned, axes) if axes else turned


def _cut(surfaces: np.ndarray, reach: int) -> np.ndarray:
    middle = surfaces.shape[-1] // 2
    return surfaces[:, middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


def _prefers(match: Match, turn: str, feature: int, shift: tuple[int, int]) -> bool:
    rows, columns = (at + match.reach for at in shift)
    surface = np.abs(match.surfaces[turn][feature])
    there = surface[max(0, rows - 1) : rows + 2, max(0, columns - 1) : columns + 2].max()
    return bool(there > np.abs(_cut(match.surfaces["none"], min(NEAR - 1, match.reach))).max())


def strength(matches: Sequence[Match]) -> float:
    """Return how strongly borders and image fit as they lie, in standard deviations of what chance gives."""
    total = sum(_cut(match.surfaces["none"], NEAR - 1) for match in matches)
    return float(np.abs(total).max()) / len(matches) ** 0.5
