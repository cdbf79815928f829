"""The error of a wrong command line, apart from the parsers: `segcore --help` need not import those."""

from __future__ import annotations

from segcore.errors import ConfigError


class UsageError(ConfigError):
    """The command line itself is wrong."""
