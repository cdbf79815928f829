"""`segcore train` warns before it starts what will not fit, with settings that do; else it says nothing."""

from __future__ import annotations

import pytest

from segcore import footprint
from segcore.cli.memory import warn_of_memory
from segcore.config import RunConfig
from segcore.footprint import with_options
from segcore.memory import Memory
from segcore.workspace import Workspace


@pytest.mark.parametrize(("available", "warned"), [(10**11, False), (11 * 10**8, True)])
def test_the_warning_names_settings_that_fit(
    available: int,
    warned: bool,
    tiny_config: RunConfig,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(footprint, "main_memory", lambda: Memory(10**11, available))
    large = {"data.patch_size": 256, "model.features": 32, "training.batch_size": 32}
    warn_of_memory(with_options(tiny_config, large), workspace)
    said = capsys.readouterr().err
    assert said.startswith("warning: the training needs about") is warned
    assert ("--training.micro-batch" in said) is warned
