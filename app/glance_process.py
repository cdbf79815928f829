"""GlanceProcess: the warm process that predicts slices for the page, so that the server needs no torch."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from segcore.errors import ModelError

COMMAND = [sys.executable, "-m", "segcore.inference.glance"]
POLL_SECONDS = 0.03
LONGEST_WAIT = 180.0
"""Seconds after which a prediction is given up; a machine busy with trainings is slow."""


class GlanceProcess:
    """One process `python -m segcore.inference.glance` per server; it starts when first needed.

    It ends by itself: with this server, whose end closes its standard input, or after some idle minutes. No
    pipe comes back from it: answers are files, so that nothing can fill up and hold it.

    Parameters
    ----------
    folder : Path
        Where answers and its log lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def warm(self) -> bool:
        """True if the process is there, so that an answer takes no start-up."""
        return self._process is not None and self._process.poll() is None

    def ask(self, request: Mapping[str, object]) -> Iterator[float]:
        """Hand in a request and yield the seconds waited, again and again, until it is answered.

        Parameters
        ----------
        request : Mapping
            The fields of `segcore.inference.glance.Request`, but for `answer`.

        Raises
        ------
        ModelError
            What went wrong, in the words of the process; or it ended or took too long.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        answer = self.folder / f"{secrets.token_hex(8)}.json"
        line = json.dumps({**request, "answer": str(answer)}) + "\n"
        began = time.monotonic()
        try:
            process = self._send(line)
            again = True
            while not answer.exists():
                if process.poll() is not None and not answer.exists():
                    # It may have gone idle in the moment it was asked; a second end is a failure.
                    if not again:
                        raise ModelError(
                            "The process that makes previews ended.", "The log .segcore/glance.log says why."
                        )
                    process, again = self._send(line), False
                if time.monotonic() - began > LONGEST_WAIT:
                    self.close()
                    raise ModelError(
                        f"The preview took more than {LONGEST_WAIT:.0f} s.",
                        "Try again when the machine is idle.",
                    )
                yield time.monotonic() - began
                time.sleep(POLL_SECONDS)
            said = json.loads(answer.read_text("utf-8"))
            if said["message"]:
                raise ModelError(said["message"], said["remedy"])
        finally:
            answer.unlink(missing_ok=True)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _send(self, line: str) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = self._start()
            process = self._process
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it ended just now: whoever waits sees that, and asks once more
                process.stdin.write(line.encode())
            return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder.parent / "glance.log").open("wb") as log:
            return subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                bufsize=0,
                # Ctrl+C in the server's terminal is meant for the server, whose end then ends this one.
                start_new_session=True,
            )
