"""Fixtures of the training tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from trainings import write_discs


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Six planes of bright discs on a dark ground; labels are 0 and 255."""
    write_discs(tmp_path)
    return tmp_path
