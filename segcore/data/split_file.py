"""split.json in the run folder: which slices of which files train, validate and are kept for the test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segcore.data.collection import Collection
from segcore.data.splits import Region, Split
from segcore.errors import DataError
from segcore.files import write_atomic

SPLIT = "split.json"
PARTS = ("train", "validation", "test")


def save_split(folder: Path, collection: Collection, split: Split) -> None:
    """Write `split.json` into a run folder: for every part, the images with their slices and rows."""
    content: dict[str, Any] = {
        part: [_entry(collection, region) for region in getattr(split, part)] for part in PARTS
    }
    write_atomic(folder / SPLIT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def split_folder(weights: Path) -> Path | None:
    """Return the folder with the split that made a model, None if there is none.

    It lies beside the weights, of a kept epoch above `checkpoints/`.
    """
    return next((place for place in weights.absolute().parents[:2] if (place / SPLIT).is_file()), None)


def load_split(folder: Path, collection: Collection) -> Split | None:
    """Return the split of a run for the images it was made with, or None if the run has none.

    Raises
    ------
    DataError
        The collection lacks images of the split: it is another one.
    """
    file = folder / SPLIT
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        numbers = {entry.item.name: number for number, entry in enumerate(collection.entries)}
        missing = sorted({entry["image"] for part in PARTS for entry in content[part]} - numbers.keys())
        if missing:
            raise DataError(
                f"{len(missing)} images of the split in {file} are not here: {', '.join(missing[:5])}.",
                "Choose the images of the training, or score all slices of these.",
            )
        train, validation, test = (
            tuple(_region(entry, numbers[entry["image"]]) for entry in content[part]) for part in PARTS
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is damaged.", "Restore it, or name the slices to score.") from error
    return Split(train, validation, test)


def parts_text(split: Split) -> str:
    """Return how much is in every part: "24 slices train, 6 validate"."""

    def count(regions: Sequence[Region]) -> int:
        return sum(region.planes[1] - region.planes[0] for region in regions)

    text = f"{count(split.train)} slices train, {count(split.validation)} validate"
    return f"{text}, {count(split.test)} are kept for the test" if split.test else text


def _region(entry: dict[str, Any], number: int) -> Region:
    (first, end), (top, bottom) = entry["slices"], entry["rows"]
    return Region(number, (int(first), int(end)), (int(top), int(bottom)))


def _entry(collection: Collection, region: Region) -> dict[str, Any]:
    name = collection.entries[region.item].item.name
    return {"image": name, "slices": list(region.planes), "rows": list(region.rows)}
