"""Models: a run's model gets a name, an alias moves and comes back, what is in use is not removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tabs_workspace import make_run, make_services

from app.services import Services
from app.session import Problem, attempt
from app.tabs import models
from segcore.errors import ModelError
from segcore.tracking.models import ModelVersion, RegisteredModel


class Shelf:
    """A registry in memory with the app registry's methods."""

    def __init__(self) -> None:
        self.versions: list[ModelVersion] = []
        self.history: list[int] = []

    def list(self) -> list[RegisteredModel]:
        """Return all versions under their one name."""
        return [RegisteredModel("unet", tuple(reversed(self.versions)))] if self.versions else []

    def register(self, job: Any, name: str) -> ModelVersion:
        """Add a version."""
        number = len(self.versions) + 1
        version = ModelVersion(
            name=name, version=number, aliases=(), run_id="r", job_id=job.id, session=job.session,
            created=1.7e9, val_dice=0.8, class_values=(0, 255), class_names=("a", "b"),
        )  # fmt: skip
        self.versions.append(version)
        return version

    def describe(self, reference: str) -> ModelVersion:
        """Find a version."""
        for version in self.versions:
            known = [version.reference, *(f"models:/{version.name}@{alias}" for alias in version.aliases)]
            if reference in known:
                return version
        raise ModelError(f"{reference} leads nowhere.", "Choose another.")

    def set_alias(self, name: str, alias: str, number: int) -> ModelVersion:
        """Move an alias."""
        self.versions = [
            ModelVersion(**{**vars(version), "aliases": (alias,) if version.version == number else ()})
            for version in self.versions
        ]
        self.history.append(number)
        return self.describe(f"models:/{name}/{number}")

    def remove_alias(self, name: str, alias: str) -> None:
        """Take an alias away."""
        self.versions = [ModelVersion(**{**vars(version), "aliases": ()}) for version in self.versions]

    def rollback(self, name: str, alias: str = "champion") -> ModelVersion:
        """Move an alias back."""
        if len(self.history) < 2:
            raise ModelError("No earlier version is known.", "Give the alias yourself.")
        del self.history[-1]
        return self.set_alias(name, alias, self.history.pop())

    def delete_version(self, name: str, number: int) -> None:
        """Remove a version."""
        self.versions.remove(self.describe(f"models:/{name}/{number}"))


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    services.models = Shelf()  # type: ignore[assignment]
    return services


def table(services: Services) -> list[list[str]]:
    return [line["cells"] for line in list(models.load(services))[-1][1]["rows"]]


def test_loading_says_so_first_and_then_what_there_is(services: Services) -> None:
    first, last = models.load(services)
    assert "Reading" in first[0]
    assert "No model is registered yet" in last[0]
    run = make_run(services)
    make_run(services, ())
    last = list(models.load(services))[-1]
    assert [value for _, value in last[2].choices] == [run.id]


def test_a_server_that_is_down_is_said_in_words(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[RegisteredModel]:
        raise ModelError("MLflow does not answer.", "Start the server.")

    monkeypatch.setattr(services.models, "list", refuse)
    status, value, *_ = list(models.load(services))[-1]
    assert "MLflow does not answer." in status
    assert "Start the server." in status
    assert value["rows"] == []


def test_register_champion_and_roll_back(services: Services) -> None:
    runs = [make_run(services), make_run(services)]
    for run in runs:
        models.register(services, run.id, " unet ")
    assert [(line[0], line[1], line[6]) for line in table(services)] == [
        ("unet", "2", runs[1].id), ("unet", "1", runs[0].id),
    ]  # fmt: skip
    models.set_alias(services, "unet/1", "champion")
    models.set_alias(services, "unet/2", "champion")
    assert [line[2] for line in table(services)] == ["champion", ""]
    assert "models:/unet@champion" in models.rollback_question(services, "unet/2", "champion")
    assert "version 1 again" in models.roll_back(services, "unet/2", "champion")
    assert [line[2] for line in table(services)] == ["", "champion"]


def test_an_alias_can_be_taken_away(services: Services) -> None:
    models.register(services, make_run(services).id, "unet")
    models.register(services, make_run(services).id, "unet")
    models.set_alias(services, "unet/1", "champion")
    # Of any version of the model: the question says which one has the alias.
    assert "models:/unet@champion is version 1" in models.taking_question(services, "unet/2", "champion")
    assert "leads nowhere" in models.take_alias(services, "unet/2", " champion ")
    assert [line[2] for line in table(services)] == ["", ""]
    with pytest.raises(ModelError):
        models.taking_question(services, "unet/1", "champion")


def test_removing_says_what_is_lost_and_spares_what_has_an_alias(services: Services) -> None:
    run = make_run(services)
    models.register(services, run.id, "unet")
    models.register(services, run.id, "unet")
    models.set_alias(services, "unet/1", "champion")
    question = models.removal_question(services, "unet/2")
    assert "models:/unet/2 leads nowhere" in question
    assert run.id in question
    with pytest.raises(ModelError, match="its champion"):
        models.removal_question(services, "unet/1")
    models.remove_version(services, "unet/2")
    assert [line[1] for line in table(services)] == ["1"]


@pytest.mark.parametrize("chosen", [None, "", "unet", "unet/x", "/"])
def test_nothing_chosen_is_said_and_never_raised_to_the_page(services: Services, chosen: str | None) -> None:
    for action in (models.remove_version, models.removal_question):
        problem = attempt(lambda action=action: action(services, chosen))
        assert isinstance(problem, Problem)
        assert problem.message == "No version is chosen."


@pytest.mark.parametrize("run", [None, ""])
def test_registering_needs_a_run(services: Services, run: str | None) -> None:
    with pytest.raises(ModelError, match="No run is chosen"):
        models.register(services, run, "unet")
