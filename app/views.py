"""Pictures, legends and phrases: arrays and numbers in, pixels, HTML and words out; no Gradio."""

from __future__ import annotations

import base64
import colorsys
import io
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OKABE_ITO = (
    "#0072B2",  # blue: the lowest value is mostly background, so it gets the calmest colour
    "#E69F00",  # orange
    "#009E73",  # green
    "#CC79A7",  # purple
    "#F0E442",  # yellow
    "#56B4E9",  # sky blue
    "#D55E00",  # vermillion
    "#999999",  # grey, in place of the palette's black, which would vanish in dark pixels
)
# Where an image has two channels: magenta and green, which people with any colour vision tell apart.
TWO_CHANNELS = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=np.float32)
GOLDEN_ANGLE = 0.381966
MARKS = {
    "ok": ("✓", "#009E73", "fine"),
    "info": ("ℹ", "#0072B2", "note"),
    "warning": ("⚠", "#B07300", "warning"),
    "error": ("✗", "#C4381D", "error"),
}


@dataclass(frozen=True)
class ClassEntry:
    """One line of a legend.

    Parameters
    ----------
    value : int
        The class's value in the label file.
    name : str, optional
        What the user calls it.
    share : float, optional
        Share of the pixels, 0 to 1.
    """

    value: int
    name: str = ""
    share: float | None = None


def class_entries(counts: Mapping[int, int], names: Sequence[str] = ()) -> list[ClassEntry]:
    """Return the legend's lines for pixel counts by label value, ascending; `names` in the same order."""
    total = sum(counts.values()) or 1
    values = sorted(counts)
    padded = [*names[: len(values)], *[""] * (len(values) - len(names))]
    return [
        ClassEntry(value, name, counts[value] / total) for value, name in zip(values, padded, strict=True)
    ]


def class_colour(index: int) -> str:
    """Return the colour of a class by its index (0 for the lowest label value), the same everywhere.

    The first eight are Okabe and Ito's colour-blind safe palette; further ones turn the hue by the golden
    angle and alternate in brightness, so that neighbours differ.

    Examples
    --------
    >>> class_colour(1)
    '#E69F00'
    """
    if index < len(OKABE_ITO):
        return OKABE_ITO[index]
    step = index - len(OKABE_ITO)
    hue = (0.08 + step * GOLDEN_ANGLE) % 1.0
    rgb = colorsys.hls_to_rgb(hue, (0.42, 0.62, 0.52)[step % 3], 0.75)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)


def contrast_limits(
    image_CYX: NDArray[Any], percentiles: tuple[float, float] = (1.0, 99.8)
) -> NDArray[np.float32]:
    """Return the grey values shown as black and as white, one pair per channel.

    Parameters
    ----------
    image_CYX : array, shape (C, Y, X)
        Any number type; NaN and infinity are left out.
    percentiles : tuple of float
        Lower and upper percentile, 0 to 100.

    Returns
    -------
    array of float32, shape (C, 2)
        Where a channel is constant, the two differ by 1.
    """
    limits = np.zeros((image_CYX.shape[0], 2), dtype=np.float32)
    for channel, plane in enumerate(fit_preview(image_CYX, 512)):
        finite = plane[np.isfinite(plane)].astype(np.float32)
        low, high = np.percentile(finite, percentiles) if finite.size else (0.0, 1.0)
        if finite.size and high <= low:  # all but a few pixels are equal, as in a mask: those few are meant
            low, high = finite.min(), finite.max()
        limits[channel] = (low, high if high > low else low + 1.0)
    return limits


