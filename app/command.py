"""The command line that does the same as the page: only options that differ from their defaults."""

from __future__ import annotations

import json
import shlex
from typing import Any

from segcore.config import SECTIONS, RunConfig
from segcore.config.secret import SECRETS
from segcore.jobs.store import Kind


def command_line(config: RunConfig, kind: Kind = "train", workspace: str = "") -> str:
    """Return the `segcore` command for `config`, quoted for a POSIX shell.

    A command is copied into chats, notes and the shell's history: a secret is left for the person to fill in,
    and the command line refuses what stands in its place.

    Examples
    --------
    >>> command_line(RunConfig.model_validate({"session": "em", "model": {"features": 16}}))
    'segcore train --session em --model.features 16'
    """
    words = ["segcore", kind]
    if workspace:
        words += ["--workspace", workspace]
    words += ["--session", config.session]
    for section in SECTIONS:
        part = getattr(config, section)
        default = type(part)().model_dump()
        for name, value in part.model_dump().items():
            if value != default[name]:
                text = name.upper() if name in SECRETS else _text(value)
                words += [f"--{section}.{name.replace('_', '-')}", text]
    return " ".join(shlex.quote(word) for word in words)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
