"""PromptProcess: the warm process that answers prompts, as the web server sees it. Torch-free."""

from __future__ import annotations

import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segcore.errors import ModelError
from segcore.promptable.messages import Answer, Request

COMMAND = [sys.executable, "-m", "segcore.promptable.serve"]
LONGEST_WAIT = 900.0
"""Seconds without a word after which an answer is given up: a large network may have to be fetched first."""


class PromptProcess:
    """One process per server; it starts when first needed, and answers one request after the other.

    It ends by itself: with this server, whose end closes its standard input, or after some idle minutes.

    Parameters
    ----------
    log : Path
        The file for what it says beside its answers.
    device : str
        Where it computes, as `hardware.device`.
    """

    def __init__(self, log: Path, device: str = "cpu") -> None:
        self.log, self.device = log, device
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closing = False

    def ask(
        self,
        request: Mapping[str, Any],
        seconds: float | None = None,
        told: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """Hand in a request and return its answer; others wait meanwhile.

        Parameters
        ----------
        request : Mapping
            The fields of `Request`, but for `id`.
        seconds : float, optional
            So long it may say nothing; None: some minutes.
        told : callable, optional
            Told every stage of the work.

        Raises
        ------
        ModelError
            The request cannot be read; what went wrong, in the words of the process; or it ended or took
            too long.
        """
        with self._lock:
            try:
                asked = Request.model_validate({**request, "id": next(self._numbers)})
            except ValidationError as error:
                text = f"The network cannot be asked this: {error.errors()[0]['msg']}."
                raise ModelError(text, "Load the page again.") from error
            self._send(asked)
            answer = self._wait(asked, LONGEST_WAIT if seconds is None else seconds, told)
        if answer.message:
            raise ModelError(answer.message, answer.remedy)
        return answer

    def close(self) -> None:
        """End the process; who waits for an answer is told."""
        self._closing = True
        if process := self._process:
            process.kill()
        with self._lock:
            self._end()
            self._closing = False

    def _wait(self, asked: Request, seconds: float, told: Callable[[Answer], None] | None) -> Answer:
        deadline, again = time.monotonic() + seconds, True
        while True:
            try:
                line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._end()
                raise ModelError(
                    f"The prompt took more than {seconds:.0f} s.",
                    "Try again when the machine is idle, or choose a smaller network.",
                ) from None
            if line is None:
                self._end()  # it may still be about to end, and would take the next request along
                # It may have gone idle in the moment it was asked; a second end is a failure.
                if not again or self._closing:
                    raise ModelError(
                        "The process that answers prompts ended.", f"The log {self.log.name} says why."
                    )
                again = False
                self._send(asked)
                continue
            with suppress(ValidationError):  # half a line, of a process that was killed
                answer = Answer.model_validate_json(line)
                if answer.id != asked.id:
                    continue
                if not answer.stage:
                    return answer
                deadline = time.monotonic() + seconds
                if told is not None:
                    told(answer)

    def _send(self, request: Request) -> None:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended just now: whoever waits sees that, and asks once more
            self._process.stdin.write(request.model_dump_json().encode() + b"\n")
            self._process.stdin.flush()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._answers = queue.Queue()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, self.device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl+C in the server's terminal is meant for the server, whose end then ends this one.
                start_new_session=True,
            )
        threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()


def _listen(process: subprocess.Popen[bytes], answers: queue.Queue[bytes | None]) -> None:
    """Pass on what a process says, and that it has ended."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            answers.put(line)
    answers.put(None)
