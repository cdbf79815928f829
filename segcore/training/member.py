"""Entry of the processes that train with a leader: `python -m segcore.training.member`.

Where they stand is in the environment, as torchrun and SLURM write it; everything else the leader tells them.
They write nothing into the run folder, and take no signals: the leader says when it is over.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

from segcore.config import RunConfig
from segcore.errors import SegcoreError
from segcore.events import unasked, unheard
from segcore.training.distributed import Ranks
from segcore.training.launch import LEADER, SAID_WHY, leave_reason
from segcore.training.place import launched

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


def main() -> int:
    """Train along until the leader ends it, and return the exit status."""
    place = launched()
    if place is None or place.rank == 0:
        sys.stderr.write("Only torchrun, SLURM or a training on several devices starts this.\n")
        return 2
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if LEADER in os.environ:
        threading.Thread(target=_follow, args=(int(os.environ[LEADER]),), daemon=True).start()
    from segcore.training.run import train_in

    team = Ranks(place)
    config, folder = team.lead(_nothing)
    try:
        train_in(team, config, folder, unheard, unasked)
        team.close()
    except SegcoreError as error:
        leave_reason(folder, place.rank, error)
        return SAID_WHY
    except Exception:
        logger.exception("Process %d of the training failed.", place.rank)
        return 1
    return 0


def _nothing() -> tuple[RunConfig, Path]:
    raise AssertionError("the leader says what is trained, and where")


def _follow(leader: int) -> None:
    """End with the leader, also where this process waits for it and cannot notice that it is gone."""
    try:
        process = psutil.Process(leader)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(LOOK_SECONDS)
    except psutil.Error:
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
