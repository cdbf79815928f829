"""Launch: finds out who started the processes that train together, starts them where nobody has, ends them.

On one host the job's own process leads and starts the others. Under torchrun or SLURM they are there already:
the first one runs the job, the others `python -m segcore.training.member`, or the same `segcore train`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from segcore.config import RunConfig, TrainingConfig
from segcore.devices import choose
from segcore.errors import JobError, LostProcess, SegcoreError
from segcore.files import write_atomic
from segcore.jobs.process import child_environment
from segcore.training.distributed import Ranks, Team
from segcore.training.place import Place, launch_problems, launched, raise_problems

LEADER = "SEGCORE_LEADER"
"""In the environment of a process that the leader started: the leader's process id."""
SAID_WHY = 3
"""Exit status of a process that has left its reason in the run folder."""
NOTICE_SECONDS = 120.0
"""How long the leader may take to notice that another process has died, before it ends itself."""
REASON_SECONDS = 10.0
"""How long the leader waits for a reason after the connection broke."""
_BROKEN = ("connection closed", "connection reset", "connection refused", "gloo", "nccl", "broken pipe")


def check_devices(training: TrainingConfig, device: str, place: Place | None) -> None:
    """Check that as many processes and devices are there as the options ask for.

    Parameters
    ----------
    training : TrainingConfig
        The options.
    device : str
        Type of the devices: "cpu", "cuda" or "mps".
    place : Place, optional
        What a launcher has started.

    Raises
    ------
    ConfigError
        Something does not fit; the message lists all of it.
    """
    devices = training.devices
    problems = launch_problems(training, place)
    if device == "mps" and devices > 1:
        problems.append(
            (f"training.devices is {devices}, but a Mac has one GPU.", "Set training.devices to 1.")
        )
    if device == "cuda" and devices > torch.cuda.device_count():
        there = torch.cuda.device_count()
        text = (
            f"training.devices is {devices}, but this machine shows {there} GPU{'s' if there != 1 else ''}."
        )
        problems.append((text, f"Set training.devices to at most {there}."))
    raise_problems(problems)


@contextmanager
def assembled(config: RunConfig, folder: Path) -> Iterator[Team]:
    """Bring the processes of a training together, as their leader, and part from them at the end.

    Parameters
    ----------
    config : RunConfig
        Options; the others get them from here.
    folder : Path
        The run folder, which all of them see.

    Raises
    ------
    ConfigError
        Processes or devices are missing.
    JobError
        Another process cannot go on; with its reason, if it left one.
    LostProcess
        Another process has died.
    """
    training, place = config.training, launched()
    if place is None and training.devices == training.num_nodes == 1:
        yield Team()
        return
    device = choose(config.hardware).device.type
    check_devices(training, device, place)
    for old in folder.glob(".failed-*.json"):
        old.unlink(missing_ok=True)
    threads = torch.get_num_threads()
    members, team = None, None
    if place is None:
        place = Place(size=training.devices, local_size=training.devices, port=_free_port())
        if device == "cpu":
            torch.set_num_threads(max(1, threads // training.devices))
        members = Members(place, torch.get_num_threads())
    try:
        team = Ranks(place, device)
        team.lead(lambda: (config, folder))
        yield team
        team.close()
    except SegcoreError:
        raise
    except Exception as error:
        raise _reason(error, folder, members) from error
    finally:
        torch.set_num_threads(threads)
        if members is not None:
            members.end()
        if team is not None and device == "cpu":  # NCCL would wait for the dead
            with suppress(RuntimeError):  # which would stand before the reason that is on its way
                team.close()


class Members:
    """The processes that a leader has started on its host.

    Parameters
    ----------
    place : Place
        Of the leader.
    threads : int
        How many each of them computes with.
    """

    def __init__(self, place: Place, threads: int) -> None:
        common = {
            **child_environment(),
            LEADER: str(os.getpid()),
            "WORLD_SIZE": str(place.size),
            "LOCAL_WORLD_SIZE": str(place.local_size),
            "MASTER_ADDR": place.address,
            "MASTER_PORT": str(place.port),
            "OMP_NUM_THREADS": str(threads),
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "segcore.training.member"],
                stdin=subprocess.DEVNULL,
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(1, place.size)
        ]
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, name="members", daemon=True)
        self._watch.start()

    def death(self) -> str:
        """Return which process has died and how, "" while all live or have ended as they should."""
        for rank, process in enumerate(self.processes, start=1):
            code = process.poll()
            if code is not None and code < 0:
                return f"process {rank} of the training was killed ({_signal_name(-code)})"
            if code:
                return f"process {rank} of the training ended with exit code {code}"
        return ""

    def end(self) -> None:
        """End all that still live; they have nothing to save."""
        self._over.set()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(REASON_SECONDS if not self.death() else 0)
            process.kill()
            process.wait()

    def _look(self) -> None:
        """End the leader where it waits for a dead process and cannot notice, as in a call of NCCL."""
        while not self._over.wait(1.0):
            if self.death() and not self._over.wait(NOTICE_SECONDS):
                for process in self.processes:
                    process.kill()
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def leave_reason(folder: Path, rank: int, error: SegcoreError) -> None:
    """Write down why a process cannot go on, for the leader to read."""
    with suppress(OSError):
        content = {"message": error.message, "remedy": error.remedy}
        write_atomic(folder / f".failed-{rank}.json", json.dumps(content))


def _reason(error: Exception, folder: Path, members: Members | None) -> Exception:
    """Return why the leader's connection to the others broke; the error itself if that is not what it is."""
    broken = any(word in str(error).lower() for word in _BROKEN)
    waiting = threading.Event()
    for _ in range(int(REASON_SECONDS / 0.2) if broken else 1):
        for path in folder.glob(".failed-*.json"):
            with suppress(OSError, ValueError):
                content = json.loads(path.read_text(encoding="utf-8"))
                return JobError(content["message"], content["remedy"])
        if members is not None and members.death():
            break
        waiting.wait(0.2)
    death = members.death() if members is not None else ""
    if not death and not broken:
        return error
    text = death or "the connection to another process of the training broke"
    return LostProcess(
        f"{text[0].upper()}{text[1:]}.",
        "It goes on from its last checkpoint; look at the end of the log, and at the memory of every host.",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
