"""Secrets among the options: what may be shown of an address that lets everybody write who knows it."""

from __future__ import annotations

from typing import Any
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


def concealed(options: dict[str, Any]) -> dict[str, Any]:
    """Return options by section, as `RunConfig.model_dump` gives them, with what may be shown of the secrets.

    Examples
    --------
    >>> concealed({"session": "em", "notify": {"webhook": "https://chat.example.org/hooks/abc"}})
    {'session': 'em', 'notify': {'webhook': 'https://chat.example.org/…'}}
    """
    return {name: _concealed(value) if isinstance(value, dict) else value for name, value in options.items()}


def _concealed(section: dict[str, Any]) -> dict[str, Any]:
    secret = {name: shown_address(section[name]) for name in SECRETS if section.get(name)}
    return section | secret
