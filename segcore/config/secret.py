"""Secrets among the options: what may be shown of an address that lets everybody write who knows it."""

from __future__ import annotations

from urllib.parse import urlsplit

SECRETS = ("webhook",)
"""Names of the options whose values pages, logs and messages do not show in full."""


def shown_address(address: str) -> str:
    """Return scheme and host of a webhook; what follows them is as good as a password.

    Examples
    --------
    >>> shown_address("https://me:word@chat.example.org:8443/hooks/abc?key=def")
    'https://chat.example.org:8443/…'
    """
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "…"
    return f"{parts.scheme}://{host}/…" if parts.scheme and host else "…"
