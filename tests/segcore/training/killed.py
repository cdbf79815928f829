"""A training that is killed again and again: `killed.py CONFIG.json FOLDER KILLS SEED`.

The training runs in a child of this process, which is killed after a random number of steps, at a random
moment of the next one, and started again; after KILLS kills it may end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

# What the first step of an optimizer loads, for seconds: once, not in every child.
import torch._dynamo  # noqa: F401

from segcore.card import read_config
from segcore.events import Event, Progress
from segcore.files import remove_leftovers
from segcore.jobs.journal import FolderReporter
from segcore.training.run import train


def work(config_file: Path, folder: Path, steps: int) -> None:
    """Train in this process; a byte goes to `steps` after every step."""
    config, _ = read_config(config_file)
    remove_leftovers(folder)  # as `start_job` does
    write = FolderReporter(folder)

    def report(event: Event) -> None:
        write(event)
        if isinstance(event, Progress) and event.stage == "training":
            os.write(steps, b".")

    train(config, folder, report)


def main() -> int:
    """Return 0 once the training has ended by itself."""
    config_file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    chance = random.Random(int(sys.argv[4]))
    kills = 0
    while True:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            work(config_file, folder, writing)
            os._exit(0)
        os.close(writing)
        if kills < int(sys.argv[3]):
            for _ in range(chance.randint(1, 6)):
                os.read(reading, 1)
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            kills += 1
        _, status = os.waitpid(child, 0)
        os.close(reading)
        if not os.WIFSIGNALED(status):
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
