"""A segmentation that was broken off goes on at the first block that is not done, to the same result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segcore import prediction as prediction_module
from segcore.config import RunConfig
from segcore.devices import choose
from segcore.errors import JobError
from segcore.events import Request
from segcore.files import sha256
from segcore.inference import image as image_module
from segcore.inference.partial import Partial
from segcore.inference.run import segment
from segcore.inference.sinks import Sink
from segcore.models.saved import find_model, load_model
from segcore.prediction import Division
from segcore.predictor import Predictor

MakeConfig = Callable[..., RunConfig]
TILED = {"tile_size": 64, "probabilities": True}


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make an image of several tiles, and let two go through the network together."""
    real = prediction_module.divide
    few = {"batch": 2}
    monkeypatch.setattr(prediction_module, "divide", lambda *given: replace(real(*given), **few))
    image = np.random.default_rng(1).integers(0, 256, (2, 150, 130)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, imagej=True, metadata={"axes": "ZYX"})
    return {"images": str(tmp_path / "large.tif")}


def _at(number: int, request: Request) -> Callable[[], Request | None]:
    """Ask for something at the question `number`."""
    left: Iterator[int] = iter(range(number))
    return lambda: request if next(left, None) is None else None


class _Killed(BaseException):
    """Stands for the end of the process."""


