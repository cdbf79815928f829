"""The model registry as the app sees it; MLflow takes seconds to import, so it comes when first needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcore.errors import ModelError
from segcore.jobs.store import Job
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.models import ModelVersion, RegisteredModel

CHECK_SECONDS = 180


@dataclass(frozen=True)
class ModelCheck:
    """Whether a model file and its configuration belong together, and what the model is."""

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
        """Import MLflow and open its store; meant for a background thread after the page is up."""
        self.list()

    def list(self) -> list[RegisteredModel]:
        """Return the registered models with their versions and aliases, the newest first."""
        from segcore.tracking import models

        return models.list_models(self.workspace)

    def describe(self, reference: str) -> ModelVersion:
        """Return the version behind `models:/name@alias`; ModelError if it leads nowhere."""
        from segcore.tracking import models

        return models.describe(reference, self.workspace)

    def fetch(self, reference: str) -> Path:
        """Return a folder of this machine with weights and config.json of a registered model."""
        from segcore.tracking import models

        return models.fetch(reference, self.workspace)

    def register(self, job: Job, name: str, epoch: int | None = None) -> ModelVersion:
        """Register the model of a run, or one of its kept epochs, under `name`.

        The same model again returns the version it has.
        """
        from segcore.tracking import models

        return models.register(job, name, self.workspace, epoch)

    def set_alias(self, name: str, alias: str, version: int) -> ModelVersion:
        """Give `alias` to a version; another version that has it loses it."""
        from segcore.tracking import models

        return models.set_alias(name, alias, version, self.workspace)

    def remove_alias(self, name: str, alias: str) -> None:
        """Take `alias` away from the version that has it; ModelError if none has."""
        from segcore.tracking import models

        models.remove_alias(name, alias, self.workspace)

    def rollback(self, name: str, alias: str = "champion") -> ModelVersion:
        """Give `alias` back to the version that had it before."""
        from segcore.tracking import models

        return models.rollback(name, self.workspace, alias)

    def delete_version(self, name: str, version: int) -> None:
        """Remove a version from the registry; its run and its files stay. One with an alias is refused."""
        from segcore.tracking import models

        models.delete_version(name, version, self.workspace)

    def ui_url(self, run_id: str | None) -> str | None:
        """Return the address of a run's page in the MLflow UI, or None for a run MLflow does not know."""
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
                f"{weights.name} cannot be read as a model.", "Choose the model file of a finished run."
            ) from error
        return ModelCheck(answer["ok"], answer["message"], answer["remedy"], answer["summary"])
