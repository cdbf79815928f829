"""The process that answers prompts, and the server's end of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from known_objects import KnownObjects, write_sam2
from PIL import Image

from segcore.errors import ModelError
from segcore.promptable import client
from segcore.promptable.cache import EmbeddingCache
from segcore.promptable.client import PromptProcess
from segcore.promptable.messages import Answer, Request
from segcore.promptable.serve import Prompter, serve


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Write two slices whose pixels are the numbers of their objects."""
    planes = np.zeros((2, 60, 80), np.uint8)
    planes[0, 10:30, 10:40], planes[1, 5:25, 50:70], planes[1, 40:55, 5:30] = 1, 1, 2
    tifffile.imwrite(tmp_path / "slices.tif", planes, photometric="minisblack", metadata={"axes": "ZYX"})
    return tmp_path / "slices.tif"


@pytest.fixture
def ask(image: Path, tmp_path: Path) -> Callable[..., Answer]:
    """Return a function that asks a network without fault; it never loads one called `none`."""

    def load(model: str) -> KnownObjects:
        if model == "none":
            raise ModelError("There is no such network.", "Take another.")
        if model == "bug":
            raise RuntimeError
        return KnownObjects(model)

    prompter = Prompter(load, EmbeddingCache(tmp_path / "kept"))

    def ask(do: str = "mask", plane: int = 1, part: dict[str, Any] | None = None, **fields: Any) -> Answer:
        place = {"data": {"images": str(image)}, "plane": plane, **(part or {})}
        values = {"id": 7, "do": do, "model": "known", "place": place, **fields}
        return prompter.answer(Request.model_validate(values))

    return ask


def test_prompts_are_answered_with_masks_of_the_place(ask: Callable[..., Answer]) -> None:
    assert ask("embed").message == ""
    answer = ask(points=[(10, 55)], labels=[1])
    assert answer.id == 7
    expected = np.zeros((60, 80), bool)
    expected[5:25, 50:70] = True
    masks = [mask.pixels() for mask in answer.masks]
    assert [mask.shape for mask in masks] == [(60, 80)] * 3
    assert any((mask ^ expected).sum() < 0.2 * expected.sum() for mask in masks)
    assert [mask.score for mask in answer.masks] == sorted((m.score for m in answer.masks), reverse=True)
    part = ask(points=[(2, 3)], labels=[1], part={"rows": (4, 30), "columns": (48, 75)})
    assert part.masks[0].pixels().shape == (26, 27)


