"""The command line: its options are RunConfig's, its errors are messages, its stdout is one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.card import write_config
from segcore.cli import COMMANDS, main
from segcore.cli.parser import RunParser, UsageError, option_fields
from segcore.config import RunConfig, build_config
from segcore.jobs.store import Job, State, create_job, end_job, list_jobs, read_job, start_job
from segcore.serve import Ports, plan
from segcore.workspace import Workspace


@pytest.fixture
def parse() -> Callable[..., RunConfig]:
    return lambda *words: RunParser("train", "").parse(words)[1]


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with --json and return its status and its one JSON object."""
    status = main([*words, "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return status, json.loads(lines[0])


def modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_help_and_the_torch_free_part_load_no_engine() -> None:
    heavy = {"torch", "mlflow", "gradio", "numpy"}
    assert not heavy & modules_after("from segcore.cli import main; main(['--help'])")
    imports = (
        "import segcore.jobs.queue, segcore.jobs.supervisor, segcore.worker.service, segcore.cli.services"
    )
    assert not {"torch", "mlflow", "gradio"} & modules_after(imports)


@pytest.mark.parametrize(
    "command", [[], ["train"], ["predict"], ["evaluate"], ["jobs"], ["jobs", "stop"], ["serve"]]
)
def test_help_has_status_0(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: Any = main([*command, "--help"])
    except SystemExit as end:  # argparse ends this way
        status = end.code
    assert status == 0
    assert "usage: segcore" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("segcore 0.")


def test_an_unknown_command_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tarin"]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in COMMANDS)


# Options ------------------------------------------------------------------------------------------


def test_the_command_line_has_exactly_the_options_of_the_config() -> None:
    parser = RunParser("train", "").parser
    flags = {text for action in parser._actions for text in action.option_strings}
    expected = {f"--{name.replace('_', '-')}" for name, _ in option_fields()}
    groups = {"--data", "--model", "--training", "--inference", "--hardware", "--notify"}
    own = {"--workspace", "--json", "--config", "--help", "-h"}
    negations = {flag for flag in flags if flag.startswith("--no-")}
    assert flags - groups - own - negations == expected
    assert {f"--{flag[5:]}" for flag in negations} <= expected


def test_every_option_can_be_given_and_has_a_help_text(parse: Callable[..., RunConfig]) -> None:
    """Each option's default, as text, is accepted and changes nothing."""
    default = RunConfig().model_dump()
    parser = RunParser("train", "").parser
    helps = {text: action.help for action in parser._actions for text in action.option_strings}
    for name, field in option_fields():
        group, _, last = name.rpartition(".")
        value = default[group][last] if group else default[last]
        flag = f"--{name.replace('_', '-')}"
        assert (field.description or "?").split()[0] in (helps[flag] or ""), flag
        if value is not None:
            text = json.dumps(value) if isinstance(value, list | bool) else str(value)
            assert parse(flag, text).model_dump() == default, flag


def test_options_reach_the_config(parse: Callable[..., RunConfig]) -> None:
    config = parse(
        *("--data.class-names", '["cell wall", "lumen"]', "--data.validation-slices", "24-29"),
        *(
            "--training.batch-size",
            "16",
            "--training.max-minutes",
            "1",
            "--model.features=16",
            "--session",
            "A 1",
        ),
    )
    assert config.data.class_names == ["cell wall", "lumen"]
    assert config.data.validation_slices == "24-29"
    assert (config.training.batch_size, config.training.max_minutes) == (16, 1.0)
    assert (config.model.features, config.session) == (16, "A 1")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--no-data.augmentation"], False),
        (["--data.augmentation"], True),
        (["--data.augmentation", "false"], False),
        (["--data.augmentation=no"], False),
        (["--data.augmentation", "on"], True),
        (["--data.augmentation", "--json"], True),
    ],
)
def test_switches_take_no_value_or_a_word(
    words: list[str], value: bool, parse: Callable[..., RunConfig]
) -> None:
    assert parse(*words).data.augmentation is value


def test_all_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--training.epochs",
        "0",
        "--data.patch-size",
        "65",
        "--training.los",
        "dice",
        "--model.layers",
        "x",
    ]
    status, answer = run_json(capsys, "train", *words)
    assert status == 2
    for part in ("epochs", "patch_size", "multiple of 16", "--training.los", "--training.loss", "layers"):
        assert part in answer["error"]
    assert "--help" in answer["remedy"]


