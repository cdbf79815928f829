"""Averages of the weights: what they are, when they begin, and that they are what is validated and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from trainings import config_for, run_in

from segcore.events import unasked
from segcore.models.unet import UNet
from segcore.training.averaging import SWA_START, WeightAverage
from segcore.training.loop import fit
from segcore.training.optim import frozen_parts
from segcore.training.steps import statistics_images


def set_weights(network: nn.Module, value: float) -> None:
    """Make every weight the same number."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def averaged(kind: str, values: list[float]) -> float:
    """Return the average of weights that took these values, one a step."""
    network = UNet(1, 2, 2, 2)
    average = WeightAverage(network, kind)
    for value in values:
        set_weights(network, value)
        average.update()
    numbers = torch.cat([parameter.flatten() for parameter in average.network.parameters()])
    assert numbers.min() == numbers.max()
    return numbers[0].item()


def test_swa_is_the_plain_mean_of_all_steps() -> None:
    assert averaged("swa", [1.0, 2.0, 3.0, 10.0]) == pytest.approx(4.0)


def test_ema_forgets_the_start_and_follows_slowly() -> None:
    assert averaged("ema", [100.0] + [1.0] * 200) == pytest.approx(1.0, abs=0.01)
    steps = averaged("ema", [0.0] * 200 + [1.0] * 10)
    assert 0 < steps < 1
    assert averaged("ema", [7.0]) == 7.0


def test_the_average_leaves_the_trained_network_alone() -> None:
    network = UNet(1, 2, 2, 2)
    average = WeightAverage(network, "ema")
    set_weights(network, 3.0)
    average.update()
    assert all((parameter == 3.0).all() for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("averaging", ["ema", "swa"])
def test_the_averaged_network_is_validated_and_kept(stack: Path, tmp_path: Path, averaging: str) -> None:
    folder = tmp_path / "run"
    config = config_for(stack, averaging=averaging, epochs=6, keep_every=6, learning_rate=2e-3)
    run = run_in(folder, config)
    fit(run, unasked)
    average = run.state.average
    assert average is not None
    assert run.validator.predictor.network is average.network
    kept = torch.load(folder / "checkpoints" / "epoch-0006.pth", weights_only=True)
    assert all(torch.equal(kept[name], tensor) for name, tensor in average.network.state_dict().items())
    assert not torch.equal(kept["head.weight"], run.state.network.head.weight)


def test_swa_averages_the_last_quarter_at_a_steady_rate(stack: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", config_for(stack, averaging="swa", epochs=8))
    rates = []
    fit(run, lambda: rates.append(run.rate))  # type: ignore[arg-type,func-returns-value]
    assert run.state.average is not None
    assert run.state.average.count == run.state.step * (1 - SWA_START)
    last = rates[-run.state.average.count :]
    assert max(last) == min(last) > 0


def test_batch_statistics_are_those_of_the_averaged_weights_and_disturb_no_random_number(
    stack: Path, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "run", config_for(stack, averaging="swa"))
    average, generator = run.state.average, run.state.generator
    assert average is not None
    before = generator.get_state()
    images = list(statistics_images(run))
    average.recount(images, run.hardware, [])
    assert torch.equal(generator.get_state(), before)
    with torch.no_grad():
        first = average.network.encoder[0][0](torch.cat(images))
    statistics = average.network.encoder[0][1].running_mean
    assert torch.allclose(statistics, first.mean((0, 2, 3)), rtol=0.05, atol=0.02)
    assert not average.network.encoder[0][1].training


def test_frozen_parts_keep_their_batch_statistics(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack, averaging="swa")
    config = config.model_copy(update={"model": config.model.model_copy(update={"freeze_encoder": True})})
    run = run_in(tmp_path / "run", config)
    average = run.state.average
    assert average is not None
    before = {name: tensor.clone() for name, tensor in average.network.named_buffers()}
    average.recount(statistics_images(run), run.hardware, frozen_parts(average.network, config.model))
    changed = {
        name for name, tensor in average.network.named_buffers() if not torch.equal(tensor, before[name])
    }
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
