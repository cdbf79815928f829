"""Masks drawn by clicking: what the page is answered, what is kept, and the labels that become of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import tifffile
from known_objects import KnownObjects
from PIL import Image
from tabs_workspace import make_services

from app import forms, mask_panel
from app.mask_desk import HUB, told
from app.services import Services
from segcore.config import DataConfig
from segcore.data.collection import open_collection
from segcore.data.targets import LabelRule, number_plane
from segcore.errors import ModelError, SegcoreError
from segcore.promptable.cache import EmbeddingCache
from segcore.promptable.messages import Answer, Request
from segcore.promptable.serve import Prompter
from segcore.tiling import IGNORE

IMAGES = "data/cells.tif"
SIZE = (60, 80)


class InThisProcess:
    """Answers like the process, with a network that knows the objects."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self._prompter = Prompter(KnownObjects, EmbeddingCache(folder))

    def ask(
        self, request: dict[str, Any], seconds: float | None = None, told: Callable[[Answer], None] = print
    ) -> Answer:
        """Answer a request as `PromptProcess.ask` does."""
        self.asked.append(request["do"])

        def tell(stage: str, done: int, total: int) -> None:
            told(Answer(id=1, stage=stage, done=done, total=total))

        answer = self._prompter.answer(Request.model_validate({**request, "id": 1}), tell)
        if answer.message:
            raise ModelError(answer.message, answer.remedy)
        return answer


