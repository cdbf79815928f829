"""Viewer: choosing a file decides what is over it, and what cannot be shown is said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import tifffile
from tabs_workspace import make_result, make_services, write_labels, write_stack

from app.services import Services
from app.stacks import StackReader
from app.tabs import viewer

IMAGE, LABELS = "data/images.tif", "data/labels.tif"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


def draw(reader: StackReader, path: str, labels: str = "", **changes: Any) -> tuple[dict[str, Any], gr.HTML]:
    values = {"index": 0, "low": 1.0, "high": 99.8, "opacity": 40, "classes": [], "channels": [0]} | changes
    return viewer.draw(reader, path, labels, *values.values())


def test_an_image_comes_with_the_labels_that_belong_to_it(services: Services) -> None:
    reader = StackReader(services)
    labels, index, channels, facts, classes, opacity, legend = viewer.choose(reader, IMAGE)
    assert labels.value == LABELS
    assert (index.maximum, index.value, index.visible) == (2, 1, True)
    assert not channels.visible
    assert "3 × 40 × 50" in facts
    assert "?tab=viewer&amp;path=data/images.tif" in facts
    assert classes.value == [0, 7, 255]
    assert opacity.visible
    assert "255" in legend


def test_a_result_is_shown_over_its_image(services: Services) -> None:
    reader = StackReader(services)
    result = make_result(services)
    assert viewer.choose(reader, result)[0].value == result
    picture, problem = draw(reader, result, result, classes=[0, 255])
    assert picture["request"]["path"] == IMAGE
    assert picture["request"]["labels"] == result
    assert not problem.visible


def test_classes_of_a_segmentation_have_the_names_of_its_model(services: Services) -> None:
    result = make_result(services)
    metadata = services.resolve(result).with_name("metadata.json")
    metadata.write_text('{"class_names": {"0": "0", "255": "nucleus <b>"}}', encoding="utf-8")
    *_, classes, _, legend = viewer.choose(StackReader(services), result)
    assert classes.choices == [("0", 0), ("255 nucleus <b>", 255)]
    assert "nucleus &lt;b&gt;" in legend


def test_slices_that_a_file_calls_channels_are_slices_beside_its_labels(services: Services) -> None:
    folder = services.workspace.data
    for name in ("cells_raw.tif", "cells_labels.tif"):
        stack = np.arange(3 * 40 * 50).reshape(3, 40, 50) % 2
        tifffile.imwrite(
            folder / name, stack.astype(np.uint8), photometric="minisblack", metadata={"axes": "CYX"}
        )
    image, labels = "data/cells_raw.tif", "data/cells_labels.tif"
    reader = StackReader(services)
    over, index, channels, *_ = viewer.choose(reader, image)
    assert over.value == labels
    assert index.maximum == 2
    assert not channels.visible
    picture, problem = draw(reader, image, labels, index=2, classes=[0, 1])
    assert "src" in picture
    assert not problem.visible


def test_classes_that_are_not_ticked_are_hidden(services: Services) -> None:
    picture, _ = draw(StackReader(services), IMAGE, LABELS, classes=[255])
    assert picture["request"]["hidden"] == (0, 7)


@pytest.mark.parametrize(
    ("path", "labels"), [("data/gone.tif", ""), ("../outside.tif", ""), (IMAGE, "data/gone.tif")]
)
def test_what_cannot_be_shown_is_said(services: Services, path: str, labels: str) -> None:
    picture, problem = draw(StackReader(services), path, labels)
    assert "src" not in picture
    assert problem.visible
    assert (labels or path) in problem.value


def test_without_a_choice_the_page_says_what_to_do(services: Services) -> None:
    reader = StackReader(services)
    assert draw(reader, "")[0] == viewer.EMPTY
    assert viewer.choose(reader, None)[0].value == ""


def test_the_lists_offer_what_belongs_first(services: Services) -> None:
    write_stack(services, "another.tif")
    result = make_result(services)
    paths, labels = viewer.choices(StackReader(services), IMAGE)
    assert [value for _, value in paths.choices] == ["data/another.tif", IMAGE, LABELS, result]
    assert [value for _, value in labels.choices][:3] == ["", result, LABELS]
