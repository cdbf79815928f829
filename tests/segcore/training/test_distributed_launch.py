"""Who starts the processes of a training, what does not fit, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import torch
from torch import distributed
from trainings import config_for

from segcore.config import TrainingConfig
from segcore.errors import ConfigError, DataError, JobError, LostProcess
from segcore.events import Request, unheard
from segcore.training import launch
from segcore.training.launch import _reason, assembled, check_devices, leave_reason
from segcore.training.place import Place, launched
from segcore.training.run import train

TORCHRUN = {
    "RANK": "9",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "gpu1",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_ID": "123456",
    "SLURM_NTASKS": "8",
}


def test_a_process_knows_its_place_from_torchrun_and_slurm() -> None:
    assert launched(TORCHRUN) == Place(9, 1, 16, 8, "gpu1", 29500, "torchrun")
    assert launched(SLURM) == Place(5, 1, 8, 4, "gpu07", 18456, "SLURM")
    assert launched({**SLURM, "MASTER_ADDR": "head", "MASTER_PORT": "7"}) == Place(
        5, 1, 8, 4, "head", 7, "SLURM"
    )


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("a1", "a1"), ("a1,b2", "a1"), ("n[3-5,9],x", "n3"), ("n[12]", "n12"), ("n[1,4]-ib,x", "n1-ib")],
)
def test_the_first_host_of_a_list_leads(hosts: str, first: str) -> None:
    place = launched({**SLURM, "SLURM_STEP_NODELIST": hosts})
    assert place is not None
    assert place.address == first


def test_a_single_process_has_no_launcher() -> None:
    assert launched({}) is None
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) is None
    # The script of a job, before it calls srun.
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}) is None


def test_all_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        check_devices(TrainingConfig(batch_size=8, devices=3, num_nodes=2), "mps", None)
    for words in ("batch_size 8", "6 devices", "num_nodes is 2", "one GPU"):
        assert words in error.value.message
    for words in ("multiple", "deploy/train-torchrun.sh", "training.devices to 1"):
        assert words in error.value.remedy
    with pytest.raises(ConfigError, match="started 16 processes, 8 on every host") as error:
        check_devices(TrainingConfig(batch_size=8), "cpu", launched(TORCHRUN))
    assert error.value.remedy == "Set --training.devices 8 --training.num-nodes 2."
    check_devices(TrainingConfig(batch_size=16, devices=8, num_nodes=2), "cpu", launched(TORCHRUN))


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_devices(TrainingConfig(devices=2), "cuda", None)
    with pytest.raises(ConfigError, match="devices is 4, but this machine shows 2 GPUs"):
        check_devices(TrainingConfig(devices=4), "cuda", None)


def test_one_device_needs_nobody(stack: Path, tmp_path: Path) -> None:
    with assembled(config_for(stack), tmp_path) as team:
        assert (team.size, team.leads) == (1, True)


def test_parting_from_dead_processes_hides_no_reason(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """Stands for processes and team: a member left its reason, then all connections broke."""

        def __init__(self, *given: object) -> None:
            """Take what is given."""

        def lead(self, value: object) -> None:
            leave_reason(tmp_path, 1, DataError("A file is gone.", "Bring it back."))
            raise RuntimeError("Connection closed by peer")

        def close(self) -> None:
            raise RuntimeError("Connection closed by peer")

        def death(self) -> str:
            return ""

        def end(self) -> None:
            """End nobody."""

    for name in ("Members", "Ranks"):
        monkeypatch.setattr(launch, name, Broken)
    with pytest.raises(JobError, match="A file is gone"), assembled(config_for(stack, devices=2), tmp_path):
        pass


def test_the_reason_of_another_process_is_told_instead_of_the_broken_connection(tmp_path: Path) -> None:
    leave_reason(tmp_path, 3, DataError("A file is gone.", "Bring it back."))
    found = _reason(RuntimeError("Connection closed by peer"), tmp_path, None)
    assert isinstance(found, JobError)
    assert (found.message, found.remedy) == ("A file is gone.", "Bring it back.")


def test_an_error_of_the_leader_stays_what_it_is(tmp_path: Path) -> None:
    error = RuntimeError("shapes do not match")
    assert _reason(error, tmp_path, None) is error


def test_a_training_whose_process_is_killed_ends_and_goes_on_from_its_checkpoint(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "NOTICE_SECONDS", 1e6)  # the leader that would be ended here is this process
    config = config_for(stack, devices=2, epochs=2, checkpoint_minutes=1e-6)
    config = config.model_copy(update={"model": config.model.model_copy(update={"features": 2, "layers": 1})})
    asked = 0

    def members() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [each for each in children if "segcore.training.member" in each.cmdline()]

    def kill_one() -> Request | None:
        nonlocal asked
        asked += 1
        if asked == 3:
            (member,) = members()
            os.kill(member.pid, signal.SIGKILL)
        return None

    with pytest.raises(LostProcess, match=r"was killed|connection"):
        train(config, tmp_path / "run", asked=kill_one)
    assert not members()
    assert not distributed.is_initialized()
    alone = config.model_copy(update={"training": config.training.model_copy(update={"devices": 1})})
    assert train(alone, tmp_path / "run", unheard).metrics["val_dice"] > 0
