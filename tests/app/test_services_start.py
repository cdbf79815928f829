"""Starting the app: its options, what it may serve, and what an address leads to."""

from __future__ import annotations

import os
from pathlib import Path

import gradio as gr
import pytest

from app.__main__ import launch_options, open_to_all, parser, prepare_environment
from app.linking import FIELDS, PLACES, open_link
from app.services import Services
from app.session import Link, Problem, attempt
from segcore.config import build_config
from segcore.errors import DataError
from segcore.jobs.store import State, create_job, end_job, start_job
from segcore.workspace import Workspace


def opened(services: Services, **query: str) -> dict[str, object]:
    updates = open_link(services, query)
    return dict(zip([*PLACES, *(field.path for field in FIELDS)], updates, strict=True))


@pytest.fixture
def services(workspace: Workspace) -> Services:
    return Services(workspace, worker=False)


def test_the_app_listens_to_this_machine_alone_unless_told() -> None:
    options = parser().parse_args([])
    assert (options.host, options.port, options.share, options.auth) == ("127.0.0.1", 7860, False, None)
    options = parser().parse_args(["--auth", "ada:secret:with colon", "grace:hopper"])
    assert options.auth == [("ada", "secret:with colon"), ("grace", "hopper")]


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        ([], False),
        (["--host", "0.0.0.0"], True),
        (["--share"], True),
        (["--share", "--auth", "ada:secret"], False),
    ],
)
def test_an_app_that_is_open_to_all_is_warned_about(arguments: list[str], warned: bool) -> None:
    assert open_to_all(parser().parse_args(arguments)) is warned


@pytest.mark.parametrize("text", ["ada", "ada:", ":secret"])
def test_credentials_need_both_parts(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--auth", text])
    assert "is not USER:PASSWORD" in capsys.readouterr().err


def test_nothing_calls_home_and_only_the_users_folders_are_served(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.setenv("GRADIO_DEFAULT_CONCURRENCY_LIMIT", "2")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    prepare_environment(services.workspace)
    assert os.environ["GRADIO_DEFAULT_CONCURRENCY_LIMIT"] == "2"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert Path(os.environ["GRADIO_TEMP_DIR"]).is_relative_to(services.workspace.root)
    root = services.workspace.root
    assert launch_options(services)["allowed_paths"] == [
        str(root / name) for name in ("data", "models", "results")
    ]


@pytest.mark.parametrize(
    ("model", "mode", "known"),
    [
        ({"family": "unet-attention"}, "2d", True),
        ({"family": "unet-attention", "features": 32}, "2d", False),
        ({"family": "unet-attention"}, "3d", False),
        ({"family": "unet-residual", "layers": 5}, "2d", False),
        ({"family": "dynunet", "layers": 3}, "2d", False),
        ({"family": "segresnet", "features": 32}, "2d", False),
        ({"family": "segresnet", "layers": 3}, "2d", True),
        ({"family": "sensor3d"}, "2.5d", True),
        ({"family": "sensor3d", "features": 16}, "2.5d", False),
        ({"family": "swin-unetr"}, "3d", False),
        ({"family": "fpn", "features": 32, "pretrained": "imagenet"}, "2d", True),
        ({"family": "fpn", "encoder": "resnet18"}, "2d", False),
    ],
)
def test_parameters_are_named_only_of_the_size_they_were_counted_for(
    services: Services, model: dict[str, object], mode: str, known: bool
) -> None:
    config = build_config({"model": model, "data": {"mode": mode, "patch_size": 64}})
    found = services.estimate(config)
    assert found.parameters == (config.model.kind.parameters if known else None)
    assert found.seconds is None


def test_an_address_without_a_run_offers_the_one_under_way(services: Services) -> None:
    assert opened(services)["banner"].visible is False  # type: ignore[attr-defined]
    job = create_job(services.workspace, "train", build_config({"session": "em"}))
    start_job(job.folder)
    places = opened(services)
    assert places["banner"].visible  # type: ignore[attr-defined]
    assert places["resume_run"] == job.id
    assert places["train_run"] == ""
    assert places["session"] == build_config({}).session


def test_an_address_with_a_run_brings_back_its_data_and_options(services: Services) -> None:
    data = {
        "images": str(services.workspace.data / "raw.tif"),
        "labels": "/elsewhere/labels.tif",
        "patch_size": 80,
    }
    config = build_config({"session": "em", "data": data, "training": {"epochs": 3}})
    job = create_job(services.workspace, "train", config)
    end_job(job.folder, State.FINISHED)
    places = opened(services, run=job.id)
    assert places["train_run"] == job.id
    assert places["data.images"] == "data/raw.tif"
    assert places["data.labels"] == "/elsewhere/labels.tif"
    assert places["session"] == "em"
    patch, epochs = places["data.patch_size"], places["training.epochs"]
    assert isinstance(patch, gr.Dropdown)
    assert isinstance(epochs, gr.Slider)
    assert (patch.value, epochs.value, epochs.minimum) == (80, 3, 3)


def test_an_address_with_an_unknown_run_says_so(services: Services) -> None:
    places = opened(services, run="../../etc")
    assert places["train_run"] == ""
    assert "There is no job" in str(places["resume_text"])


def test_a_link_takes_what_it_knows() -> None:
    assert Link.parse({"tab": "Viewer", "path": "data/raw.tif", "x": "y"}) == Link(
        "", "viewer", "data/raw.tif"
    )
    assert Link.parse({"tab": "<script>"}).tab == "segment"


def test_an_unforeseen_error_is_told_politely_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    problem = attempt(lambda: 1 / 0)
    assert isinstance(problem, Problem)
    assert "ZeroDivisionError" not in problem.message
    assert "ZeroDivisionError" in caplog.text

    def refuse() -> None:
        raise DataError("what", "remedy")

    assert attempt(refuse) == Problem("what", "remedy")