def test_everything_is_answered_with_numbers(ask: Callable[..., Answer]) -> None:
    answer = ask("everything")
    assert answer.message == ""
    labels = answer.objects()
    assert labels.shape == (60, 80)
    assert labels.max() == len(answer.scores) == 2
    assert len(ask("everything", plane=0).scores) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "empty"),
        ({"points": [(1, 1)], "labels": [3]}, "label"),
        ({"plane": 2}, "no slice 2"),
        ({"part": {"rows": (50, 70)}}, "50 to 70"),
        ({"model": "none"}, "no such network"),
        ({"model": "bug"}, "inside the program"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_is_answered(
    ask: Callable[..., Answer], fields: dict[str, Any], message: str
) -> None:
    answer = ask(**fields)
    assert message in answer.message
    assert answer.remedy
    assert ask(points=[(10, 55)], labels=[1]).message == ""


def test_every_request_is_answered_until_who_asks_is_gone(
    image: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    place = {"data": {"images": str(image)}, "plane": 0}
    good = Request.model_validate({"id": 1, "do": "embed", "model": "known", "place": place})
    gone, said = threading.Event(), []

    def lines() -> Iterator[str]:
        yield "this is no request\n"
        yield "[8]\n"
        yield '{"id": 9, "do": "dance"}\n'
        yield good.model_dump_json() + "\n"
        gone.wait(60)

    prompter = Prompter(lambda model: KnownObjects(model), EmbeddingCache(tmp_path / "kept"))
    process = threading.Thread(target=serve, args=(lines(), said.append, prompter))
    process.start()
    try:
        wait_until(lambda: any(answer.id == 1 and not answer.stage for answer in said))
    finally:
        gone.set()
        process.join(20)
    assert not process.is_alive()
    assert "cannot be read" in said[0].message
    assert [(answer.id, answer.stage) for answer in said] == [
        (9, ""),
        (1, "Loading the network"),
        (1, "Looking at the slice"),
        (1, ""),
    ]


def test_an_idle_process_ends_by_itself(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    gone = threading.Event()

    def lines() -> Iterator[str]:
        gone.wait(60)
        yield from ()

    prompter = Prompter(lambda model: KnownObjects(model), EmbeddingCache(tmp_path / "kept"))
    process = threading.Thread(target=serve, args=(lines(), print, prompter, 0.01))
    process.start()
    try:
        wait_until(lambda: not process.is_alive())
    finally:
        gone.set()


FAKE = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["model"] == "die":
        break
    if request["model"] == "sleep":
        continue
    message = "" if request["model"] == "well" else "No such luck."
    print("not an answer", flush=True)
    print(json.dumps({"id": request["id"], "message": message, "remedy": "Try."}), flush=True)
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PromptProcess]:
    """Return a client whose process does as the name of the network says."""
    monkeypatch.setattr(client, "COMMAND", [sys.executable, "-c", FAKE])
    process = PromptProcess(tmp_path / "state" / "prompts.log")
    yield process
    process.close()


def _is_there(process: PromptProcess) -> bool:
    return process._process is not None and process._process.poll() is None


def _request(model: str) -> dict[str, Any]:
    return {"do": "embed", "model": model, "place": {"data": {"images": "any.tif"}, "plane": 0}}


def test_answers_come_and_failures_are_errors(process: PromptProcess) -> None:
    assert not _is_there(process)
    numbers = [process.ask(_request("well")).id for _ in range(3)]
    assert numbers == [1, 2, 3]
    assert _is_there(process)
    with pytest.raises(ModelError, match="No such luck") as caught:
        process.ask(_request("badly"))
    assert caught.value.remedy == "Try."


@pytest.mark.parametrize(
    "field", [{"points": [(float("nan"), 1)]}, {"box": (0, 0, float("inf"), 1)}, {"do": 3}]
)
def test_what_cannot_be_asked_is_told_and_the_next_is_answered(
    process: PromptProcess, field: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="cannot be asked"):
        process.ask({**_request("well"), **field})
    assert not _is_there(process)
    assert process.ask(_request("well")).message == ""


def test_masks_of_large_slices_are_read(ask: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # of 4800: Pillow calls that an attack
    assert ask(points=[(10, 55)], labels=[1]).masks[0].pixels().any()
    assert ask("everything").objects().max() == 2


def test_a_process_that_ended_is_started_again(process: PromptProcess) -> None:
    process.ask(_request("well"))
    with pytest.raises(ModelError, match="ended"):
        process.ask(_request("die"))
    assert process.ask(_request("well")).message == ""
    assert _is_there(process)


def test_what_takes_too_long_is_given_up(process: PromptProcess) -> None:
    with pytest.raises(ModelError, match="took more than"):
        process.ask(_request("sleep"), 0.2)
    assert not _is_there(process)


def test_who_waits_is_told_when_the_process_is_closed(
    process: PromptProcess, wait_until: Callable[..., None]
) -> None:
    failures: list[ModelError] = []

    def wait() -> None:
        try:
            process.ask(_request("sleep"))
        except ModelError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: _is_there(process))
    process.close()
    waiting.join(20)
    assert [str(error) for error in failures if "ended" in str(error)]
    assert not _is_there(process)


def test_the_real_process_answers_a_click(image: Path, tmp_path: Path) -> None:
    process = PromptProcess(tmp_path / "prompts.log")
    try:
        place = {"data": {"images": str(image)}, "plane": 1}
        model = str(write_sam2(tmp_path / "tiny"))
        process.ask({"do": "embed", "model": model, "place": place})
        answer = process.ask(
            {"do": "mask", "model": model, "place": place, "points": [(10, 55)], "labels": [1]}
        )
        assert [mask.pixels().shape for mask in answer.masks] == [(60, 80)] * 3
        assert answer.seconds < 30
    finally:
        process.close()


def test_the_end_of_the_server_needs_no_torch() -> None:
    names = ("client", "cache", "everything", "messages", "promptable")
    code = "import sys\n" + "".join(f"import segcore.promptable.{name}\n" for name in names)
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
