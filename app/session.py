"""What one open page knows, without Gradio: where a link leads, and what to say when something goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from segcore.errors import SegcoreError

T = TypeVar("T")
TABS = ("segment", "runs", "models", "viewer", "files", "help")
log = logging.getLogger("segcore.app")


@dataclass(frozen=True)
class Problem:
    """An error in the user's words."""

    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Link:
    """What the address of the page asks to be shown.

    Parameters
    ----------
    run : str
        Id of a job to watch, or "".
    tab : str
        One of `TABS`.
    path : str
        A file of the workspace for the viewer, or "".
    """

    run: str = ""
    tab: str = "segment"
    path: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Link:
        """Read the parameters of the address; unknown ones and unknown tabs are ignored.

        Examples
        --------
        >>> Link.parse({"run": "20260101-120000-ab12", "tab": "nowhere"})
        Link(run='20260101-120000-ab12', tab='segment', path='')
        """
        tab = query.get("tab", "").lower()
        return cls(query.get("run", ""), tab if tab in TABS else "segment", query.get("path", ""))


def attempt(action: Callable[[], T]) -> T | Problem:
    """Do something for the page; an error comes back as a Problem, an unforeseen one also goes to the log."""
    try:
        return action()
    except SegcoreError as error:
        return Problem(error.message, error.remedy)
    except Exception:
        # The last line before the user: whatever it is, they get words, and we get the traceback.
        log.exception("Unexpected error in the web app")
        return Problem(
            "Something went wrong inside the app.",
            "Try again; the server's log says more if it happens again.",
        )
