"""Stages: what is frozen stays to the bit, and every stage learns at its own rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trainings import assert_same_state, config_for, run_in

from segcore.config import ModelConfig, TrainingConfig
from segcore.errors import ConfigError
from segcore.events import Request, unasked
from segcore.models.unet import UNet
from segcore.training.loop import fit
from segcore.training.optim import build_optimizer, freeze, frozen_parts, set_rate

CPU = torch.device("cpu")
RATE = 0.25


def rates(network: UNet, decay: float) -> dict[str, float]:
    """Return the rate of every weight that learns, by its name."""
    training = TrainingConfig(optimizer="gd", learning_rate=RATE, layer_decay=decay)
    optimizer = build_optimizer(network, training, CPU)
    set_rate(optimizer, RATE)
    names = {id(weight): name for name, weight in network.named_parameters()}
    groups = optimizer.param_groups
    found = {names[id(weight)]: group["lr"] for group in groups for weight in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    return found


def test_the_rate_falls_from_the_head_to_the_image_by_the_factor() -> None:
    network = UNet(1, 2, 4, 2)
    found = rates(network, 0.5)
    assert set(found) == {name for name, _ in network.named_parameters()}
    names = {id(weight): name for name, weight in network.named_parameters()}
    for number, (stage, part) in enumerate(reversed(network.stages())):
        assert {found[names[id(weight)]] for weight in part.parameters()} == {RATE * 0.5**number}, stage
    assert found["head.weight"] == RATE
    assert set(rates(network, 1.0).values()) == {RATE}


def test_a_frozen_head_leaves_the_full_rate_to_the_stage_before_it() -> None:
    network = UNet(1, 2, 4, 2)
    freeze(network, ModelConfig(freeze=["head"]))
    found = rates(network, 0.5)
    assert "head.weight" not in found
    assert max(found.values()) == RATE
    assert found["decoder.0.0.weight"] == RATE


def test_biases_and_normalisation_do_not_decay_in_any_stage() -> None:
    network = UNet(1, 2, 4, 2)
    optimizer = build_optimizer(network, TrainingConfig(layer_decay=0.7), CPU)
    for group in optimizer.param_groups:
        for weight in group["params"]:
            assert (group["weight_decay"] > 0) is (weight.ndim > 1)


def test_stages_are_frozen_by_name_by_kind_and_together_with_the_encoder() -> None:
    network = UNet(1, 2, 4, 2)
    stages = dict(network.stages())

    def frozen(**options: object) -> set[str]:
        # Lists of modules are made anew whenever stages are asked for: their weights are what is compared.
        weights = {
            id(weight)
            for part in frozen_parts(network, ModelConfig(**options))
            for weight in part.parameters()
        }
        return {
            name
            for name, part in stages.items()
            if all(id(weight) in weights for weight in part.parameters())
        }

    assert frozen() == set()
    assert frozen(freeze=["encoder 2"]) == {"encoder 2"}
    assert frozen(freeze=["encoder", " decoder  1"]) == {"encoder 1", "encoder 2", "decoder 1"}
    assert frozen(freeze_encoder=True) == {"encoder 1", "encoder 2", "bottom"}
    assert frozen(freeze_encoder=True, freeze=["head"]) == {"encoder 1", "encoder 2", "bottom", "head"}


def test_unknown_stages_and_nothing_that_learns_are_refused_with_the_way_out() -> None:
    network = UNet(1, 2, 4, 2)
    with pytest.raises(ConfigError, match=r"'encodr'.*encoder 1, encoder 2, bottom") as caught:
        frozen_parts(network, ModelConfig(freeze=["encodr"]))
    assert "encoder" in caught.value.remedy
    freeze(network, ModelConfig(freeze=["encoder", "bottom", "decoder", "head"]))
    with pytest.raises(ConfigError, match="Nothing of the network learns"):
        build_optimizer(network, TrainingConfig(), CPU)


def test_a_run_with_rates_by_stage_and_a_frozen_stage_goes_on_to_the_bit(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack, layer_decay=0.6, epochs=2)
    config = config.model_copy(update={"model": config.model.model_copy(update={"freeze": ["encoder 1"]})})
    whole = run_in(tmp_path / "whole", config)
    before = {name: tensor.clone() for name, tensor in whole.state.network.state_dict().items()}
    assert fit(whole, unasked) == "finished"
    after = whole.state.network.state_dict()
    same = {name for name in before if torch.equal(after[name], before[name])}
    assert same == {name for name in before if name.startswith("encoder.0.")}
    part = run_in(tmp_path / "part", config)
    assert fit(part, lambda: Request.PAUSE if part.state.step >= 5 else None) == "paused"
    resumed = run_in(tmp_path / "part", config)
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)


@pytest.mark.parametrize("change", [{"layer_decay": 0.5}, {}])
def test_a_run_with_other_rates_or_stages_is_not_continued(
    stack: Path, tmp_path: Path, change: dict[str, float]
) -> None:
    parent = run_in(tmp_path / "parent", config_for(stack, epochs=1))
    assert fit(parent, unasked) == "finished"
    config = config_for(stack, continue_from=str(tmp_path / "parent"), **change)
    if not change:
        config = config.model_copy(update={"model": config.model.model_copy(update={"freeze": ["head"]})})
    with pytest.raises(ConfigError, match="layer_decay differs" if change else r"model\.freeze differs"):
        run_in(tmp_path / "child", config)
