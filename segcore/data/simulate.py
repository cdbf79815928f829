"""Simulated fluorescence microscopy with exact masks: cells, their nuclei, and what the optics do to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile

from segcore.errors import ConfigError
from segcore.files import atomic_path

Kind = Literal["2class", "3class"]

PIXEL_UM = 0.325
SPACING_UM = 1.0
_MEAN_RADIUS = 15.0
"""Of a cell, in px."""
_GAIN = 12.0
"""Grey values per photon."""
_OFFSET, _READ_NOISE = 100.0, 22.0
"""Of the camera, in grey values."""


@dataclass(frozen=True)
class _Cell:
    """One cell: `reach` is the distance of a pixel from the centre, 1 at the cell's outline."""

    rows: slice
    columns: slice
    reach: np.ndarray
    nucleus: np.ndarray
    brightness: float


def simulate(out: Path, kind: Kind, images: int, size: int, seed: int) -> tuple[Path, Path]:
    """Write a stack of simulated images and their labels.

    Parameters
    ----------
    out : Path
        Folder for `raw.tif` and `labels.tif`, ImageJ stacks `ZYX`; existing ones are replaced.
    kind : str
        2class: cells are 1. 3class: cytoplasm is 1, nuclei are 2. Background is 0.
    images : int
        Slices, at least 1.
    size : int
        Rows and columns of a slice in px, at least 64.
    seed : int
        The same seed writes the same bytes; slice n does not depend on how many there are.

    Returns
    -------
    tuple of Path
        Image stack (uint16) and label stack (uint8).

    Raises
    ------
    ConfigError
        A value is outside its range.
    """
    if kind not in ("2class", "3class"):
        raise ConfigError(f"kind is {kind!r}.", "Use 2class or 3class.")
    if images < 1 or size < 64 or seed < 0:
        raise ConfigError(
            f"images {images}, size {size}, seed {seed}: at least 1 image, 64 px and seed 0 are needed.",
            "Use for example 20 images of 256 px with seed 0.",
        )
    raw = np.empty((images, size, size), np.uint16)
    labels = np.empty((images, size, size), np.uint8)
    for index in range(images):
        raw[index], labels[index] = simulate_plane(kind, size, np.random.default_rng([seed, index]))
    raw_path, labels_path = out / "raw.tif", out / "labels.tif"
    # Neither takes its place before both are written: they belong together.
    with atomic_path(raw_path) as new_raw, atomic_path(labels_path) as new_labels:
        _write(new_raw, raw)
        _write(new_labels, labels)
    return raw_path, labels_path


