"""The process that predicts for the page: it answers, starts again when gone, and ends with the server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from app import glance_process
from app.glance_process import GlanceProcess
from segcore.errors import ModelError

FAKE = """
import json, sys
from pathlib import Path
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        break
    if request["do"] == "sleep":
        continue
    message = "" if request["do"] == "well" else "No such luck."
    answer = Path(request["answer"])
    answer.with_suffix(".part").write_text(json.dumps({"message": message, "remedy": "Try."}))
    answer.with_suffix(".part").rename(answer)
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client whose process does as the request says."""
    monkeypatch.setattr(glance_process, "COMMAND", [sys.executable, "-c", FAKE])
    process = GlanceProcess(tmp_path / "state" / "glances")
    yield process
    process.close()


def test_answers_come_and_leave_nothing_behind(process: GlanceProcess) -> None:
    assert not process.warm
    assert sorted(waits := list(process.ask({"do": "well"}))) == waits
    assert process.warm
    with pytest.raises(ModelError, match="No such luck") as caught:
        list(process.ask({"do": "badly"}))
    assert caught.value.remedy == "Try."
    assert list(process.folder.iterdir()) == []


def test_a_process_that_went_idle_is_started_again(
    process: GlanceProcess, wait_until: Callable[..., None]
) -> None:
    list(process.ask({"do": "well"}))
    with pytest.raises(ModelError, match="ended"):
        list(process.ask({"do": "die"}))
    wait_until(lambda: not process.warm)
    list(process.ask({"do": "well"}))
    assert process.warm


def test_what_takes_too_long_is_given_up(process: GlanceProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance_process, "LONGEST_WAIT", 0.2)
    with pytest.raises(ModelError, match="took more than"):
        list(process.ask({"do": "sleep"}))
    assert not process.warm


SERVER = """
import sys
from pathlib import Path
from app.glance_process import GlanceProcess
process = GlanceProcess(Path(sys.argv[1]))
process.ask({}).__next__()
print(process._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_real_process_ends_when_the_server_is_killed(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    command = [sys.executable, "-c", SERVER, str(tmp_path / "state" / "glances")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        child = psutil.Process(int(server.stdout.readline()))
        assert "segcore.inference.glance" in child.cmdline()
        server.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 60)