def test_environment_variables_set_no_option(
    parse: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = parse("--session", "s").model_dump()
    for name in (
        "SESSION",
        "session",
        "TRAINING__EPOCHS",
        "training.epochs",
        "TRAINING",
        "training",
        "DATA.IMAGES",
    ):
        monkeypatch.setenv(name, "7")
    assert parse("--session", "s").model_dump() == expected


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["cell, wall"], ["cell", "wall"]),
        (['3" pipe,wall'], ['3" pipe', "wall"]),
        (['["3\\" pipe", "cell, wall"]'], ['3" pipe', "cell, wall"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_class_names_may_hold_anything(
    words: list[str], names: list[str], parse: Callable[..., RunConfig]
) -> None:
    given = [part for word in words for part in ("--data.class-names", word)]
    assert parse(*given).data.class_names == names


def test_a_broken_list_is_told_like_any_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = run_json(capsys, "train", "--data.class-names", '["a')
    assert status == 2
    assert "data.class_names" in answer["error"]


def test_a_value_may_be_called_like_a_group(parse: Callable[..., RunConfig]) -> None:
    assert parse("--session", "training").session == "training"
    with pytest.raises(UsageError, match="group of options"):
        parse("--training", "{}")


def test_a_config_file_is_overridden_by_options(tmp_path: Path, parse: Callable[..., RunConfig]) -> None:
    saved = build_config({"session": "saved", "training": {"epochs": 7, "loss": "focal"}})
    write_config(tmp_path / "config.json", saved)
    content = json.loads((tmp_path / "config.json").read_text())
    assert parse("--config", str(tmp_path / "config.json")) == saved
    config = parse("--config", str(tmp_path / "config.json"), "--training.epochs", "9")
    assert (config.training.epochs, config.training.loss, config.session) == (9, "focal", "saved")
    (tmp_path / "config.json").write_text(json.dumps({**content, "training": {"epocs": 3}}))
    with pytest.raises(UsageError, match=r"training\.epocs"):
        parse("--config", str(tmp_path / "config.json"))


def test_paths_are_made_absolute(
    tmp_path: Path, parse: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse("--data.images", "a.tif", "--data.labels", "../b.tif")
    assert (config.data.images, config.data.labels) == (
        str(tmp_path / "a.tif"),
        str(tmp_path.parent / "b.tif"),
    )
    short = RunParser("predict", "", applies_model=True)
    assert short.parse(["--model", "models:/m@champion"])[1].inference.model == "models:/m@champion"
    given = short.parse(["--model=best.pth", "--model-config", "c.json"])[1].inference
    assert (given.model, given.config_file) == (str(tmp_path / "best.pth"), str(tmp_path / "c.json"))


def test_what_is_needed_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "--data.images and --data.labels must be given" in capsys.readouterr().err
    assert main(["predict", "--data.images", "a.tif"]) == 2
    assert "--model must be given" in capsys.readouterr().err
    assert main(["evaluate", "--model", "m", "--data.images", "a.tif"]) == 2
    assert "--data.labels must be given" in capsys.readouterr().err
    assert main(["evaluate", "--model", "nowhere"]) == 1  # the images of the training would do
    assert "no model" in capsys.readouterr().err
    assert main(["train", "--data.images", "a", "--data.labels", "b", "--alias", "champion"]) == 2
    assert "--register" in capsys.readouterr().err


# Data ---------------------------------------------------------------------------------------------


def test_simulate_writes_images_and_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "simulate",
        str(tmp_path / "out"),
        "--kind",
        "3class",
        "--images",
        "2",
        "--size",
        "64",
        "--seed",
        "3",
    ]
    status, answer = run_json(capsys, *words)
    assert status == 0
    assert tifffile.imread(answer["images"]).shape == (2, 64, 64)
    assert set(np.unique(tifffile.imread(answer["labels"]))) <= {0, 1, 2}
    assert main(["simulate", str(tmp_path / "no"), "--size", "3"]) == 2
    assert not (tmp_path / "no").exists()


def test_check_tells_good_from_bad(
    tmp_path: Path, simulated: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = simulated
    good = ["check", "--data.images", str(images), "--data.labels", str(labels), "--data.patch-size", "32"]
    status, answer = run_json(capsys, *good)
    assert (status, answer["ok"]) == (0, True)
    assert sum(found["pixels"] for found in answer["classes"]) == 6 * 64 * 64

    tifffile.imwrite(tmp_path / "small.tif", np.zeros((6, 32, 64), np.uint8))
    status, answer = run_json(
        capsys, "check", "--data.images", str(images), "--data.labels", str(tmp_path / "small.tif")
    )
    assert (status, answer["ok"]) == (1, False)
    errors = [finding["what"] for finding in answer["findings"] if finding["level"] == "error"]
    assert any("64" in what and "32" in what for what in errors)


def test_bad_data_makes_no_run_folder(
    workspace: Workspace, simulated: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.tif").write_text("this is no image")
    words = ["train", "--data.images", str(simulated[0]), "--data.labels", str(tmp_path / "text.tif")]
    status, answer = run_json(capsys, *words)
    assert status == 1
    assert "text.tif" in answer["error"]
    assert list(workspace.models.iterdir()) == []


# Jobs ---------------------------------------------------------------------------------------------


def test_queue_hands_the_job_to_a_worker(
    workspace: Workspace, simulated: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = simulated
    words = [
        "train",
        "--queue",
        "--data.images",
        str(images),
        "--data.labels",
        str(labels),
        "--data.patch-size",
        "32",
    ]
    status, answer = run_json(capsys, *words)
    assert (status, answer["state"]) == (0, "queued")
    job = read_job(Path(answer["run_folder"]))
    assert (job.state, job.owner, job.config.data.images) == (State.QUEUED, "worker", str(images))
    _, listed = run_json(capsys, "jobs", "list")
    assert [(row["id"], row["place"]) for row in listed] == [(job.id, 1)]
    status, stopped = run_json(capsys, "jobs", "stop", job.id)
    assert (status, stopped["state"]) == (0, "cancelled")


def test_jobs_show_what_the_folder_says(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    job: Job = create_job(workspace, "train", build_config({"session": "s", "training": {"epochs": 3}}))
    start_job(job.folder)
    (job.folder / "log.txt").write_text("first\nsecond\n")
    end_job(job.folder, State.FAILED, "It broke.", "Mend it.")
    for words in (["list"], [], ["--workspace", str(workspace.root)]):
        assert main(["jobs", *words]) == 0
        assert "failed" in capsys.readouterr().out
    _, shown = run_json(capsys, "jobs", "show", job.id)
    assert (shown["message"], shown["config"]["training"]["epochs"]) == ("It broke.", 3)
    assert main(["jobs", "show", job.id]) == 0
    assert "Mend it." in capsys.readouterr().out
    assert main(["jobs", "logs", job.id, "--lines", "1"]) == 0
    assert capsys.readouterr().out == "second\n"
    assert main(["jobs", "show", "../../etc"]) == 1
    assert "jobs list" in capsys.readouterr().err


def test_memory_that_is_not_there_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", str(tmp_path / "x"), "--images", "100000000", "--size", "40000"]
    status, answer = run_json(capsys, *words)
    assert status == 1
    assert "Memory ran out" in answer["error"]
    assert not (tmp_path / "x").exists()


def test_a_workspace_that_cannot_be_made_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    status, answer = run_json(capsys, "jobs", "list", "--workspace", str(tmp_path / "file" / "inside"))
    assert status == 1
    assert "file" in answer["error"]
    assert answer["remedy"]


def test_a_failed_job_is_told_with_its_remedy(
    workspace: Workspace,
    simulated: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker's process is replaced by one that fails as the engine would."""
    code = (
        "import sys; from pathlib import Path; from segcore.jobs.store import *\n"
        "folder = Path(sys.argv[1])\n"
        "start_job(folder); end_job(folder, State.FAILED, 'Too big.', 'Make it small.')"
    )
    monkeypatch.setattr(
        "segcore.jobs.supervisor.job_command", lambda folder, _: [sys.executable, "-c", code, str(folder)]
    )
    monkeypatch.setattr("segcore.worker.local.FollowingThread", _NoFollowing)
    words = ["predict", "--model", "somewhere.pth", "--data.images", str(simulated[0])]
    status, answer = run_json(capsys, *words)
    assert status == 1
    assert "Too big." in answer["error"]
    assert "Make it small." in answer["remedy"]
    (job,) = list_jobs(workspace)
    assert job.id in answer["error"]


class _NoFollowing:
    """MLflow left out."""

    def __init__(self, workspace: Workspace) -> None:
        self.follow = self.conclude = lambda folder: None
        self.wait = lambda timeout: True
        self.close = lambda: None


# serve --------------------------------------------------------------------------------------------


def test_serve_hands_login_and_public_address_to_the_app(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[list[str]] = []
    monkeypatch.setattr("segcore.cli.services.serve", lambda *given: plans.append(plan_of(*given)) or 0)
    words = ["serve", "--workspace", str(workspace.root), "--port", "1"]
    assert main([*words, "--share", "--auth", "ada:secret", "bob:a:b"]) == 0
    assert main(words) == 0
    assert plans[0][-4:] == ["--share", "--auth", "ada:secret", "bob:a:b"]
    assert plans[1][-2:] == ["--port", "1"]


def plan_of(workspace: Workspace, ports: Ports, app_options: list[str]) -> list[str]:
    services = plan(workspace, ports, False, app_options)
    return next(list(service.command) for service in services if service.name == "app")


@pytest.mark.parametrize("pair", ["ada", "ada:", ":secret"])
def test_a_login_needs_both_parts(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--auth", pair]) == 2
    assert "USER:PASSWORD" in capsys.readouterr().err


@pytest.mark.parametrize("state", [State.PAUSED, State.DISCARDED])
def test_a_training_that_did_as_it_was_told_is_no_failure(
    state: State,
    workspace: Workspace,
    simulated: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(workspace: Workspace, config: RunConfig, parent: str) -> list[Job]:
        return [end_job(create_job(workspace, "train", config, owner="command").folder, state)]

    monkeypatch.setattr("segcore.cli.train.run_all", told)
    words = ["train", "--workspace", str(workspace.root)]
    words += ["--data.images", str(simulated[0]), "--data.labels", str(simulated[1])]
    words += ["--data.patch-size", "32", "--model.features", "4", "--model.layers", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert str(state) in said
    assert ("segcore jobs resume" in said) == (state is State.PAUSED)