def _sums(folder: Path) -> list[str]:
    return [sha256(folder / name) for name in ("segmentation.tif", "probabilities.tif")]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what goes through the network."""
    found: list[int] = []
    real = Predictor.apply

    def counted(self: Predictor, images, *rest):  # type: ignore[no-untyped-def]
        found.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(Predictor, "apply", counted)
    return found


def test_a_pause_keeps_what_is_done_and_a_second_call_does_the_rest(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, listener, passes: list[int]
) -> None:
    config = make_config(data=large, inference=TILED)
    whole = segment(config, tmp_path / "whole", listener)
    in_all = sum(passes)
    passes.clear()
    paused = segment(config, tmp_path / "parts", listener, _at(3, Request.PAUSE))
    assert paused.request is Request.PAUSE
    assert not (tmp_path / "parts" / "segmentation.tif").exists()
    before = sum(passes)
    assert 0 < before < in_all
    outcome = segment(config, tmp_path / "parts", listener)
    assert sum(passes) == in_all
    assert outcome.metrics["class_pixels"] == whole.metrics["class_pixels"]
    assert _sums(tmp_path / "parts") == _sums(tmp_path / "whole")
    assert not (tmp_path / "parts" / "partial").exists()
    assert any(event.text.startswith("going on after") for event in listener.of("note"))


@pytest.mark.parametrize("moment", range(5))
def test_a_death_at_any_write_costs_only_what_was_not_on_disk(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    listener,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    config = make_config(data=large, inference=TILED)
    segment(config, tmp_path / "whole", listener)
    monkeypatch.setattr("segcore.inference.writing.FLUSH_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        real, calls = Partial.note, iter(range(moment))

        def dies(self: Partial, blocks: dict[int, list[int]]) -> None:
            if next(calls, None) is None:
                raise _Killed
            real(self, blocks)

        patched.setattr(Partial, "note", dies)
        with pytest.raises(_Killed):
            segment(config, tmp_path / "parts", listener)
    segment(config, tmp_path / "parts", listener)
    assert _sums(tmp_path / "parts") == _sums(tmp_path / "whole")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_cores_go_on_with_what_is_done(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    listener,
    passes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    config = make_config(data=large, inference=TILED, hardware={"device": "cpu", "precision": precision})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        segment(config, tmp_path / "whole", listener)
        in_all = sum(passes)
        passes.clear()
        segment(config, tmp_path / "parts", listener, _at(3, Request.PAUSE))
        torch.set_num_threads(2)
        segment(config, tmp_path / "parts", listener)
    finally:
        torch.set_num_threads(before)
    assert sum(passes) == in_all
    whole, parts = (tifffile.imread(tmp_path / name / "probabilities.tif") for name in ("whole", "parts"))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    devices = json.loads((tmp_path / "parts" / "metadata.json").read_text())["devices"]
    assert devices == [f"CPU, 1 core, {precision}", f"CPU, 2 cores, {precision}"]
    assert any("may differ in rounding" in event.text for event in listener.of("note"))


@pytest.mark.parametrize(
    ("killed_in", "device"), [("Writer.put", "CPU, 2 cores, fp32"), ("finish_sink", "CPU, 1 core, fp32")]
)
def test_only_devices_that_predicted_something_are_named(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    listener,
    monkeypatch: pytest.MonkeyPatch,
    killed_in: str,
    device: str,
) -> None:
    def dies(*given: object) -> None:
        raise _Killed

    config = make_config(data=large, inference=TILED, hardware={"device": "cpu", "precision": "fp32"})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with monkeypatch.context() as patched:
            patched.setattr(f"segcore.inference.image.{killed_in}", dies)
            with pytest.raises(_Killed):
                segment(config, tmp_path / "run", listener)
        torch.set_num_threads(2)
        segment(config, tmp_path / "run", listener)
    finally:
        torch.set_num_threads(before)
    metadata = json.loads((tmp_path / "run" / "metadata.json").read_text())
    assert metadata["devices"] == [device]
    assert not any("may differ in rounding" in event.text for event in listener.of("note"))


def test_grey_values_that_are_read_can_be_broken_off(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segcore.data.planes.STRIP_PIXELS", 130 * 10)
    config = make_config(data=large, inference=TILED)
    model = load_model(*find_model(config.inference.model or ""), choose(config.hardware))
    own = model.card.normalization.model_copy(update={"per": "image", "kind": "percentile"})
    model = replace(model, card=model.card.model_copy(update={"normalization": own}))
    paused = segment(config, tmp_path / "run", listener, _at(4, Request.PAUSE), model=model)
    assert paused.request is Request.PAUSE
    told = [event for event in listener.of("progress") if event.stage == "reading grey values"]
    assert [event.done for event in told] == [1, 2, 3, 4]
    assert {event.total for event in told} == {30}
    assert not (tmp_path / "run" / "partial" / "0" / "plan.json").exists()


@pytest.mark.parametrize("change", ["image", "options"])
def test_what_would_give_another_result_begins_anew(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, listener, change: str
) -> None:
    config = make_config(data=large, inference=TILED)
    segment(config, tmp_path / "parts", listener, _at(3, Request.PAUSE))
    if change == "image":
        image = np.random.default_rng(2).integers(0, 256, (2, 150, 130)).astype(np.uint8)
        tifffile.imwrite(large["images"], image, imagej=True, metadata={"axes": "ZYX"})
    else:
        config = make_config(data=large, inference=TILED | {"tile_size": 128})
    segment(config, tmp_path / "parts", listener)
    segment(config, tmp_path / "whole", listener)
    assert _sums(tmp_path / "parts") == _sums(tmp_path / "whole")


def test_a_full_disk_keeps_what_is_done(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data=large, inference=TILED)
    segment(config, tmp_path / "whole", listener)
    real = image_module.reopen_sink
    with monkeypatch.context() as patched:
        left = iter(range(6))

        class Full:
            """A sink on a disk that becomes full."""

            def __init__(self, sink: Sink) -> None:
                self._sink = sink

            def __getattr__(self, name: str) -> object:
                return getattr(self._sink, name)

            def write(self, *place: object) -> None:
                if next(left, None) is None:
                    raise JobError("The disk is full.")
                self._sink.write(*place)  # type: ignore[arg-type]

        patched.setattr(image_module, "reopen_sink", lambda path, spec: Full(real(path, spec)))
        with pytest.raises(JobError, match="full"):
            segment(config, tmp_path / "parts", listener)
    done = (tmp_path / "parts" / "partial" / "0" / "done.jsonl").read_text().splitlines()
    assert done
    segment(config, tmp_path / "parts", listener)
    assert _sums(tmp_path / "parts") == _sums(tmp_path / "whole")


def test_of_many_images_those_that_are_finished_are_not_predicted_again(
    make_config: MakeConfig, tmp_path: Path, listener, passes: list[int]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in "abc":
        tifffile.imwrite(folder / f"{name}.tif", np.full((40, 30), ord(name), np.uint8))
    config = make_config(data={"images": str(folder)})
    segment(config, tmp_path / "parts", listener, _at(2, Request.PAUSE))
    assert sum(passes) == 2
    segment(config, tmp_path / "parts", listener)
    assert sum(passes) == 3
    metadata = json.loads((tmp_path / "parts" / "metadata.json").read_text())
    assert [image["name"] for image in metadata["images"]] == ["a.tif", "b.tif", "c.tif"]
    assert sorted(path.name for path in (tmp_path / "parts" / "segmentation").iterdir()) == [
        "a.tif", "b.tif", "c.tif",
    ]  # fmt: skip


def test_a_torn_line_of_the_record_is_left_out(tmp_path: Path) -> None:
    def divide() -> tuple[Division, None]:
        return Division((1, 8, 8), (4, 4)), None

    partial = Partial.take_up(tmp_path / "0", "key", divide)
    partial.folder.mkdir()
    partial.begin("CPU")
    partial.note({0: [1, 2], 1: [3, 4]})
    with (partial.folder / "done.jsonl").open("a") as stream:
        stream.write('{"block": 2, "pix')
    again = Partial.take_up(tmp_path / "0", "key", divide)
    assert (again.done, again.division) == (partial.done, partial.division)
    again.note({2: [5, 6]})
    assert Partial.take_up(tmp_path / "0", "key", divide).pixels == [9, 12]
    assert Partial.take_up(tmp_path / "0", "other", divide).done == {}
