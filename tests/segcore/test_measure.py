"""The measurement of the machine leaves a record that estimates can use."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcore import measure
from segcore.estimate import read_machine
from segcore.workspace import Workspace


def test_the_machine_is_measured_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FEATURES", 4)
    workspace = Workspace.open(tmp_path)
    machine = measure.measure_machine(workspace, seconds=0.0)
    assert machine is not None
    assert machine.gflops > 0
    assert read_machine(workspace) == machine
