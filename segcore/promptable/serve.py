"""The process that holds a network and answers prompts for the page, so that the web server needs no torch.

`python -m segcore.promptable.serve [DEVICE]` takes one request per line on stdin and writes one answer per
line on stdout, see `messages`. It ends with its stdin, or when nothing was asked for a while.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from pydantic import ValidationError

from segcore.config import HardwareConfig
from segcore.data.collection import open_collection
from segcore.devices import choose
from segcore.errors import ConfigError, SegcoreError
from segcore.promptable.cache import EmbeddingCache
from segcore.promptable.everything import find_everything
from segcore.promptable.messages import Answer, Mask, Place, Request, labels_png, mask_message
from segcore.promptable.promptable import Embedding, Everything, Masks, Prompt, Promptable

IDLE_SECONDS = 900.0
"""After so long without a request the process ends and gives its memory back."""

_log = logging.getLogger("segcore.prompts")

Loader = Callable[[str], Promptable]
Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is (0: nobody knows)."""


class Prompter:
    """Answers requests. The last network and the last embedding stay at hand.

    Parameters
    ----------
    load : callable
        From the name of a network to the network.
    cache : EmbeddingCache
        Where embeddings are kept.
    """

    def __init__(self, load: Loader, cache: EmbeddingCache | None = None) -> None:
        self._load = load
        self._cache = cache or EmbeddingCache()
        self._network: tuple[str, Promptable] | None = None
        self._seen: tuple[tuple[str, Place], Embedding] | None = None

    def answer(self, request: Request, tell: Tell = lambda stage, done, total: None) -> Answer:
        """Return the answer; what goes wrong is said in it, and on the way what is being done."""
        began = time.monotonic()
        message, remedy = "", ""
        try:
            found = self._found(request, tell)
            return found.model_copy(update={"seconds": time.monotonic() - began})
        except SegcoreError as error:
            message, remedy = error.message, error.remedy
        except MemoryError:
            message, remedy = (
                "The memory is full.",
                "Choose a smaller part of the slice, or a smaller network.",
            )
        except Exception:  # whoever waits must be told, and the next request must find a process
            _log.exception("A prompt failed")
            message, remedy = "The prompt failed inside the program.", "The log of the process says more."
        return Answer(id=request.id, message=message, remedy=remedy, seconds=time.monotonic() - began)

    def _found(self, request: Request, tell: Tell) -> Answer:
        network = self._known(request.model, tell)
        embedding = self._embedding(network, request, tell)
        if request.do == "embed":
            return Answer(id=request.id)
        if request.do == "everything":
            told = partial(tell, "Looking for objects")
            found = find_everything(network, embedding, Everything(), told)
            if found.count > np.iinfo(np.uint16).max:
                raise ConfigError(
                    f"{found.count} objects were found, more than a picture can number.",
                    "Choose a smaller part of the slice.",
                )
            return Answer(id=request.id, labels=labels_png(found.labels), scores=tuple(found.scores.tolist()))
        prompt = Prompt(request.points, request.labels, request.box)
        return Answer(id=request.id, masks=_sent(network.mask(embedding, prompt)))

    def _known(self, model: str, tell: Tell) -> Promptable:
        if self._network is None or self._network[0] != model:
            tell("Loading the network", 0, 0)
            self._network = self._seen = None  # memory for one network
            self._network = (model, self._load(model))
        return self._network[1]

    def _embedding(self, network: Promptable, request: Request, tell: Tell) -> Embedding:
        # Of the files a place names it is believed, as long as it is the last one, that they stay the same.
        asked = (request.model, request.place)
        if self._seen is None or self._seen[0] != asked:
            tell("Looking at the slice", 0, 0)
            self._seen = None  # memory for one
            self._seen = (asked, self._cache.embed(network, read_place(request.place)))
        return self._seen[1]


def _sent(found: Masks) -> tuple[Mask, ...]:
    return tuple(mask_message(mask, score) for mask, score in zip(found.masks, found.scores, strict=True))


def read_place(place: Place) -> np.ndarray:
    """Return part of a slice `(C, Y, X)`.

    Raises
    ------
    DataError
        The images cannot be read.
    ConfigError
        There is no such slice, or no such part of it.
    """
    planes = open_collection(place.data, labelled=False)
    if not 0 <= place.plane < planes.count:
        raise ConfigError(
            f"There is no slice {place.plane}.", f"The images have {planes.count}, counted from 0."
        )
    parts = []
    for name, span, size in zip(
        ("rows", "columns"), (place.rows, place.columns), planes.size(place.plane), strict=True
    ):
        start, stop = span or (0, size)
        if not 0 <= start < stop <= size:
            raise ConfigError(
                f"The {name} {start} to {stop} are no part of the slice.", f"It has the {name} 0 to {size}."
            )
        parts.append(slice(start, stop))
    return planes.window(place.plane, *parts)


def serve(
    lines: Iterable[str],
    say: Callable[[Answer], None],
    prompter: Prompter,
    idle_seconds: float = IDLE_SECONDS,
) -> None:
    """Answer the requests in `lines`; ends with them, whatever still waits, or after an idle time.

    Parameters
    ----------
    lines : iterable of str
        Requests, JSON.
    say : callable
        Takes the answers.
    prompter : Prompter
        Who answers.
    idle_seconds : float
        So long it waits for the next request.
    """
    waiting: queue.Queue[str] = queue.Queue()
    gone = threading.Event()

    def listen() -> None:
        for line in lines:
            waiting.put(line)
        gone.set()  # whoever asked has ended: nobody looks at the answers any more
        waiting.put("")

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=idle_seconds)
        except queue.Empty:
            return
        if gone.is_set():
            return
        try:
            request = Request.model_validate_json(line)
        except ValidationError:
            _log.exception("A request that cannot be read")
            if (number := _number(line)) is not None:
                say(Answer(id=number, message="The request cannot be read.", remedy="Load the page again."))
            continue
        say(prompter.answer(request, partial(_tell, say, request.id)))


def _number(line: str) -> int | None:
    """Return the id of a request that cannot be read, if it has one: who asked must not wait for ever."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    number = content.get("id") if isinstance(content, dict) else None
    return number if isinstance(number, int) else None


def _tell(say: Callable[[Answer], None], number: int, stage: str, done: int, total: int) -> None:
    say(Answer(id=number, stage=stage, done=done, total=total))


def main(device: str = "cpu") -> None:
    """Answer what comes on stdin on stdout.

    Parameters
    ----------
    device : str
        Where the network computes, as `hardware.device`. The CPU disturbs no training, but takes seconds for
        an embedding.
    """
    # Libraries may print: what they say must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    hardware = choose(HardwareConfig.model_validate({"device": device}))

    def load(model: str) -> Promptable:
        from segcore.promptable.sam import load_sam  # seconds: not before somebody asks

        return load_sam(model, hardware)

    def say(answer: Answer) -> None:
        answers.write(answer.model_dump_json() + "\n")
        answers.flush()

    serve(sys.stdin, say, Prompter(load))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main(*sys.argv[1:2])
