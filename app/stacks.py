"""Stacks for the viewer: what there is, which labels belong to which image, and planes drawn for the page."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.catalog import IMAGES
from app.jobview import JobView
from app.services import Services
from app.views import contrast_limits, overlay, png_uri, preview_step
from segcore.data.labels import match_labels, open_labels
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.thinning import thinned
from segcore.data.zarr_files import is_zarr
from segcore.errors import DataError, SegcoreError
from segcore.jobs.store import Job

T = TypeVar("T")
LABEL_WORDS = ("label", "mask", "seg", "annot", "truth")
LONGEST_SIDE = 1600
BAND_PIXELS = 64 * 2**20
SCANNED_PLANES = 16
MOST_CHANNELS = 3


@dataclass(frozen=True)
class View:
    """What of a stack the page wants to see.

    Parameters
    ----------
    path, labels : str
        Workspace paths; `labels` may be "".
    index : int
        The plane, counted from 0; beyond the end means the last.
    low, high : float
        Contrast, in percentiles of the plane.
    opacity : float
        Of the labels, 0 to 1.
    hidden : tuple of int
        Label values that are not painted.
    channels : tuple of int
        The channels to show, counted from 0, three at most.
    """

    path: str
    labels: str = ""
    index: int = 0
    low: float = 1.0
    high: float = 99.8
    opacity: float = 0.4
    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = (0, 1, 2)

    @classmethod
    def of(cls, values: dict[str, Any]) -> View:
        """Build a View from what the page sent back; whatever has another type is refused."""
        try:
            return cls(
                str(values["path"]),
                str(values["labels"]),
                int(values["index"]),
                float(values["low"]),
                float(values["high"]),
                float(values["opacity"]),
                tuple(int(value) for value in values["hidden"]),
                tuple(int(value) for value in values["channels"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError("The page asked for an unknown view.", "Reload the page.") from error


class StackReader:
    """Reads and draws stacks of the workspace, and keeps the last few planes while a slider moves.

    Parameters
    ----------
    services : Services
        The door to the workspace.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def stacks(self) -> list[str]:
        """Return all image files: the user's data first, then results, newest first."""
        results = sorted(self._services.files("results"), reverse=True)
        return [*self._services.files("data"), *results]

    def image_of(self, path: str) -> str:
        """Return the image a segmentation was made from, or `path` itself if it is none or that is gone."""
        job = self._segmentation(path)
        if job is None:
            return path
        full = self._services.resolve(path)
        name = next((one for one, result in job.segmentations.items() if result == full), "")
        try:
            items = self._services.data.listing(job.config.data, labelled=False).items
        except SegcoreError:
            return path
        image = next((item.images[0] for item in items if name in ("", item.name)), "")
        return self._services.relative(image) if image and Path(image).exists() else path

    def belonging(self, image: str) -> list[str]:
        """Return the labels that belong to an image: its segmentations, newest first, then annotations."""
        full = self._services.resolve(image)
        found = []
        for job in self._services.jobs():
            try:
                data = job.config.data
            except SegcoreError:
                continue
            if data.images and Path(data.images) == full:
                found += _results(job) if job.kind == "predict" else [Path(data.labels or "")]
            elif job.kind == "predict" and data.images and Path(data.images) in full.parents:
                found += [
                    path
                    for path in _results(job)
                    if path.name.partition(".")[0] == full.name.partition(".")[0]
                ]
        beside = [path for path in full.parent.iterdir() if _sounds_like_labels(path) and path != full]
        # Of a_labels.tif and b_labels.tif, the former belongs to a_raw.tif.
        beside.sort(key=lambda path: (-_common_start(path.name, full.name), path.name))
        inside = [path for path in (*found, *beside) if path.is_relative_to(self._services.workspace.root)]
        return [self._services.relative(path) for path in dict.fromkeys(inside) if _is_image(path)]

    def suggestion(self, image: str) -> str:
        """Return the first label file that belongs to an image and has its size, "" if none has."""
        if _sounds_like_labels(Path(image)):
            return ""
        for labels in self.belonging(image):
            try:
                self._check_fit(labels, image)
            except SegcoreError:
                continue
            return labels
        return ""

    def planes(self, path: str, labels: str = "") -> Planes:
        """Open a stack as it is read beside `labels`: with the axes that a segmentation of it was given."""

        def make() -> Planes:
            job = self._segmentation(labels)
            source = open_source(self._services.resolve(path), job.config.data.axes if job else None)
            if labels:
                source = match_labels(source, self._labels(labels).source)
            return Planes(source)

        return self._keep(("planes", *self._stamp(path), labels and self._stamp(labels)), make)

    def describe(self, path: str) -> str:
        """Return shape, type, axes and pixel size in one line, and what had to be assumed, in more lines."""
        return "\n".join([self._services.stack(path).text, *self.planes(path).source.notes])

    def label_values(self, path: str) -> tuple[int, ...]:
        """Return the values of a label file, ascending: they decide the colours in all its planes.

        Of a long stack evenly spread planes are looked at, of a huge plane every n-th pixel.

        Raises
        ------
        DataError
            The file is not a label image.
        """

        def scan() -> tuple[int, ...]:
            planes = self._labels(path)
            if planes.dtype.kind == "f" or planes.channels > 1:
                raise DataError(
                    f"{path} is not a label image: {planes.dtype}, {planes.channels} channel(s).",
                    "Choose a file with one whole number per pixel.",
                )
            indices = np.unique(np.linspace(0, planes.count - 1, SCANNED_PLANES).astype(int))
            found: set[int] = set()
            for index in indices:
                found.update(int(value) for value in np.unique(_preview(planes, int(index))))
            return tuple(sorted(found))

        return self._keep(("values", *self._stamp(path)), scan)

    def class_names(self, path: str) -> dict[int, str]:
        """Return what the model that made a segmentation calls its label values; nothing for other files."""
        job = self._segmentation(path)
        return job.class_names if job else {}

    def draw(self, view: View) -> dict[str, Any]:
        """Return what the page's picture needs to show a plane.

        Raises
        ------
        DataError
            A file is missing or unreadable, or the labels do not fit the image.
        """
        planes = self.planes(view.path, view.labels)
        index = min(max(view.index, 0), planes.count - 1)
        image = self._preview(planes, view.path, index)[_channels(view, planes)]
        labels: NDArray[Any] | None = None
        values: tuple[int, ...] = ()
        if view.labels:
            self._check_fit(view.labels, view.path)
            marked = self._labels(view.labels)
            labels, values = self._preview(marked, view.labels, index)[0], self.label_values(view.labels)
        limits = contrast_limits(image, (view.low, max(view.high, view.low)))
        picture = overlay(
            image, labels, class_values=values, opacity=view.opacity, contrast=limits, hidden=view.hidden
        )
        size = planes.source.pixel_size
        square = size.x is not None and size.x == size.y
        return {
            "src": png_uri(picture),
            "width": planes.width,
            "height": planes.height,
            "step": preview_step(planes.height, planes.width, LONGEST_SIDE),
            "identity": f"{view.path} {planes.height} {planes.width}",
            "pixel": size.x if square else None,
            "unit": size.unit,
            "alt": f"{view.path}, {planes.name(index)}" + (f", with {view.labels}" if view.labels else ""),
            "limits": limits.tolist(),
            "request": asdict(view),
        }

    def detail(self, view: View, limits: list[list[float]], bounds: list[int]) -> str:
        """Return one window of a huge plane as a `data:` URI.

        Parameters
        ----------
        view : View
            As it was drawn.
        limits : list of pairs
            The contrast of the whole plane, from `draw`.
        bounds : list of int
            First row, end of rows, first column, end of columns.
        """
        planes = self.planes(view.path, view.labels)
        index = min(max(view.index, 0), planes.count - 1)
        top, bottom = sorted(min(max(int(part), 0), planes.height) for part in bounds[:2])
        left, right = sorted(min(max(int(part), 0), planes.width) for part in bounds[2:4])
        rows, columns = slice(top, bottom), slice(left, right)
        if (bottom - top) * (right - left) > BAND_PIXELS or top == bottom or left == right:
            return ""
        step = preview_step(bottom - top, right - left, LONGEST_SIDE)
        image = planes.window(index, rows, columns)[_channels(view, planes), ::step, ::step]
        labels: NDArray[Any] | None = None
        values: tuple[int, ...] = ()
        if view.labels:
            self._check_fit(view.labels, view.path)
            labels = self._labels(view.labels).window(index, rows, columns)[0, ::step, ::step]
            values = self.label_values(view.labels)
        fixed = np.asarray(limits, dtype=np.float32).reshape(len(image), 2)
        return png_uri(
            overlay(
                image, labels, class_values=values, opacity=view.opacity, contrast=fixed, hidden=view.hidden
            )
        )

    def _segmentation(self, path: str) -> JobView | None:
        """Return the job that wrote a file, or None if it is no segmentation of ours."""
        parts = Path(path).parts
        if len(parts) < 3 or parts[0] != "results" or parts[2].partition(".")[0] != "segmentation":
            return None
        try:
            return self._services.job(parts[1])
        except SegcoreError:
            return None

    def _labels(self, path: str) -> Planes:
        return self._keep(
            ("labels", *self._stamp(path)), lambda: Planes(open_labels(self._services.resolve(path)))
        )

    def _preview(self, planes: Planes, path: str, index: int) -> NDArray[Any]:
        key = ("plane", index, planes.source.axes, *self._stamp(path))
        return self._keep(key, lambda: _preview(planes, index))

    def _check_fit(self, labels: str, image: str) -> None:
        over, under = self._labels(labels), self.planes(image, labels)
        if (over.count, over.height, over.width) != (under.count, under.height, under.width):
            raise DataError(
                f"{labels} does not fit {image}: {over.shape_text} beside {under.shape_text}.",
                "Choose labels of the same size.",
            )

    def _stamp(self, path: str) -> tuple[str, int, int]:
        full = self._services.resolve(path)
        if not _is_image(full):
            raise DataError(f"{path!r} is not an image.", "Choose an image file or a Zarr folder.")
        status = (full / "zarr.json" if (full / "zarr.json").is_file() else full).stat()
        return str(full), status.st_mtime_ns, status.st_size

    def _keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under `key`, or make it; two that come at once may both make it, harmlessly."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: T = self._kept[key]
                return kept
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 24:
                self._kept.popitem(last=False)
        return made


def _preview(planes: Planes, index: int) -> NDArray[Any]:
    return thinned(planes, index, preview_step(planes.height, planes.width, LONGEST_SIDE))


def _channels(view: View, planes: Planes) -> list[int]:
    wanted = [channel for channel in view.channels if 0 <= channel < planes.channels]
    return wanted[:MOST_CHANNELS] or [0]


def _common_start(one: str, other: str) -> int:
    """Return how many first letters two names share."""
    return next((at for at, pair in enumerate(zip(one, other, strict=False)) if len(set(pair)) > 1), len(one))


def _results(job: Job) -> list[Path]:
    """Return the label images that a segmentation wrote."""
    found = [job.folder / f"segmentation{ending}" for ending in (".tif", ".ome.zarr")]
    folder = job.folder / "segmentation"
    inner = [path for ending in ("*.tif", "*.ome.zarr") for path in folder.rglob(ending)]
    return [*filter(_is_image, found), *sorted(inner)]


def _is_image(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _sounds_like_labels(path: Path) -> bool:
    image = path.suffix.lower() in IMAGES
    return image and any(word in path.stem.lower() for word in LABEL_WORDS)