def simulate_plane(kind: Kind, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return one image `(Y, X)` uint16 and its exact labels `(Y, X)` uint8."""
    cells = _place_cells(size, rng)
    labels = np.zeros((size, size), np.uint8)
    light = np.zeros((size, size))
    for cell in cells:
        place = cell.rows, cell.columns
        inside = (cell.reach < 1) & (labels[place] == 0)
        nucleus = inside & (cell.nucleus < 1)
        light[place][inside] = _stain(kind, cell, rng)[inside]
        labels[place][inside] = 1
        if kind == "3class":
            labels[place][nucleus] = 2
    return _camera(light, size, rng), labels


def _place_cells(size: int, rng: np.random.Generator) -> list[_Cell]:
    """Scatter cells; about a third grow in contact with an earlier one, as after a division."""
    wanted = max(3, round(rng.uniform(0.6, 1.1) * size**2 / (9 * _MEAN_RADIUS**2)))
    centres: list[tuple[float, float, float]] = []
    for _ in range(wanted * 8):
        if len(centres) == wanted:
            break
        radius = _MEAN_RADIUS * rng.lognormal(0.0, 0.22)
        if centres and rng.random() < 0.35:
            row, column, other = centres[rng.integers(len(centres))]
            angle, gap = rng.uniform(0, 2 * np.pi), 0.92 * (radius + other)
            centre = (row + gap * np.sin(angle), column + gap * np.cos(angle), radius)
        else:
            centre = (*rng.uniform(-0.3 * radius, size + 0.3 * radius, 2), radius)
        if all(np.hypot(centre[0] - r, centre[1] - c) > 0.85 * (radius + o) for r, c, o in centres):
            centres.append(centre)
    return [cell for centre in centres if (cell := _draw_cell(*centre, size, rng)) is not None]


def _draw_cell(row: float, column: float, radius: float, size: int, rng: np.random.Generator) -> _Cell | None:
    """Return a cell and its nucleus, cut at the border of the image; None if it lies outside."""
    far = int(2.2 * radius) + 1
    rows = slice(max(0, int(row) - far), min(size, int(row) + far + 1))
    columns = slice(max(0, int(column) - far), min(size, int(column) + far + 1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    down, right = np.ogrid[rows, columns]
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.55)
    reach = _reach(down - row, right - column, (turn, radius, stretch), rng)
    shift = rng.uniform(-0.18, 0.18, 2) * radius
    share = rng.uniform(0.4, 0.55)
    ellipse = turn + rng.normal(0, 0.2), share * radius, 0.5 * (1 + stretch)
    nucleus = _reach(down - row - shift[0], right - column - shift[1], ellipse, rng, 0.4)
    return _Cell(rows, columns, reach, nucleus, rng.lognormal(0.0, 0.3))


def _reach(
    down: np.ndarray,
    right: np.ndarray,
    ellipse: tuple[float, float, float],
    rng: np.random.Generator,
    wobble: float = 1.0,
) -> np.ndarray:
    """Return the distance of every pixel from the centre in units of the outline in its direction.

    The outline is an ellipse (angle, mean radius in px, ratio of its axes) with random Fourier terms.
    """
    turn, radius, stretch = ellipse
    along = (down * np.sin(turn) + right * np.cos(turn)) / (radius * stretch**0.5)
    across = (down * np.cos(turn) - right * np.sin(turn)) * stretch**0.5 / radius
    angle = np.arctan2(across, along)
    outline = np.ones_like(angle)
    for order in range(2, 7):
        outline += wobble * rng.normal(0, 0.16 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(along, across) / outline.clip(0.5)


def _stain(kind: Kind, cell: _Cell, rng: np.random.Generator) -> np.ndarray:
    """Return the light a cell gives off: thicker in the middle, granular, with vesicles and a nucleus."""
    shape = cell.reach.shape
    thickness = np.sqrt((1 - cell.reach**2).clip(0)) * 0.55 + 0.45
    granules = _blurred(rng.normal(size=shape), 1.2)
    cloud = _blurred(rng.normal(size=shape), 4.0)
    texture = 1 + 0.22 * granules / granules.std() + 0.18 * cloud / cloud.std()
    rim = 0.35 * np.exp(-(((cell.reach - 0.93) / 0.08) ** 2))
    vesicles = _blurred((rng.random(shape) < 0.01).astype(float), 1.0) * 9.0
    light = thickness * texture.clip(0.15) + rim + vesicles * (cell.nucleus > 1.05)
    depth = np.clip((1.12 - cell.nucleus) / 0.24, 0, 1)
    chromatin = _blurred(rng.normal(size=shape), 1.6)
    core = (
        2.2 * (1 + 0.2 * chromatin / chromatin.std()).clip(0.4)
        if kind == "3class"
        else 0.45 * texture.clip(0.15)
    )
    return 26.0 * cell.brightness * (light * (1 - depth) + thickness * core * depth)


def _camera(light: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return what the camera records: blur, out-of-focus haze, uneven light, shot and read-out noise."""
    blur = rng.uniform(1.0, 1.6)
    sharp = _blurred(light, blur)
    haze = _blurred(light, 14.0)
    specks = (rng.random(light.shape) < 25 / size**2).astype(float)
    debris = _blurred(specks, 1.4) * rng.uniform(120, 260)
    cloud = _blurred(rng.normal(size=light.shape), size / 7, mode="reflect")
    down, right = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    centre = rng.uniform(-0.4, 0.4, 2)
    vignette = 1 - 0.28 * ((down - centre[0]) ** 2 + (right - centre[1]) ** 2)
    background = 7.0 + 2.5 * cloud / cloud.std()
    photons = (0.75 * sharp + 0.45 * haze + debris + background.clip(2)) * vignette.clip(0.3)
    recorded = rng.poisson(photons) * _GAIN + _OFFSET + rng.normal(0, _READ_NOISE, light.shape)
    return np.clip(np.rint(recorded), 0, 65535).astype(np.uint16)


def _write(path: Path, stack: np.ndarray) -> None:
    metadata = {"axes": "ZYX", "spacing": SPACING_UM, "unit": "um"}
    tifffile.imwrite(path, stack, imagej=True, resolution=(1 / PIXEL_UM, 1 / PIXEL_UM), metadata=metadata)


def _blurred(pixels: np.ndarray, sigma: float, mode: str = "reflect") -> np.ndarray:
    # Half a second of imports, which everybody would pay for who may simulate and does not.
    from scipy import ndimage

    blurred: np.ndarray = ndimage.gaussian_filter(pixels, sigma, mode=mode)
    return blurred
