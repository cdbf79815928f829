"""The dry run against the peak of real trainings, and that it never begins what would not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from segcore import dryrun
from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.estimate import Stack
from segcore.footprint import MemoryNeed

TOLERANCE = 0.2
REAL = """
import sys
from pathlib import Path
from segcore.card import read_config
from segcore.training.run import train
train(read_config(Path(sys.argv[1]))[0], Path(sys.argv[2]))
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
CONFIGS = {
    "large patches": {
        "data": {"patch_size": 128, "patches_per_image": 4},
        "model": {"features": 16, "layers": 3},
        "training": {"batch_size": 8, "epochs": 1},
    },
    "many weights": {
        "data": {"patch_size": 32, "patches_per_image": 2},
        "model": {"features": 32, "layers": 4},
        "training": {"batch_size": 4, "epochs": 2},
    },
}


def _run(words: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process in /proc")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_measured_need_is_the_peak_of_the_training(name: str, tmp_path: Path) -> None:
    images, labels = simulate(tmp_path / "data", "2class", 4, 128, 0)
    values = {**CONFIGS[name], "hardware": {"device": "cpu"}}
    values["data"] = {**CONFIGS[name]["data"], "images": str(images), "labels": str(labels)}
    file = tmp_path / "config.json"
    file.write_text(build_config(values).model_dump_json())
    need = MemoryNeed.model_validate_json(_run(["-m", "segcore.dryrun", str(file), str(tmp_path)]))
    real = 1024 * int(_run(["-c", REAL, str(file), str(tmp_path / "run")]).split()[-1])
    assert need.measured
    assert need.need == pytest.approx(real, rel=TOLERANCE)
    assert not list(tmp_path.glob(".dryrun-*"))


def test_the_data_of_the_person_counts(tiny_config: RunConfig, tmp_path: Path) -> None:
    small = dryrun.dry_run(tiny_config, dryrun.Material(Stack(2, 64, 64), 2), tmp_path)
    large = dryrun.dry_run(tiny_config, dryrun.Material(Stack(2000, 64, 64, 3, 2), 2), tmp_path)
    images = 2000 * 64 * 64 * (3 * 2 + 2)
    assert large.need - small.need == pytest.approx(2 * images, rel=0.5)


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_networks_of_all_dimensions_are_tried_out(mode: str, tiny_config: RunConfig, tmp_path: Path) -> None:
    data = tiny_config.data.model_copy(update={"mode": mode, "patch_depth": 4})
    config = tiny_config.model_copy(update={"data": data})
    need = dryrun.dry_run(config, dryrun.Material(Stack(12, 40, 40, 2, 1, 12, (0.5, 0.1, 0.1)), 2), tmp_path)
    assert need.measured
    assert 0 < need.need < 10**10


def test_the_person_s_data_are_looked_at(tiny_config: RunConfig) -> None:
    material = dryrun.read_material(tiny_config)
    assert material.classes >= 2
    assert material.stack.slices == material.stack.depth > 1


def test_nothing_is_tried_that_would_not_fit(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dryrun, "train", lambda *words, **options: pytest.fail("it was tried"))
    huge = tiny_config.model_copy(
        update={"model": tiny_config.model.model_copy(update={"features": 512, "layers": 4})}
    )
    monkeypatch.setattr("segcore.devices.Hardware.free_memory", lambda self: 5 * 10**9)
    need = dryrun.dry_run(huge, dryrun.Material(Stack(6, 64, 64), 2), tmp_path)
    assert not need.measured
    assert need.ratio > 1
    assert need.proposal


def test_the_full_size_is_calculated_where_it_would_not_fit(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def try_out(lab: dryrun._Lab, patches: int) -> dryrun.Trial:
        tried.append(patches)
        return dryrun.Trial(peak=10**9 + patches * 10**9, data=0, seconds=0.1)

    monkeypatch.setattr(dryrun._Lab, "try_out", try_out)
    monkeypatch.setattr("segcore.devices.Hardware.free_memory", lambda self: 8 * 10**9)
    batch_of = tiny_config.training.model_copy(update={"batch_size": 16})
    config = tiny_config.model_copy(update={"training": batch_of})
    need = dryrun.dry_run(config, dryrun.Material(Stack(6, 64, 64), 2), tmp_path)
    assert 16 not in tried
    assert need.measured
    assert need.need == pytest.approx(17e9, rel=0.05)
    assert need.proposal is not None
    assert need.proposal["training.micro_batch"] in (2, 4)


def test_a_slow_full_size_is_calculated_too(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def try_out(lab: dryrun._Lab, patches: int) -> dryrun.Trial:
        tried.append(patches)
        return dryrun.Trial(peak=10**9 + patches * 10**6, data=0, seconds=2 * dryrun.PATIENCE)

    monkeypatch.setattr(dryrun._Lab, "try_out", try_out)
    assert dryrun.dry_run(tiny_config, dryrun.Material(Stack(6, 64, 64), 2), tmp_path).measured
    assert tried == [1, 2, 0]


def test_micro_batches_of_any_size_are_tried(tiny_config: RunConfig, tmp_path: Path) -> None:
    micro = tiny_config.training.model_copy(update={"batch_size": 8, "micro_batch": 3})
    config = tiny_config.model_copy(update={"training": micro})
    need = dryrun.dry_run(config, dryrun.Material(Stack(6, 64, 64), 2), tmp_path)
    assert need.measured
    assert need.proposal is None


def test_a_configuration_that_cannot_be_used_is_said_in_words(
    tiny_config: RunConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = json.loads(tiny_config.model_dump_json())
    values["data"]["labels"] = str(tmp_path / "none.tif")
    file = tmp_path / "config.json"
    file.write_text(json.dumps(values))
    monkeypatch.setattr(dryrun.os, "nice", lambda step: step)
    assert dryrun.main([str(file), str(tmp_path)]) == 1
    assert "none.tif" in capsys.readouterr().err


@pytest.mark.parametrize(("family", "grown", "step"), [
    ("unet", 10**6, 5 * 10**8), ("unet-encoder", 10**6, 10**6), ("unet-encoder", 0, 10**9),
])  # fmt: skip
def test_the_guess_bounds_what_is_measured_of_a_unet_only(
    family: str, grown: int, step: int, tiny_config: RunConfig
) -> None:
    class Lab:
        config = tiny_config.model_copy(
            update={"model": tiny_config.model.model_copy(update={"family": family})}
        )
        material = dryrun.Material(Stack(6, 64, 64), 2)
        meter = SimpleNamespace(have=10**11, gpu=False)

        def try_out(self, patches: int) -> dryrun.Trial:
            return dryrun.Trial(peak=10**9 + patches * grown, data=0, seconds=0.6 * dryrun.PATIENCE)

    small, found, training = dryrun._grow(Lab(), 10**9, 4)  # type: ignore[arg-type]
    assert small == 10**9 + grown
    assert found == step
    assert training == 10**9 + 2 * grown + 2 * step


def test_no_weights_are_fetched_for_it(
    tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[RunConfig] = []
    monkeypatch.setattr(dryrun, "train", lambda config, folder, asked: tried.append(config))
    model = tiny_config.model.model_copy(update={"pretrained": "nobody/nothing"})
    config = tiny_config.model_copy(update={"model": model})
    dryrun.dry_run(config, dryrun.Material(Stack(6, 64, 64), 2), tmp_path)
    assert {config.model.pretrained for config in tried} == {""}