def render(image_CYX: NDArray[Any], limits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the image as RGB: one channel grey, two magenta and green, three or more red, green, blue.

    Of more than three channels the first three are shown; to show others, index them before.

    Parameters
    ----------
    image_CYX : array, shape (C, Y, X)
    limits : array, shape (C, 2)
        The values shown as black and white, see `contrast_limits`.

    Returns
    -------
    array of uint8, shape (Y, X, 3)
    """
    image = np.nan_to_num(image_CYX[:3].astype(np.float32), nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, high = limits[:3, 0, None, None], limits[:3, 1, None, None]
    scaled = np.clip((image - low) / (high - low), 0.0, 1.0)
    if len(scaled) == 1:
        scaled = np.repeat(scaled, 3, axis=0)
    elif len(scaled) == 2:
        scaled = np.clip(np.einsum("cyx,cr->ryx", scaled, TWO_CHANNELS), 0.0, 1.0)
    return np.rint(255.0 * scaled.transpose(1, 2, 0)).astype(np.uint8)


def overlay(
    image_CYX: NDArray[Any],
    labels_YX: NDArray[Any] | None = None,
    *,
    class_values: Sequence[int] = (),
    opacity: float = 0.4,
    contrast: tuple[float, float] | NDArray[np.float32] = (1.0, 99.8),
    hidden: Collection[int] = (),
) -> NDArray[np.uint8]:
    """Return the image with its labels painted over it.

    Parameters
    ----------
    image_CYX : array, shape (C, Y, X)
    labels_YX : array of int, shape (Y, X), optional
        Label values as in the file. Values that are not in `class_values` stay transparent.
    class_values : sequence of int
        Ascending; the position decides the colour.
    opacity : float
        0: only the image, 1: only the labels.
    contrast : pair of float or array, shape (C, 2)
        Percentiles, or limits from `contrast_limits` (so that a detail looks as it does in the whole plane).
    hidden : collection of int
        Label values that are not painted.

    Returns
    -------
    array of uint8, shape (Y, X, 3)
    """
    limits = contrast if isinstance(contrast, np.ndarray) else contrast_limits(image_CYX, contrast)
    picture = render(image_CYX, limits)
    if labels_YX is None or not len(class_values) or opacity <= 0:
        return picture
    values = np.asarray(class_values)
    index_YX = np.clip(np.searchsorted(values, labels_YX), 0, len(values) - 1)
    shown = np.array([value not in hidden for value in class_values])
    painted_YX = (values[index_YX] == labels_YX) & shown[index_YX]
    colours = np.array([_rgb(class_colour(index)) for index in range(len(values))], dtype=np.float32)
    mixed = (1.0 - opacity) * picture[painted_YX] + opacity * colours[index_YX[painted_YX]]
    picture[painted_YX] = np.rint(mixed).astype(np.uint8)
    return picture


def fit_preview(array: NDArray[Any], limit: int = 1600) -> NDArray[Any]:
    """Return a view of the last two axes with every n-th pixel, so that neither is longer than `limit`."""
    step = preview_step(array.shape[-2], array.shape[-1], limit)
    return array[..., ::step, ::step]


def preview_step(height: int, width: int, limit: int = 1600) -> int:
    """Return which n-th pixel `fit_preview` keeps."""
    return max(1, math.ceil(max(height, width) / limit))


def png_uri(picture_YXC: NDArray[np.uint8]) -> str:
    """Return a picture as a `data:` URI; PNG, as JPEG would smear labels, and packed fast, as people wait."""
    stream = io.BytesIO()
    Image.fromarray(picture_YXC).save(stream, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def legend_html(classes: Sequence[ClassEntry]) -> str:
    """Return a legend: swatch, label value, name and share of the pixels of every class."""
    items = []
    for index, entry in enumerate(classes):
        swatch = (
            f'<span aria-hidden="true" style="display:inline-block;width:0.9em;height:0.9em;'
            f'border-radius:2px;background:{class_colour(index)};margin-right:0.4em;vertical-align:-0.08em"></span>'
        )
        name = f" {escape(entry.name)}" if entry.name else ""
        share = (
            f' <span style="opacity:0.75">{share_text(entry.share)}</span>' if entry.share is not None else ""
        )
        items.append(f'<li style="white-space:nowrap">{swatch}<b>{entry.value}</b>{name}{share}</li>')
    style = "list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:0.2em 1.2em"
    return f'<ul aria-label="Classes" style="{style}">{"".join(items)}</ul>' if items else ""


def mark_html(level: str, text: str, remedy: str = "", where: str = "") -> str:
    """Return one line with a mark: level `ok`, `info`, `warning` or `error`. Everything is escaped."""
    sign, colour, word = MARKS[level]
    place = f'<span style="opacity:0.75"> ({escape(where)})</span>' if where else ""
    advice = f'<div style="opacity:0.85;font-size:0.95em">{escape(remedy)}</div>' if remedy else ""
    return (
        f'<div class="finding {level}" style="display:flex;gap:0.5em;margin:0.25em 0;overflow-wrap:anywhere">'
        f'<span role="img" aria-label="{word}" style="color:{colour};font-weight:700">{sign}</span>'
        f"<div>{_lines(text)}{place}{advice}</div></div>"
    )


def progress_html(fraction: float | None, text: str, detail: str = "") -> str:
    """Return a progress bar with words; `fraction` None means that the end is not known."""
    now = None if fraction is None else min(max(fraction, 0.0), 1.0)
    width = 100.0 if now is None else 100.0 * now
    value = "" if now is None else f' aria-valuenow="{width:.0f}"'
    fill = "opacity:0.35" if now is None else "opacity:1"
    note = f'<span style="opacity:0.75;white-space:nowrap">{escape(detail)}</span>' if detail else ""
    return (
        f'<div role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="100"{value}>'
        f'<div style="display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1em">'
        f"<span>{escape(text)}</span>{note}</div>"
        f'<div style="height:0.6em;border-radius:0.3em;overflow:hidden;margin-top:0.3em;'
        f'background:var(--border-color-primary)"><div style="height:100%;width:{width:.1f}%;'
        f'background:var(--color-accent);{fill};transition:width 0.4s"></div></div></div>'
    )


def table_html(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """Return a plain table that scrolls sideways by itself on a narrow screen. Cells are escaped."""
    cell = (
        "padding:0.3em 0.9em 0.3em 0;text-align:left;border:0;"
        "border-bottom:1px solid var(--border-color-primary)"
    )
    names = "".join(f'<th scope="col" style="{cell}">{escape(name)}</th>' for name in header)
    head = f"<thead><tr>{names}</tr></thead>" if any(header) else ""
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{escape(text)}</td>' for text in row) + "</tr>" for row in rows
    )
    title = (
        f'<caption style="text-align:left;font-weight:600;white-space:nowrap">{escape(caption)}</caption>'
        if caption
        else ""
    )
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;border:0">{title}'
        f"{head}<tbody>{body}</tbody></table></div>"
    )


def duration_text(seconds: float) -> str:
    """Return a duration in words, two units at most.

    Examples
    --------
    >>> duration_text(190), duration_text(0.4), duration_text(7260)
    ('3 min 10 s', '0.4 s', '2 h 1 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, small, unit, part in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {unit} {rest // small} {part}" if rest // small else f"{count} {unit}"
    return f"{whole} s"


def count_text(count: float) -> str:
    """Return a count with two or three digits.

    Examples
    --------
    >>> count_text(1_900_000), count_text(43_210), count_text(812)
    ('1.9 M', '43 k', '812')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return f"{count:.0f}"


def bytes_text(count: float) -> str:
    """Return a size of a file, in powers of 1000 as disks are sold.

    Examples
    --------
    >>> bytes_text(7_900_000), bytes_text(512)
    ('7.9 MB', '512 B')
    """
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{count:.0f} B"


def share_text(share: float) -> str:
    """Return a share as a percentage that never rounds something to nothing.

    Examples
    --------
    >>> share_text(0.223), share_text(0.0002)
    ('22 %', '< 0.1 %')
    """
    percent = 100.0 * share
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


def _lines(text: str) -> str:
    """Return escaped text with its line breaks; addresses become links, as that of a cluster's dashboard."""
    shown = "<br>".join(escape(line) for line in text.splitlines())
    return _ADDRESS.sub(r'<a href="\g<0>" target="_blank" rel="noopener noreferrer">\g<0></a>', shown)


_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(?:/[\w./?=&;%#~+-]*[\w/])?")


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
