"""Workers of a Dask cluster give what one process gives, whatever becomes of them."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import dask
import numpy as np
import psutil
import pytest
import tifffile
from distributed import Client

from segcore import prediction as prediction_module
from segcore.config import HardwareConfig, RunConfig
from segcore.devices import Hardware, choose, versions
from segcore.errors import ConfigError, DataError, JobError
from segcore.events import Request
from segcore.files import sha256
from segcore.inference import cluster_task
from segcore.inference.cluster import Cluster, choose_cluster, compare_versions
from segcore.inference.cluster_start import start_cluster
from segcore.inference.partial import Partial
from segcore.inference.run import segment

MakeConfig = Callable[..., RunConfig]
TILED = {"tile_size": 64, "probabilities": True}


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Start a scheduler with two workers in this process, which saves starting others."""
    from distributed import LocalCluster

    options = {"dashboard_address": "127.0.0.1:0", "silence_logs": 60, "memory_limit": 0}
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp://", **options
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make an image of several tiles, and let two go through the network together."""
    real = prediction_module.divide
    few = {"batch": 2}
    monkeypatch.setattr(prediction_module, "divide", lambda *given: replace(real(*given), **few))
    image = np.random.default_rng(1).integers(0, 256, (2, 150, 130)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, imagej=True, metadata={"axes": "ZYX"})
    return {"images": str(tmp_path / "large.tif")}


def _contents(folder: Path) -> dict[str, str]:
    """Return the files of a result with their hashes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "metadata.json")
    return {str(path.relative_to(folder)): sha256(path) for path in files}


@pytest.mark.parametrize("form", ["tiff", "ome-zarr"])
def test_workers_write_what_one_process_writes(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, listener, scheduler: str, form: str
) -> None:
    alone = make_config(data=large, inference=TILED | {"format": form})
    together = make_config(data=large, inference=TILED | {"format": form, "cluster": scheduler})
    expected = segment(alone, tmp_path / "alone")
    outcome = segment(together, tmp_path / "together", listener)
    assert _contents(tmp_path / "together") == _contents(tmp_path / "alone")
    assert outcome.metrics["class_pixels"] == expected.metrics["class_pixels"]
    last = listener.of("progress")[-1] if form == "tiff" else None
    assert last is None or last.done == last.total
    assert any("2 workers" in event.text for event in listener.of("note"))


