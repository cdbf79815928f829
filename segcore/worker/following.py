"""Following: a thread beside the supervisor that tells MLflow about jobs, and is never in their way."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segcore.errors import JobError
from segcore.jobs.store import read_job
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.mlflow import Follower

logger = logging.getLogger(__name__)

SYNC_SECONDS = 2.0
FINISH_SECONDS = 20.0
RETRY_SECONDS = 60.0


class FollowingThread:
    """Tells MLflow what is new in the run folders given to it; goes on trying where a server is down.

    Parameters
    ----------
    workspace : Workspace
        The workspace of the jobs.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._inbox: queue.SimpleQueue[tuple[Path, bool] | None] = queue.SimpleQueue()
        self._untold: set[Path] = set()
        self._told = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def follow(self, folder: Path) -> None:
        """Begin to tell MLflow about a job, or go on with one that was resumed."""
        with self._told:
            self._untold.discard(folder)
        self._put(folder, False)

    def conclude(self, folder: Path) -> None:
        """Tell MLflow the rest about a job that has ended, for now or for good."""
        with self._told:
            self._untold.add(folder)
        self._put(folder, True)

    def wait(self, timeout: float) -> bool:
        """Wait until MLflow knows all about the concluded jobs; False if `timeout` seconds are not enough."""
        with self._told:
            return self._told.wait_for(lambda: not self._untold, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """End the thread; what MLflow has not been told by then, the next worker tells it."""
        if self._thread.is_alive():
            self._inbox.put(None)
            self._thread.join(timeout)

    def _put(self, folder: Path, ended: bool) -> None:
        self._inbox.put((folder, ended))
        with self._told:  # the lines of two devices may come at the same moment
            if self._thread.ident is None:
                self._thread.start()

    def _work(self) -> None:
        # MLflow takes seconds to import; here nobody waits for it.
        from segcore.tracking.mlflow import Follower

        followed: dict[Path, _Followed] = {}
        while True:
            try:
                message = self._inbox.get(timeout=SYNC_SECONDS)
                if message is None:
                    return
                folder, ended = message
                entry = followed.setdefault(folder, _Followed(Follower(folder, self.workspace)))
                entry.ended = ended
                if not self._inbox.empty():
                    continue
            except queue.Empty:
                pass
            for folder, entry in list(followed.items()):
                if self._tell(folder, entry):
                    del followed[folder]

    def _tell(self, folder: Path, entry: _Followed) -> bool:
        """Tell MLflow what is new and return whether there is nothing more to come."""
        if not entry.ended:
            entry.follower.sync()
            return False
        if time.monotonic() < entry.due:
            return False
        # What may go on later has no last word: MLflow is told how far it came.
        if not (entry.follower.finish(FINISH_SECONDS) if _is_over(folder) else entry.follower.sync()):
            logger.warning("MLflow does not know all about %s yet; trying again in a minute.", folder.name)
            entry.due = time.monotonic() + RETRY_SECONDS
            return False
        with self._told:
            self._untold.discard(folder)
            self._told.notify_all()
        return True


def _is_over(folder: Path) -> bool:
    try:
        return read_job(folder).state.final
    except JobError:
        return True  # deleted: the follower finds nothing more to tell


@dataclass
class _Followed:
    follower: Follower
    ended: bool = False
    due: float = 0.0
    """When to try again to tell the rest, by the monotonic clock."""
