"""The name of this machine, by which jobs and workers of a shared workspace are told apart."""

from __future__ import annotations

import os
import re
import socket

ENVIRONMENT = "SEGCORE_HOST"


def this_host() -> str:
    """Return `$SEGCORE_HOST`, or what the machine calls itself. It names files: other signs become dashes."""
    name = os.environ.get(ENVIRONMENT) or socket.gethostname()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "host"