def test_what_a_pause_left_goes_on_with_and_without_workers(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = make_config(data=large, inference=TILED)
    together = make_config(data=large, inference=TILED | {"cluster": scheduler})
    segment(alone, tmp_path / "alone")
    noted: list[int] = []
    real = Partial.note

    def note(self: Partial, blocks: dict[int, list[int]]) -> None:
        real(self, blocks)
        noted.extend(blocks)

    monkeypatch.setattr(Partial, "note", note)
    monkeypatch.setattr("segcore.inference.writing.FLUSH_SECONDS", 0.0)

    def asked() -> Request | None:
        return Request.PAUSE if noted else None

    for first, second in ((together, alone), (alone, together)):
        noted.clear()
        folder = tmp_path / ("elsewhere" if first is together else "here")
        assert segment(first, folder, asked=asked).request is Request.PAUSE
        begun = set(noted)
        assert begun
        segment(second, folder)
        assert sorted(set(noted)) == list(range(len(noted)))  # none is left out, none is done twice
        assert _contents(folder) == _contents(tmp_path / "alone")


def test_a_discarded_segmentation_leaves_nothing(
    make_config: MakeConfig, large: dict[str, str], tmp_path: Path, scheduler: str
) -> None:
    config = make_config(data=large, inference=TILED | {"format": "ome-zarr", "cluster": scheduler})
    asked = iter([None] * 4)
    outcome = segment(config, tmp_path / "run", asked=lambda: next(asked, Request.DISCARD))
    assert outcome.request is Request.DISCARD
    assert not list((tmp_path / "run").iterdir())


def test_a_person_reads_what_a_worker_complains_of(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: object) -> None:
        raise DataError("Slice 1 cannot be read.", "Copy the file again.")

    monkeypatch.setattr("segcore.prediction.Prediction.view", broken)
    config = make_config(data=large, inference=TILED | {"cluster": scheduler})
    with pytest.raises(DataError, match="Slice 1") as caught:
        segment(config, tmp_path / "run")
    assert caught.value.remedy == "Copy the file again."


def test_a_worker_that_does_not_see_the_workspace_is_named(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Cluster.predict

    def elsewhere(self: Cluster, assignment, *rest):  # type: ignore[no-untyped-def]
        moved = tuple((tmp_path / "another" / path.name, spec) for path, spec in assignment.sinks)
        real(self, replace(assignment, sinks=moved), *rest)

    monkeypatch.setattr(Cluster, "predict", elsewhere)
    config = make_config(data=large, inference=TILED | {"cluster": scheduler})
    with pytest.raises(JobError, match=r"does not see .*another.*same paths"):
        segment(config, tmp_path / "run")
    assert (tmp_path / "run" / "partial").exists()


def test_a_killed_process_costs_nothing_but_time(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = make_config(data=large, inference=TILED)
    together = make_config(data=large, inference=TILED | {"cluster": "local:2"})
    segment(alone, tmp_path / "alone")
    real, killed = Partial.note, []

    def note(self: Partial, blocks: dict[int, list[int]]) -> None:
        real(self, blocks)
        if not killed:
            workers = [child for child in _processes() if "spawn_main" in " ".join(child.cmdline())]
            workers[0].send_signal(signal.SIGKILL)
            killed.append(workers[0])

    monkeypatch.setattr(Partial, "note", note)
    segment(together, tmp_path / "together", listener)
    assert killed
    assert _contents(tmp_path / "together") == _contents(tmp_path / "alone")
    assert any("dashboard http://127.0.0.1:" in event.text for event in listener.of("note"))
    assert not [child for child in _processes() if "spawn_main" in " ".join(child.cmdline())]


def _processes() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_others_of_this_machine_cannot_talk_to_local_processes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        client = start_cluster("local:1", choose(HardwareConfig(device="cpu")), tmp_path, stack).client
        for address in (client.scheduler.address, *client.nthreads()):
            scheme, host, port = urlsplit(address).scheme, urlsplit(address).hostname, urlsplit(address).port
            assert (scheme, host) == ("tls", "127.0.0.1")
            stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
            with (
                socket.create_connection((host, port)) as plain,
                stranger.wrap_socket(plain) as spoken,
                pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
            ):
                spoken.recv(1)


def test_slurm_speaks_tls_with_keys_that_only_their_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobqueue = {"cores": 1, "memory": "2GB", "walltime": "00:05:00"}
    old = tmp_path / ".keys-of-a-killed-process"
    old.mkdir()
    (old / "key.pem").write_text("private")
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({f"jobqueue.slurm.{name}": jobqueue[name] for name in jobqueue}))
        started = start_cluster("slurm", choose(HardwareConfig(device="cpu")), tmp_path, stack)
        assert started.client.scheduler.address.startswith("tls://")
        (keys,) = tmp_path.iterdir()
        assert keys != old
        assert keys.stat().st_mode & 0o077 == 0
    assert not keys.exists()


def test_what_a_killed_leader_left_is_forgotten(
    make_config: MakeConfig,
    large: dict[str, str],
    tmp_path: Path,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("segcore.inference.cluster_task.IDLE_SECONDS", 0.2)
    monkeypatch.setattr(Cluster, "_leave", lambda *given: None)
    forgotten = threading.Condition()
    real = cluster_task.Bench.close

    def close(bench: cluster_task.Bench) -> None:
        real(bench)
        with forgotten:
            forgotten.notify_all()

    monkeypatch.setattr(cluster_task.Bench, "close", close)
    segment(make_config(data=large, inference=TILED | {"cluster": scheduler}), tmp_path / "run")
    with forgotten:
        assert forgotten.wait_for(lambda: not any(cluster_task._benches.values()), 60)


def test_a_worker_that_is_told_to_halt_first_computes_with_the_threads_of_the_job(scheduler: str) -> None:
    with Client(scheduler, set_as_default=False) as client:
        client.run(cluster_task.halt, "early", 3, "image")
        try:
            found = [benches["early"] for benches in cluster_task._benches.values() if "early" in benches]
            assert [(bench._threads, bench.halted) for bench in found] == [(3, "image")] * 2
        finally:
            client.run(cluster_task.leave, "early")
    assert not any(cluster_task._benches.values())


@pytest.mark.parametrize("name", ["segcore-studio", "torch", "python"])
def test_a_worker_with_other_versions_is_refused(name: str) -> None:
    compare_versions("tcp://host:1", versions())
    with pytest.raises(JobError, match=rf"tcp://host:1 .* has {name} 3\.9\.1"):
        compare_versions("tcp://host:1", versions() | {name: "3.9.1"})


def test_a_scheduler_that_does_not_answer_is_named(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segcore.inference.cluster_start.CONNECT_SECONDS", 0.2)
    config = make_config(inference={"cluster": "tcp://127.0.0.1:9"})
    with pytest.raises(JobError, match=r"tcp://127\.0\.0\.1:9 .* does not answer"):
        segment(config, tmp_path / "run")
    assert (tmp_path / "run" / "partial").exists()


@pytest.mark.parametrize(
    ("kind", "missing", "says"),
    [
        ("local:2", "distributed", r"distributed is not installed.*segcore-studio\[cluster\]"),
        ("slurm", "dask_jobqueue", r"dask_jobqueue is not installed.*segcore-studio\[cluster\]"),
        ("local:2", "cryptography", r"cryptography is not installed.*segcore-studio\[cluster\]"),
        ("slurm", "", "no command sbatch"),
    ],
)
def test_what_is_missing_is_said_before_anything_begins(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listener,
    kind: str,
    missing: str,
    says: str,
) -> None:
    from segcore.inference import cluster_start

    monkeypatch.setattr(
        cluster_start.importlib.util, "find_spec", lambda name: None if name == missing else object()
    )
    monkeypatch.setenv("PATH", "")
    config = make_config(inference={"cluster": kind})
    hardware: Hardware = choose(config.hardware)
    with pytest.raises(ConfigError, match=says):
        choose_cluster(config, hardware, listener, tmp_path)
    assert choose_cluster(make_config(), hardware, listener, tmp_path) is None
