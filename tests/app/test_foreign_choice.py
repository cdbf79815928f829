"""Models of other programs on the page: chosen with their description, applied, never trained further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.files_input import offered
from app.pretrained import FILES, examine, model_label
from app.registry import ModelCheck
from app.services import Services
from segcore.addresses import FOREIGN
from segcore.config import build_config
from segcore.errors import DataError, ModelError
from segcore.jobs.lineage import check_origin
from segcore.workspace import Workspace

SAID = {
    "normalization": {"kind": "none"},
    "class_names": ["outside", "inside"],
    "channels": 1,
    "mode": "2d",
}


@pytest.fixture
def services(workspace: Workspace, simulated: tuple[Path, Path]) -> Services:
    """Services of a workspace with images and an ONNX file that nobody opens here."""
    shutil.copy(simulated[0], workspace.data)
    (workspace.data / "net.onnx").write_bytes(b"not opened before the job")
    (workspace.data / "net.json").write_text(json.dumps(SAID))
    return Services(workspace, worker=False)


def segmenting(**inference: str) -> object:
    return build_config({"data": {"images": "data/raw.tif"}, "inference": inference})


def test_it_is_applied_with_the_description_that_was_chosen(services: Services) -> None:
    asked = segmenting(model="data/net.onnx", config_file="data/net.json")
    stored = services.job(services.submit_segmentation(asked).id).config.inference
    assert (stored.model, stored.config_file) == tuple(
        str(services.resolve(f"data/net.{suffix}")) for suffix in ("onnx", "json")
    )
    assert services.segmentations.needs(asked) is None  # nobody can calculate its memory
    assert model_label(services, "data/net.onnx") == "net.onnx"


def test_channels_that_do_not_fit_are_told_before_the_job(services: Services) -> None:
    (services.workspace.data / "net.json").write_text(json.dumps(SAID | {"channels": 3}))
    with pytest.raises(ModelError, match="3 channels"):
        services.submit_segmentation(segmenting(model="data/net.onnx"))
    with pytest.raises(DataError, match="outside the workspace"):
        services.submit_segmentation(segmenting(model="../net.onnx"))
    assert services.jobs("predict") == []


def test_step_one_asks_for_its_description_and_offers_no_training(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, model, _, ahead, further = examine(services, FILES, None, None, "data/net.onnx", None)
    assert "Choose its description (.json)" in text
    assert "segcore describe net.onnx" in text
    assert (model, ahead.interactive, further.interactive) == ("", False, False)
    monkeypatch.setattr(services, "check_model", lambda *paths: ModelCheck(True, "A network."))
    _, model, file, ahead, further = examine(services, FILES, None, None, "data/net.onnx", "data/net.json")
    assert (model, file) == ("data/net.onnx", "data/net.json")
    assert (ahead.interactive, further.interactive) == (True, False)


def test_states_of_trainings_are_not_offered_as_models(services: Services) -> None:
    folder = services.workspace.models / "session" / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("last.pt", "best.pt", "epoch-0010.pth"):
        (folder / name).write_bytes(b"")
    (services.workspace.data / "net.pt").write_bytes(b"")
    found = offered(services, (".pth", *FOREIGN))
    assert [Path(path).name for path in found] == ["net.onnx", "net.pt", "epoch-0010.pth"]


def test_it_is_not_trained_further(services: Services) -> None:
    with pytest.raises(ModelError, match="can be applied, but not trained further"):
        services.follow_ups.fine_tune("data/net.onnx", "data/net.json")
    start = {"start_from": str(services.resolve("data/net.onnx"))}
    with pytest.raises(ModelError, match="can be applied, but not trained further"):
        check_origin(build_config({"training": start}), services.workspace)
