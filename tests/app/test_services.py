"""Services: files stay in the workspace, uploads overwrite nothing, bad jobs are refused at the door."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from app.command import command_line
from app.services import Services
from app.uploads import safe_name
from app.watch import headline, waiting_text
from segcore.card import ModelCard, Normalization, write_config
from segcore.cli.parser import RunParser, UsageError
from segcore.config import DataConfig, RunConfig, build_config
from segcore.errors import DataError, JobError, ModelError
from segcore.jobs.store import State, create_job, end_job, find_job, start_job
from segcore.workspace import Workspace


@pytest.fixture
def services(workspace: Workspace, simulated: tuple[Path, Path]) -> Services:
    """Services of a workspace with a simulated stack, without a worker."""
    for path in simulated:
        shutil.copy(path, workspace.data)
    return Services(workspace, worker=False)


def training(**options: Any) -> RunConfig:
    data = {"images": "data/raw.tif", "labels": "data/labels.tif", "patch_size": 32}
    values = {"session": "tiny", "data": data, "model": {"features": 4, "layers": 2}}
    return build_config(values | options)


def with_model(services: Services, channels: int = 1) -> str:
    """Make the folder of a training that left a model of so many channels; return its id."""
    job = create_job(services.workspace, "train", training())
    card = ModelCard(
        channels=channels,
        class_values=(0, 1),
        class_names=("0", "1"),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes="ZYX" if channels == 1 else "ZCYX",
        dtype="uint16",
    )
    write_config(job.folder / "config.json", job.config, card)
    (job.folder / "best_model.pth").write_bytes(b"weights")
    end_job(job.folder, State.FINISHED)
    return job.id


# Files


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\data\Zellen über Nacht.tif", "Zellen über Nacht.tif"),
        ("细胞.tif", "细胞.tif"),
        ("..", "file"),
        (".hidden.tif", "hidden.tif"),
        ("a\x00b\nc.tif", "a_b_c.tif"),
        ("con.tif", "_con.tif"),
        ("", "file"),
    ],
)
def test_names_of_uploads_are_safe_and_keep_their_letters(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_suffix_and_fits_every_file_system() -> None:
    name = safe_name("ü" * 400 + ".tif")
    assert name.endswith("ü.tif")
    assert len(name.encode()) < 200


def test_an_upload_never_overwrites(services: Services, tmp_path: Path) -> None:
    saved = []
    for content in (b"first", b"second", b"third"):
        source = tmp_path / "Zellen über Nacht.tif"
        source.write_bytes(content)
        saved.append(services.save_upload(str(source)))
    assert saved == [f"data/Zellen über Nacht{number}.tif" for number in ("", "-1", "-2")]
    assert [services.resolve(path).read_bytes() for path in saved] == [b"first", b"second", b"third"]


def test_an_upload_that_does_not_fit_leaves_nothing(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "big.tif"
    source.write_bytes(b"x" * 1000)
    before = sorted(services.workspace.data.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match="the disk is full"):
        services.save_upload(str(source))
    services.max_upload_gb = 1e-7
    with pytest.raises(DataError, match="limited to"):
        services.save_upload(str(source))
    assert sorted(services.workspace.data.iterdir()) == before


@pytest.mark.parametrize(
    "path", ["../secret.tif", "/etc/passwd", ".segcore/queue.db", "data/../../secret.tif"]
)
def test_nothing_outside_the_workspace_is_reached(services: Services, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.tif").write_bytes(b"secret")
    for reach in (
        services.resolve,
        services.stack,
        services.delete,
        lambda outside: services.data.shot(DataConfig(images=outside), 0, 64, labelled=False),
        lambda outside: services.check(outside, "data/labels.tif"),
        lambda outside: services.check("data/raw.tif", outside),
        lambda outside: services.submit_training(training(data={"images": outside, "labels": outside})),
        lambda outside: services.check_model(outside),
    ):
        with pytest.raises(DataError, match="outside the workspace"):
            reach(path)
    assert (tmp_path / "secret.tif").read_bytes() == b"secret"


def test_a_link_that_leads_out_is_not_followed(services: Services, tmp_path: Path) -> None:
    (tmp_path / "secret.tif").write_bytes(b"secret")
    (services.workspace.data / "link.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(DataError, match="outside the workspace"):
        services.data.shot(DataConfig(images="data/link.tif"), 0, 64, labelled=False)


def test_files_lists_images_but_nothing_hidden(services: Services) -> None:
    (services.workspace.data / ".part.tif").write_bytes(b"")
    (services.workspace.data / "notes.txt").write_bytes(b"")
    assert services.files() == ["data/labels.tif", "data/raw.tif"]


def test_deleting_asks_the_jobs_first(services: Services) -> None:
    job = create_job(services.workspace, "train", training())
    for path in (job.folder, job.folder.parent, job.folder / "log.txt"):
        with pytest.raises(DataError, match="has not ended"):
            services.delete(services.relative(path))
    with pytest.raises(DataError, match="of the workspace itself"):
        services.delete("models")
    end_job(job.folder, State.CANCELLED)
    services.delete(services.relative(job.folder))
    assert not job.folder.exists()


def test_the_sample_is_made_once_and_can_be_used(workspace: Workspace) -> None:
    services = Services(workspace, worker=False)
    images, labels = services.sample_data()
    stamp = services.resolve(images).stat().st_mtime_ns
    assert services.sample_data() == (images, labels)
    assert services.resolve(images).stat().st_mtime_ns == stamp
    assert services.check(images, labels).ok


# Data


def test_a_plane_is_that_of_the_file_and_only_that_is_read(services: Services) -> None:
    stack, data = tifffile.imread(services.resolve("data/raw.tif")), DataConfig(images="data/raw.tif")
    # The slider of a longer stack may still be at its end when a shorter one is chosen.
    for index, shown in ((0, 0), (3, 3), (5, 5), (99, 5)):
        shot = services.data.shot(data, index, 64, labelled=False)
        np.testing.assert_array_equal(shot.image_CYX, stack[shown][None])
    described = services.stack("data/raw.tif")
    assert (described.planes, described.channels, described.height, described.width) == (6, 1, 64, 64)
    assert "6 × 64 × 64" in described.text
    assert "ZYX" in described.text


def test_a_report_is_kept_until_a_file_or_an_option_changes(services: Services) -> None:
    first = services.check("data/raw.tif", "data/labels.tif")
    assert services.check("data/raw.tif", "data/labels.tif") is first
    other = services.check("data/raw.tif", "data/labels.tif", training(data={"patch_size": 128}).data)
    assert first.ok
    assert not other.ok
    labels = services.resolve("data/labels.tif")
    tifffile.imwrite(labels, np.zeros((6, 64, 64), np.uint8))
    assert not services.check("data/raw.tif", "data/labels.tif").ok


# Jobs


def test_a_bad_training_is_refused_before_it_has_a_folder(services: Services) -> None:
    tifffile.imwrite(services.workspace.data / "empty.tif", np.zeros((6, 64, 64), np.uint8))
    bad = {"images": "data/raw.tif", "labels": "data/empty.tif", "patch_size": 128}
    with pytest.raises(DataError) as caught:
        services.submit_training(training(data=bad))
    assert "all pixels are 0" in caught.value.message
    assert "smaller than a patch" in caught.value.message
    with pytest.raises(DataError, match="images and labels"):
        services.submit_training(training(data={"images": "data/raw.tif"}))
    with pytest.raises(DataError, match="has 3 weights, but there are 2 classes"):
        services.submit_training(
            training(training={"class_weights": "by-hand", "class_weight_values": [1, 2, 3]})
        )
    assert services.jobs() == []


def test_a_training_waits_with_absolute_paths_and_its_place(services: Services) -> None:
    jobs = [services.submit_training(training()) for _ in range(3)]
    views = [services.job(job.id) for job in jobs]
    assert [view.place for view in views] == [1, 2, 3]
    assert headline(views[2]) == "waiting: 2 trainings come before yours"
    assert views[0].config.data.images == str(services.resolve("data/raw.tif"))
    assert [view.id for view in services.active()] == [job.id for job in jobs]
    services.control.stop(jobs[0].id)
    assert services.job(jobs[0].id).state is State.CANCELLED
    assert services.job(jobs[2].id).place == 2
    with pytest.raises(JobError, match="already cancelled"):
        services.control.stop(jobs[0].id)


def test_the_words_for_waiting() -> None:
    assert waiting_text(1, "training") == "waiting: next in line"
    assert waiting_text(2, "training") == "waiting: 1 training comes before yours"


def test_a_segmentation_needs_a_model_that_is_there_and_fits(services: Services) -> None:
    images = {"images": "data/raw.tif"}
    with pytest.raises(ModelError, match="needs a model"):
        services.submit_segmentation(build_config({"data": images}))
    unfinished = create_job(services.workspace, "train", training())
    for model, error, words in (
        (unfinished.id, ModelError, "no model yet"),
        ("20200101-000000-0000", JobError, "no job"),
        ("data/missing.pth", DataError, "not in the workspace"),
        (with_model(services, channels=3), ModelError, "3 channels"),
    ):
        with pytest.raises(error, match=words):
            services.submit_segmentation(build_config({"data": images, "inference": {"model": model}}))
    assert services.jobs("predict") == []
    good = with_model(services)
    job = services.submit_segmentation(build_config({"data": images, "inference": {"model": good}}))
    stored = services.job(job.id).config
    assert stored.inference.model == str(find_job(services.workspace, good).folder)
    assert stored.data.images == str(services.resolve("data/raw.tif"))


def test_a_view_of_a_damaged_folder_shows_what_is_left(services: Services) -> None:
    job = create_job(services.workspace, "train", training())
    start_job(job.folder)
    (job.folder / "events.jsonl").write_text('{"kind": "nonsense"}\n')
    (job.folder / "config.json").write_text("{")
    (job.folder / "log.txt").unlink()
    view = services.job(job.id)
    assert view.state is State.RUNNING
    assert "config.json" in view.notes[-1].remedy
    assert view.history == ()


# Commands and costs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"training": {"epochs": 3, "learning_rate": 2e-5, "max_minutes": 0.5}},
        {
            "data": {
                "augmentation": False,
                "class_names": ["cell body", "back,ground"],
                "axes": "ZYX",
            }
        },
        {"data": {"images": "/a folder/it's.tif", "labels": "/l.tif", "validation_slices": "24-29"}},
        {
            "data": {
                "images": "/raw.tif",
                "labels": "/l.tif",
                "sets": [
                    {"images": "/more.tif", "use": "teach"},
                    {"images": "/b.tif", "labels": "/bl.tif", "use": "test"},
                ],
            },
            "training": {"teacher": "/models/run"},
        },
    ],
    ids=["defaults", "numbers", "lists", "paths", "sets"],
)
def test_the_command_means_the_same_configuration(options: dict[str, Any]) -> None:
    config = build_config({"session": "em 1", **options})
    words = shlex.split(command_line(config))
    assert words[:2] == ["segcore", "train"]
    _, parsed = RunParser("train", "").parse(words[2:])
    assert parsed == config


def test_the_command_tells_no_secret_and_is_refused_until_it_is_filled_in() -> None:
    config = build_config({"notify": {"webhook": "https://chat.example.org/hooks/abc"}})
    command = command_line(config)
    assert "chat" not in command
    with pytest.raises(UsageError, match=r"notify\.webhook"):
        RunParser("train", "").parse(shlex.split(command)[2:])


def test_the_command_on_the_page_works_from_any_folder(services: Services) -> None:
    words = shlex.split(services.command_line(training()))
    options, parsed = RunParser("train", "").parse(words[2:])
    assert options.workspace == services.workspace.root
    assert parsed.data.images == str(services.resolve("data/raw.tif"))
    assert parsed.data.labels == str(services.resolve("data/labels.tif"))


def test_the_command_names_only_what_differs_from_the_defaults() -> None:
    config = build_config({"session": "em", "model": {"features": 16}})
    assert command_line(config) == "segcore train --session em --model.features 16"


def test_costs_follow_the_configuration(services: Services) -> None:
    small, large = training(), training(model={"features": 8, "layers": 2})
    stack = services.stack("data/raw.tif")
    assert services.estimate(small, stack).seconds is None
    machine = {"text": "CPU, 2 cores", "gflops": 10.0}
    (services.workspace.state / "machine.json").write_text(json.dumps(machine))
    costs = [services.estimate(config, stack) for config in (small, large)]
    assert costs[0].parameters < costs[1].parameters
    assert costs[0].seconds is not None
    assert costs[1].seconds is not None
    assert costs[0].seconds < costs[1].seconds
    assert services.device_text() == "CPU, 2 cores"


def test_a_machine_is_measured_anew_after_a_day_but_never_beside_a_job(services: Services) -> None:
    assert not services.measured_lately()
    path = services.workspace.state / "machine.json"
    path.write_text("{}")
    assert services.measured_lately()
    os.utime(path, (0, 0))
    assert not services.measured_lately()
    create_job(services.workspace, "train", training())
    assert services.measured_lately()


def test_the_app_starts_without_torch_and_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; import app.__main__ as main; from segcore.workspace import Workspace;"
        "workspace = Workspace.open(sys.argv[1]); main.prepare_environment(workspace);"
        "from app.build import build; from app.services import Services;"
        "build(Services(workspace, worker=False));"
        "print(sorted({'torch', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
