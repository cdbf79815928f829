"""The split on the page counts what the split divides, by image or by group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tabs_workspace import make_services

from app import dividing
from app.services import Services
from segcore.config import DataConfig

GROUPED = {"split_by": "groups", "group_pattern": r"(Pos\d+)", "validation_groups": ["Pos*2"]}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Three positions with two images each."""
    services = make_services(tmp_path)
    for folder in ("raw", "masks"):
        for place in ("Pos1", "Pos2", "Pos3"):
            for number in range(2):
                path = services.workspace.data / folder / place / f"{number}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(path, np.eye(64, dtype=np.uint8))
    return services


def test_groups_are_counted_as_they_are_divided(services: Services) -> None:
    data = DataConfig(images="data/raw", labels="data/masks", **GROUPED)
    collection, split = services.data.split(data)
    names = [entry.item.name for entry in collection.entries]
    counts = dividing.by_group(split, [name.partition("/")[0] for name in names])
    assert counts["Pos2"] == {"train": 0, "validation": 2, "test": 0}
    assert sum(sum(one.values()) for one in counts.values()) == collection.count
    html = dividing.split_html(services, data)
    assert "Validation 2 slices" in html
    assert "3 groups" in html


def test_a_split_that_cannot_be_made_is_explained(services: Services) -> None:
    data = DataConfig(images="data/raw", labels="data/masks", **(GROUPED | {"group_pattern": "nowhere"}))
    html = dividing.split_html(services, data)
    assert "matches no image" in html
    assert "Pos1" in html, "the remedy names what there is"
