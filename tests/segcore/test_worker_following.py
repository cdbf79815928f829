"""The thread that tells MLflow is one, however many lines have something to tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from segcore.worker.following import FollowingThread
from segcore.workspace import Workspace

LINES = 8


def test_lines_that_begin_at_the_same_moment_start_one_thread(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[FollowingThread] = []
    monkeypatch.setattr(FollowingThread, "_work", lambda following: started.append(following))
    for attempt in range(30):
        following, barrier = FollowingThread(workspace), Barrier(LINES)

        def follow(line: int, following: FollowingThread = following, barrier: Barrier = barrier) -> None:
            barrier.wait(10)
            following.follow(workspace.models / str(line))

        with ThreadPoolExecutor(LINES) as lines:
            list(lines.map(follow, range(LINES)))
        following.close()
        assert len(started) == attempt + 1
