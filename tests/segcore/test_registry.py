"""Registry: an unknown name lists the known ones."""

from __future__ import annotations

import pytest

from segcore.errors import ConfigError
from segcore.registry import Registry


def test_an_unknown_name_lists_the_known_ones() -> None:
    registry = Registry("fruit", {"pear": 1, "apple": 2})
    assert registry["apple"] == 2
    with pytest.raises(ConfigError, match=r"'plum' is not a fruit\. Known: apple, pear\."):
        registry["plum"]


def test_the_registry_keeps_its_own_entries() -> None:
    entries = {"pear": 1}
    registry = Registry("fruit", entries)
    entries["apple"] = 2
    assert list(registry) == ["pear"]
    assert len(registry) == 1
