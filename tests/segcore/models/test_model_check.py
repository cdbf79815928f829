"""The check of a model file: what it is, or why it cannot be used, never an exception."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import build_config
from segcore.models.build import build_model
from segcore.models.check import check_model
from segcore.models.saved import save_weights

CARD = ModelCard(
    channels=2,
    class_values=(0, 7),
    class_names=("outside", "inside"),
    normalization=Normalization(kind="none", offset=(0.0, 0.0), scale=(1.0, 1.0)),
    axes="CZYX",
    dtype="uint8",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Save an untrained model with its configuration."""
    config = build_config({"session": "check", "model": {"features": 4, "layers": 2}})
    save_weights(build_model(config.model, 2, 2), tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, CARD)
    return tmp_path / "best_model.pth"


def test_a_good_model_is_described(model: Path) -> None:
    answer = check_model(model)
    assert answer["ok"]
    assert answer["summary"]["channels"] == 2
    assert answer["summary"]["class_values"] == [0, 7]
    assert "4 features and 2 layers" in answer["message"]


def test_a_configuration_of_another_model_is_told(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    write_config(other, build_config({"model": {"features": 8, "layers": 2}}), CARD)
    answer = check_model(model, other)
    assert not answer["ok"]
    assert answer["message"].startswith("The model file does not belong to this configuration")
    assert answer["remedy"]


def test_options_without_a_model_are_told(model: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.json"
    write_config(plain, build_config({}))
    answer = check_model(model, plain)
    assert not answer["ok"]
    assert "does not describe a trained model" in answer["message"]


def test_the_command_answers_in_json(tmp_path: Path) -> None:
    text = tmp_path / "text.pth"
    text.write_text("no model")
    (tmp_path / "text.json").write_text("{}")
    command = [sys.executable, "-m", "segcore.models.check", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert not answer["ok"]
    assert "Traceback" not in done.stderr
