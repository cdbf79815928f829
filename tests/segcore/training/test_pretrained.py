"""Runs whose encoder begins with weights made elsewhere: needed once, and told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from trainings import assert_same_state, config_for, run_in

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import RunConfig, build_config
from segcore.errors import ModelError
from segcore.events import Event, NoteEvent
from segcore.models.build import empty_model, random_model
from segcore.models.saved import save_state_dict
from segcore.models.smp_nets import build_smp
from segcore.training.transfer import first_weights

SMALL = "tu-lcnet_050"


def notes_of(events: list[Event]) -> str:
    """Return all notes in one text."""
    return " ".join(event.text for event in events if isinstance(event, NoteEvent))


def with_model(config: RunConfig, **model: Any) -> RunConfig:
    """Return the options with another network, and patches that suit it."""
    update = {
        "model": config.model.model_copy(update=model),
        "data": config.data.model_copy(update={"patch_size": 64}),
    }
    return config.model_copy(update=update)


def test_a_run_that_goes_on_needs_them_no_more(stack: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    encoder = build_smp(3, 2, "unet", SMALL).network.encoder
    save_file({name: tensor.clone() for name, tensor in encoder.state_dict().items()}, file)
    options = {"family": "unet-encoder", "encoder": SMALL, "pretrained": str(file), "freeze_encoder": True}
    config = with_model(config_for(stack), **options)
    events: list[Event] = []
    begun = run_in(tmp_path / "run", config, events.append)
    assert notes_of(events).count("Weights of") == 1
    assert "random weights" not in notes_of(events)
    begun.checkpoints.save()
    file.unlink()
    events.clear()
    assert_same_state(run_in(tmp_path / "run", config, events.append).state, begun.state)
    further = with_model(config_for(stack, continue_from=str(tmp_path / "run")), **options)
    run_in(tmp_path / "further", further, events.append)
    assert "Weights of" not in notes_of(events)
    with pytest.raises(ModelError, match="no weights at"):
        run_in(tmp_path / "new", config)


def test_a_family_that_has_no_use_for_them_says_so_and_stays_random(stack: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run_in(tmp_path / "run", with_model(config_for(stack), pretrained="imagenet"), events.append)
    assert notes_of(events).count("model.pretrained is imagenet, but a U-Net") == 1
    events.clear()
    frozen = with_model(config_for(stack), pretrained="imagenet", freeze_encoder=True)
    run_in(tmp_path / "frozen", frozen, events.append)
    assert "random weights" in notes_of(events)


def card_of(channels: int) -> ModelCard:
    """Describe a model for images of so many channels."""
    return ModelCard(
        channels=channels,
        class_values=(0, 1),
        class_names=("a", "b"),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes="ZCYX" if channels > 1 else "ZYX",
        dtype="uint8",
    )


@pytest.mark.parametrize("family", ["unet", "unet-residual", "dynunet", "swin-unetr"])
def test_all_that_sees_the_channels_is_new_where_there_are_others(family: str, tmp_path: Path) -> None:
    config = build_config(
        {
            "model": {"family": family, "features": 8, "layers": 2},
            "training": {"start_from": str(tmp_path)},
        }
    )
    torch.manual_seed(0)
    there = random_model(config.model, card_of(1)).state_dict()
    save_state_dict(there, tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, card_of(1))
    events: list[Event] = []
    weights = first_weights(config, card_of(3), events.append)(5)
    empty_model(config.model, card_of(3)).load_state_dict(weights, assign=True)
    assert "first convolution new" in notes_of(events)
    new = {name for name, tensor in weights.items() if tensor.shape != there[name].shape}
    assert new
    assert all(torch.equal(weights[name], there[name]) for name in weights.keys() - new)


def test_a_layer_that_differs_for_another_reason_is_refused(tmp_path: Path) -> None:
    config = build_config({"model": {"features": 8, "layers": 2}, "training": {"start_from": str(tmp_path)}})
    there = random_model(config.model, card_of(1)).state_dict()
    name = next(name for name in there if name.startswith("decoder") and there[name].ndim == 4)
    save_state_dict({**there, name: there[name][:, :3]}, tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, card_of(1))
    with pytest.raises(ModelError, match="1 of its"):
        first_weights(config, card_of(3), lambda event: None)
