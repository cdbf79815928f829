"""What the options of a head may be."""

from __future__ import annotations

from segcore.errors import ConfigError


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Make sure that an option lies between `low` and `high`, both allowed.

    Raises
    ------
    ConfigError
        It does not.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value:g}.", f"It must be between {low:g} and {high:g}.")
