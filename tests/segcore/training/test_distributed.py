"""Two processes that share a batch train as one that has the whole of it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from teams import in_team, trained
from torch import Tensor
from trainings import config_for

from segcore.config import RunConfig
from segcore.config.loss import UNDIVIDED
from segcore.data.augment import AugmentOptions, draw
from segcore.data.dataset import load_training_data
from segcore.events import EpochEvent, unheard
from segcore.losses import LOSSES, build_loss
from segcore.models.unet import UNet
from segcore.training import steps
from segcore.training.averaging import WeightAverage
from segcore.training.distributed import Team, part_of
from segcore.training.run import build_run

STRIDES = ((1, 2, 2),)


def small_config(stack: Path, **training: Any) -> RunConfig:
    """Return options of twenty steps in float32 with the smallest network."""
    config = config_for(stack, epochs=5, **training)
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"features": 2, "layers": 1}),
            "hardware": config.hardware.model_copy(update={"precision": "fp32"}),
        }
    )


def checkpoint(folder: Path) -> dict[str, Any]:
    """Return the last checkpoint of a run."""
    content: dict[str, Any] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return content


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """Return the largest difference of any number; the names must be the same."""
    assert list(one) == list(two)
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def gradients_of_all(team: Team) -> list[tuple[str, float, float, float]]:
    """Return how far loss, gradients and statistics of a shared batch are from those of the whole one."""
    torch.manual_seed(0)
    found = []
    plane, solid = UNet(1, 3, 2, 1), UNet(1, 3, 2, 1, STRIDES)
    weights = (0.5, 1.0, 2.0)
    for name in sorted({*LOSSES, "0.3*dice+2*mae"} - set(UNDIVIDED)):
        network = solid if name == "dice+ce" else plane
        shape = (4, 32, 32) if network is plane else (4, 4, 16, 16)
        image, label = torch.randn(shape)[:, None], torch.randint(-1, 3, shape)
        label[:2] = -1  # one process has nothing that is annotated
        shared, whole = deepcopy(network).train(), deepcopy(network).train()
        step = team.trained(team.view(shared, torch.device("cpu")))
        own = slice(2 * team.rank, 2 * team.rank + 2)
        loss = build_loss(name, weights, team.total)(step(image[own]), label[own])
        loss.backward()
        expected = build_loss(name, weights)(whole(image), label)
        expected.backward()
        size = max(float(p.grad.abs().max()) for p in whole.parameters() if p.grad is not None)
        pairs = zip(shared.parameters(), whole.parameters(), strict=True)
        gradient = max(float((a.grad - b.grad).abs().max()) / size for a, b in pairs)  # type: ignore[operator]
        statistics = largest_difference(dict(shared.named_buffers()), dict(whole.named_buffers()))
        found.append((name, float((loss - expected).detach().abs()), gradient, statistics))
    return found


def test_loss_gradients_and_statistics_are_those_of_the_whole_batch() -> None:
    for found in in_team(gradients_of_all):
        for name, loss, gradient, statistics in found:
            assert loss < 2e-6, name
            assert gradient < 2e-5, name
            assert statistics < 1e-6, name


def recounted(team: Team) -> dict[str, Tensor]:
    """Return the statistics that an average counts anew, its batches shared."""
    from segcore.config import HardwareConfig
    from segcore.devices import choose

    torch.manual_seed(1)
    average = WeightAverage(UNet(1, 2, 2, 1), "swa")
    images = torch.randn(3, 4, 1, 16, 16)
    own = slice(2 * team.rank, 2 * team.rank + 2) if team.size == 2 else slice(0, 4)
    view = team.view(average.network, torch.device("cpu"))
    hardware = choose(HardwareConfig(device="cpu", precision="fp32"))
    average.recount((batch[own] for batch in images), hardware, [], view)
    return dict(average.network.named_buffers())


def test_an_average_counts_its_statistics_over_all_processes() -> None:
    alone = recounted(Team())
    for found in in_team(recounted):
        assert largest_difference(found, alone) < 1e-6


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "averaging": "ema"}])
def test_twenty_steps_of_two_processes_give_the_weights_of_one(
    stack: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = small_config(stack, **options)
    trained(Team(), config, tmp_path / "one")
    (_, told), (_, heard) = in_team(trained, config, tmp_path / "two")
    alone, shared = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    assert alone["step"] == shared["step"] == 20
    assert torch.equal(alone["random"]["run"], shared["random"]["run"])
    assert largest_difference(alone["network"], shared["network"]) < 1e-5
    for mine, theirs in zip(alone["history"], shared["history"], strict=True):
        for name in ("train_loss", "train_dice", "val_loss", "val_dice"):
            assert theirs[name] == pytest.approx(mine[name], abs=1e-4), name
    # Only the leader writes and speaks.
    assert sum(isinstance(event, EpochEvent) for event in told) == 5
    assert not heard


def gradients_in_pieces(team: Team, config: RunConfig, folder: Path) -> Tensor:
    """Return the gradients of a batch that every process computes patch by patch."""
    folder.mkdir(exist_ok=True)
    run = build_run(config, folder, load_training_data(config.data), unheard, team)
    run.view.eval()  # batch statistics are the one thing that a micro-batch cannot share
    image, label = steps.make_batch(run, torch.arange(4), run.state.generator)
    label[:1, :20] = -1
    if team.rank == 0:
        label[1] = -1
    if team.size == 1:
        label[2, :20] = -1
    run.state.micro_batch = 1
    steps._add_gradients(run, image, label)
    return torch.cat([weight.grad.flatten() for weight in run.state.network.parameters()])  # type: ignore[union-attr]


def test_gradients_of_micro_batches_add_up_over_processes(stack: Path, tmp_path: Path) -> None:
    config = small_config(stack, loss="ce")
    alone = gradients_in_pieces(Team(), config, tmp_path / "one")
    for shared in in_team(gradients_in_pieces, config, tmp_path / "two"):
        assert torch.allclose(shared, alone, rtol=1e-4, atol=1e-6)


def test_a_run_goes_on_with_another_number_of_devices(stack: Path, tmp_path: Path) -> None:
    config = small_config(stack)
    trained(Team(), config, tmp_path / "whole")
    expected = checkpoint(tmp_path / "whole")
    trained(Team(), config, tmp_path / "more", pause_at=7)
    in_team(trained, config, tmp_path / "more")
    (led, _), (followed, _) = in_team(trained, config, tmp_path / "fewer", 7)
    assert (led, followed) == (8, 0)  # the person's wish is asked for once, and obeyed by both
    half = checkpoint(tmp_path / "fewer")
    assert (half["step"], half["part"]["done"]) == (6, 2)
    trained(Team(), config, tmp_path / "fewer")
    for name in ("more", "fewer"):
        found = checkpoint(tmp_path / name)
        assert found["step"] == expected["step"]
        assert largest_difference(found["network"], expected["network"]) < 1e-5
        assert found["history"][1]["train_dice"] == pytest.approx(
            expected["history"][1]["train_dice"], abs=1e-4
        )


def test_shares_of_a_draw_are_the_draw() -> None:
    whole = draw(AugmentOptions(elastic=0.5, noise=0.5, blur=0.5), (8, 1, 32, 32), torch.Generator(), True)
    parts = [part_of(whole, slice(start, start + 4)) for start in (0, 4)]
    assert torch.equal(torch.cat([part.matrix_B22 for part in parts]), whole.matrix_B22)
    assert torch.equal(torch.cat([part.reversed_B for part in parts]), whole.reversed_B)
    for name in ("elastic", "noise", "blur"):
        entries = getattr(whole, name)
        joined = {
            4 * number + key: entry
            for number, part in enumerate(parts)
            for key, entry in getattr(part, name).items()
        }
        assert joined.keys() == entries.keys()
        assert all(joined[key] is entries[key] for key in entries)
