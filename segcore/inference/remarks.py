"""What is to be said of the images that are segmented: at once of one, once for all that share it of many."""

from __future__ import annotations

from segcore.data.comparison import Comparison, pooled
from segcore.events import NoteEvent, Reporter

NAMED = 5


class Remarks:
    """Collects warnings and reports each once, with the images it is about.

    Parameters
    ----------
    images : int
        Images in all; of a single one everything is reported at once.
    report : Reporter
        Told of them.
    """

    def __init__(self, images: int, report: Reporter) -> None:
        self._images = images
        self._report = report
        self._names: dict[str, list[str]] = {}
        self._comparisons: list[Comparison] = []

    def add(self, name: str, text: str) -> None:
        """Take note of something about an image."""
        if self._images == 1:
            self._report(NoteEvent(level="warning", text=text))
            return
        self._names.setdefault(text, []).append(name)

    def compare(self, comparison: Comparison | None) -> None:
        """Take note of how the grey values of an image differ from those of the training images.

        Of many images, all together are judged: in a mixed set every single one may differ from the whole.
        """
        if comparison is None:
            return
        self._comparisons.append(comparison)
        if self._images == 1:
            self._tell_difference()

    def tell(self) -> None:
        """Report what was collected of many images."""
        if self._images == 1:
            return
        for text, names in self._names.items():
            listed = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
            self._report(
                NoteEvent(level="warning", text=f"{len(names)} of {self._images} images ({listed}): {text}")
            )
        self._tell_difference()

    def _tell_difference(self) -> None:
        warning = pooled(self._comparisons).warning() if self._comparisons else None
        if warning:
            self._report(warning)
