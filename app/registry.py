"""The model registry as the app sees it. MLflow takes seconds to import, so it is imported when first needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcore.errors import ModelError
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.models import RegisteredModel

CHECK_SECONDS = 180


@dataclass(frozen=True)
class ModelCheck:
    """Whether a `.pth` and a `config.json` belong together, and what the model is."""

    ok: bool
    message: str
    remedy: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


class Registry:
    """Registered models: list, register, aliases, roll back; and the check of model files.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def warm_up(self) -> None:
        """Import MLflow; meant for a background thread after the page is up."""
        import segcore.tracking.models  # noqa: F401

    def list(self) -> list[RegisteredModel]:
        """Return the registered models with their versions and aliases, newest first."""
        from segcore.tracking import models

        return models.list_models(self.workspace)

    def register(self, folder: Path, name: str) -> int:
        """Register the model of the run in `folder` under `name` and return its version."""
        from segcore.tracking import models

        return models.register(self.workspace, folder, name)

    def set_alias(self, name: str, version: int, alias: str) -> None:
        """Point `alias` of `name` at `version`."""
        from segcore.tracking import models

        models.set_alias(self.workspace, name, version, alias)

    def rollback(self, name: str, alias: str) -> int:
        """Point `alias` of `name` back at the version it had before and return that version."""
        from segcore.tracking import models

        return models.rollback(self.workspace, name, alias)

    def ui_url(self, run_id: str | None = None) -> str | None:
        """Return the address of the MLflow UI, of one run if given, or None if it cannot be known."""
        from segcore.tracking import models

        return models.ui_url(self.workspace, run_id)

    def check_files(self, weights: Path, config: Path | None) -> ModelCheck:
        """Load weights and configuration in a process of its own and say whether they belong together.

        A foreign file is never opened in the web server, and torch is never imported there.
        """
        command = [sys.executable, "-m", "segcore.models.check", str(weights)]
        if config is not None:
            command.append(str(config))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False)
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{weights.name} could not be checked within {CHECK_SECONDS} s.",
                "Try again when the machine is idle.",
            ) from error
        except ValueError as error:
            raise ModelError(
                f"{weights.name} cannot be read as a model.", "Choose a .pth file of a finished run."
            ) from error
        return ModelCheck(answer["ok"], answer["message"], answer["remedy"], answer["summary"])