def objects() -> np.ndarray:
    """Return three slices with two objects each."""
    planes = np.zeros((3, *SIZE), np.uint8)
    planes[:, 10:30, 10:40], planes[:, 35:55, 45:70] = 1, 2
    return planes


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Return services whose images are numbers of objects."""
    services = make_services(tmp_path)
    tifffile.imwrite(
        services.workspace.root / IMAGES, objects(), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    services.masks._process = InThisProcess(tmp_path / "kept")  # type: ignore[assignment]
    return services


@pytest.fixture
def request_of(services: Services) -> Callable[..., dict[str, Any]]:
    def make(plane: int = 1, **fields: Any) -> dict[str, Any]:
        text, _ = services.masks.images(DataConfig(images=IMAGES))
        return {"data": text, "plane": plane, "model": "owner/name", **fields}

    return make


def inside(row: float = 20, column: float = 20) -> dict[str, Any]:
    return {"points": [[row, column]], "labels": [1]}


def pixels(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture)


def over(services: Services, begun: dict[str, Any], wait_until: Callable[..., None]) -> dict[str, Any]:
    """Wait for a work and return its end."""
    wait_until(lambda: services.masks.follow(begun)["over"])
    return services.masks.follow(begun)


def test_a_click_becomes_an_object_that_is_found_again(
    services: Services, request_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    desk = services.masks
    seen = desk.look(request_of())
    assert (seen["height"], seen["width"], seen["objects"], seen["worked"]) == (*SIZE, 0, ())
    assert pixels(seen["src"]).shape == (*SIZE, 3)
    found = desk.mask(request_of(**inside()))
    scores = [mask["score"] for mask in found["masks"]]
    assert scores == sorted(scores, reverse=True)
    choice = next(at for at, mask in enumerate(found["masks"]) if pixels(mask["src"])[0, 0] == 0)
    shown = pixels(found["masks"][choice]["src"])
    kept = desk.accept(request_of(**inside(), choice=choice))
    assert (kept["objects"], kept["worked"]) == (1, (1,))
    assert np.array_equal(pixels(kept["numbers"]) > 0, shown > 0)
    assert services.masks._process.asked == ["mask"], "what was shown is kept, and not asked again"
    again = make_services(tmp_path).masks.look(request_of())
    assert again["numbers"] == kept["numbers"]
    assert again["worked"] == (1,)


def test_no_object_takes_the_pixels_of_another(
    services: Services, request_of: Callable[..., dict[str, Any]]
) -> None:
    store, (_, images) = services.masks.store, services.masks.images(DataConfig(images=IMAGES))
    first, second = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    first[5:20, 5:20], second[10:30, 10:30] = True, True
    assert (store.add(images, 1, first), store.add(images, 1, second)) == (1, 2)
    numbers = store.numbers(images, 1)
    assert np.array_equal(numbers == 1, first)
    assert np.array_equal(numbers == 2, second & ~first)
    with pytest.raises(SegcoreError, match="all of this mask"):
        store.add(images, 1, first)
    assert not services.masks.remove(request_of(row=0, column=0))["removed"]
    assert services.masks.remove(request_of(row=12, column=12))["removed"]
    assert np.array_equal(store.numbers(images, 1) == 2, second & ~first)
    assert store.worked(images) == (1,)
    assert services.masks.clear(request_of())["worked"] == ()


def test_everything_on_a_slice_is_found_but_for_what_is_there(
    services: Services, request_of: Callable[..., dict[str, Any]], wait_until: Callable[..., None]
) -> None:
    desk = services.masks
    ready = over(services, desk.prepare(request_of()), wait_until)
    assert "problem" not in ready
    masks = desk.mask(request_of(**inside()))["masks"]
    choice = next(at for at, mask in enumerate(masks) if pixels(mask["src"])[0, 0] == 0)
    desk.accept(request_of(**inside(), choice=choice))
    found = over(services, desk.everything(request_of()), wait_until)
    assert found["found"] == 1, "one of two was there"
    assert desk.look(request_of())["objects"] == 2
    assert over(services, desk.everything(request_of()), wait_until)["found"] == 0


def chosen(**options: Any) -> list[Any]:
    shown = forms.shown_data(DataConfig()) | {"images": IMAGES} | options
    return [shown[name] for name in forms.DATA]


@pytest.mark.parametrize("several", [False, True])
def test_accepted_objects_become_labels_that_training_reads(services: Services, several: bool) -> None:
    source = IMAGES
    if several:
        source = "data/many"
        for name in ("x.tif", "y.tif"):
            (services.workspace.root / source).mkdir(exist_ok=True)
            tifffile.imwrite(
                services.workspace.root / source / name, objects(), photometric="minisblack",
                metadata={"axes": "ZYX"},
            )  # fmt: skip
    _, images = services.masks.images(DataConfig(images=source))
    mask = objects()[0] == 1
    for index in (0, 2, images.count - 1):
        if not (services.masks.store.numbers(images, index) > 0).any():
            services.masks.store.add(images, index, mask)
    given = chosen(images=source, recipe="images.invert\nlabels.flip Y")
    labels, unlabelled, recipe, labels_as, head, message = mask_panel.use(services, given)
    assert (unlabelled, labels_as, head) == ("65535", "objects", "boundary")
    assert "images.invert" in str(recipe)
    assert "labels" not in str(recipe)
    assert labels in message
    data = services.data.located(
        DataConfig(images=source, labels=labels, labels_as="objects", unlabelled_value=int(unlabelled))
    )
    collection = open_collection(data)
    planes = [number_plane(collection, *collection.locate(index), LabelRule.of(data)) for index in range(3)]
    assert (planes[1] == IGNORE).all()
    assert np.array_equal(planes[0] > 0, mask)
    assert planes[0].max() != planes[2].max()
    assert collection.count == images.count
    # The same objects are the same labels; others leave those alone, for a training may read them.
    before = [path.read_bytes() for path in sorted(Path(data.labels or "").rglob("*.tif"))]
    assert mask_panel.use(services, given)[0] == labels
    services.masks.store.add(images, 1, mask)
    other = mask_panel.use(services, given)[0]
    assert other != labels
    assert [path.read_bytes() for path in sorted(Path(data.labels or "").rglob("*.tif"))] == before


def test_without_objects_there_are_no_labels(services: Services) -> None:
    updates = mask_panel.use(services, chosen())
    assert "No object was accepted" in updates[-1]
    assert updates[0] == gr.skip()
    assert mask_panel.NO_IMAGES in mask_panel.use(services, chosen(images=""))[-1]


def test_the_canvas_is_told_what_there_is_to_click_on(services: Services) -> None:
    content = json.loads(mask_panel.canvas_text(services, "owner/name", chosen(recipe="labels.flip Y")))
    assert (content["planes"], content["model"], content["note"]) == (3, "owner/name", "")
    assert DataConfig.model_validate_json(content["data"]) == DataConfig(images=IMAGES)
    for given in (chosen(images=""), chosen(images="data/gone.tif"), chosen(axes="QQ")):
        assert json.loads(mask_panel.canvas_text(services, None, given))["note"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plane": 9}, "no slice 9"),
        ({"data": "{"}, "no images"),
        ({"data": '{"images": "../../etc"}'}, "outside the workspace"),
        ({"model": "../../etc"}, "no network"),
        ({"model": ""}, "No network"),
        ({"model": "data"}, None),
        ({"labels": []}, "label"),
        ({"points": "x"}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
        ({"points": [[float("nan"), 1]]}, "cannot be read"),
        ({"choice": 7}, "that there is not"),
    ],
)
def test_what_the_page_sends_is_not_trusted(
    services: Services,
    request_of: Callable[..., dict[str, Any]],
    fields: dict[str, Any],
    message: str | None,
) -> None:
    found = told(lambda: services.masks.accept({**request_of(**inside()), **fields}))
    assert ("problem" in found) == (message is not None)
    assert message is None or message in found["problem"]


def test_networks_of_the_workspace_are_offered_first(services: Services) -> None:
    folder = services.workspace.data / "networks" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "sam2"}')
    assert services.masks.models() == list(HUB)
    (folder / "model.safetensors").write_bytes(b"weights")
    assert services.masks.models() == ["data/networks/tiny", *HUB]
    image = folder.rename(folder.with_name("tiny.zarr"))  # one image, of perhaps many folders
    assert services.masks.models() == list(HUB)
    image.rename(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert services.masks.models() == list(HUB)


def test_a_work_of_another_server_is_told_as_gone(services: Services) -> None:
    assert "anew" in told(lambda: services.masks.follow({"work": 99}))["problem"]


def test_parts_of_a_slice_are_worked_on_in_their_own_pixels(
    services: Services, request_of: Callable[..., dict[str, Any]], wait_until: Callable[..., None]
) -> None:
    desk, part = services.masks, [8, 4, 58, 76]
    seen = desk.look(request_of(part=part))
    assert (seen["height"], seen["width"], seen["whole"]) == (50, 72, SIZE)
    assert pixels(seen["src"]).shape == (50, 72, 3)
    masks = desk.mask(request_of(part=part, **inside(4, 10)))["masks"]
    choice = next(at for at, mask in enumerate(masks) if pixels(mask["src"])[-1, -1] == 0)
    desk.accept(request_of(part=part, **inside(4, 10), choice=choice))
    (_, images), expected = services.masks.images(DataConfig(images=IMAGES)), objects()[1] == 1
    found = services.masks.store.numbers(images, 1) == 1
    assert (found & expected).sum() > 0.8 * (found | expected).sum()
    assert over(services, desk.everything(request_of(part=part)), wait_until)["found"] == 1
    assert desk.look(request_of())["objects"] == 2
    assert desk.remove(request_of(part=part, row=4, column=10))["removed"]
    for wrong in ([0, 0, 61, 80], [-1, 0, 30, 30], [0, 0, 15, 80], [30, 0, 20, 80]):
        assert "no such part" in told(lambda wrong=wrong: desk.look(request_of(part=wrong)))["problem"]
