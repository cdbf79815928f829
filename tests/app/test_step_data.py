"""Step 1: what is drawn is what the check read, also where the file names its axes wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from tabs_workspace import make_services

from app import forms
from app.services import Services
from app.steps import data
from segcore.config import DataConfig

IMAGES, LABELS = "data/cells.tif", "data/cells_labels.tif"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Four slices of 40 × 50 that the files call channels."""
    services = make_services(tmp_path)
    grey = np.random.default_rng(0).integers(0, 4000, (4, 40, 50)).astype(np.uint16)
    masks = (grey > 2000).astype(np.uint8)
    for path, stack in ((IMAGES, grey), (LABELS, masks)):
        tifffile.imwrite(
            services.workspace.root / path, stack, photometric="minisblack", metadata={"axes": "CYX"}
        )
    return services


def chosen(images: str, labels: str, **options: object) -> list[object]:
    shown = forms.shown_data(DataConfig()) | {"images": images, "labels": labels} | options
    return [shown[name] for name in forms.DATA]


def check(services: Services, images: str, labels: str, **options: object) -> dict[str, object]:
    shown = data.check(services, chosen(images, labels, **options), "classes", 40)
    return dict(zip(data.SHOWN, shown, strict=True))


def test_slices_called_channels_are_drawn_as_the_slices_the_check_read(services: Services) -> None:
    shown = check(services, IMAGES, LABELS)
    assert "4 × 40 × 50, ZYX" in str(shown["legend"])
    assert (shown["plane"].visible, shown["plane"].maximum) == (True, 3)  # type: ignore[attr-defined]
    pictures = {data.redraw(services, chosen(IMAGES, LABELS), "classes", plane, 40) for plane in range(4)}
    assert len(pictures) == 4
    assert all("<img" in picture for picture in pictures)


def test_axes_that_a_person_gives_decide_check_and_picture(services: Services) -> None:
    alone = check(services, IMAGES, "")
    assert not alone["plane"].visible  # type: ignore[attr-defined]
    given = check(services, IMAGES, "", axes=" zyx ")
    assert given["plane"].maximum == 3  # type: ignore[attr-defined]
    assert given["picture"] != alone["picture"]


def test_impossible_axes_are_explained_without_a_pattern(services: Services) -> None:
    shown = check(services, IMAGES, LABELS, axes="QQ")
    assert "for example ZYX" in str(shown["findings"])
    assert "pattern" not in str(shown["findings"])
    assert not shown["next"].interactive  # type: ignore[attr-defined]


def test_objects_with_numbers_may_be_learned_one_by_one(services: Services) -> None:
    rows, columns = np.mgrid[:160, :160]
    objects = np.where((rows % 32 < 24) & (columns % 32 < 24), 1 + rows // 32 * 5 + columns // 32, 0)
    grey = 150 * (objects > 0) + np.random.default_rng(1).integers(0, 100, objects.shape)
    for path, stack in ((IMAGES, grey), (LABELS, objects)):
        tifffile.imwrite(services.workspace.root / path, stack.astype(np.uint8), photometric="minisblack")
    shown = check(services, IMAGES, LABELS)
    assert shown["foreground"].visible  # type: ignore[attr-defined]
    assert shown["objects"].visible  # type: ignore[attr-defined]
    read = data.check(services, chosen(IMAGES, LABELS), "objects", 40)
    told = dict(zip(data.SHOWN, read, strict=True))
    assert not told["objects"].visible
    assert told["next"].interactive
