"""Lean: puts a script before Gradio's own into the page, which spares the browser work that nobody sees."""

from __future__ import annotations

from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SCRIPT = Path(__file__).with_suffix(".js")
BEFORE = b"<head>"


class Lean:
    """ASGI middleware: inserts `lean.js` at the beginning of the head of every HTML page.

    Gradio's own `head` comes too late: its scripts have taken by then what they use of the window.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._added = b"<script>{\n" + SCRIPT.read_bytes() + b"}</script>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        page = False

        async def forward(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                page = _is_html(message)
                if page:
                    message = {
                        **message,
                        "headers": [one for one in message["headers"] if one[0] != b"content-length"],
                    }
            elif page and BEFORE in (body := message.get("body", b"")):
                page = False
                message = {**message, "body": body.replace(BEFORE, BEFORE + self._added, 1)}
            await send(message)

        await self._app(scope, receive, forward)


def _is_html(start: Message) -> bool:
    headers = dict(start["headers"])
    return start["status"] == 200 and headers.get(b"content-type", b"").startswith(b"text/html")
