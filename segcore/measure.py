"""Measures how fast this machine trains: `python -m segcore.measure WORKSPACE`."""

from __future__ import annotations

import sys
import time

import torch
from torch import nn

from segcore.config import HardwareConfig
from segcore.devices import Hardware, choose
from segcore.estimate import Machine, Network, record_speed, unet_macs
from segcore.losses import build_loss
from segcore.models.saved import place
from segcore.models.unet import UNet
from segcore.workspace import Workspace

FEATURES, LAYERS, PATCH, BATCH = 32, 4, 64, 8
SECONDS = 2.0


def measure_machine(workspace: Workspace, seconds: float = SECONDS) -> Machine | None:
    """Train a small U-Net on noise for about `seconds` and remember the speed.

    Parameters
    ----------
    workspace : Workspace
        Where to remember it.
    seconds : float
        Duration of the measurement, after a first step that prepares the kernels.
    """
    hardware = choose(HardwareConfig())
    network = place(UNet(1, 2, FEATURES, LAYERS), hardware)
    optimizer = torch.optim.AdamW(network.parameters())
    image_BCYX = torch.randn(BATCH, 1, PATCH, PATCH, device=hardware.device)
    target_BYX = (image_BCYX[:, 0] > 0).long()
    _step(network, optimizer, hardware, image_BCYX, target_BYX)
    began = time.monotonic()
    durations: list[float] = []
    while time.monotonic() - began < seconds or not durations:
        start = time.monotonic()
        _step(network, optimizer, hardware, image_BCYX, target_BYX)
        durations.append(time.monotonic() - start)
    # The lower quartile: what else the machine does for a moment is not its speed.
    speed = BATCH / sorted(durations)[len(durations) // 4]
    macs = unet_macs(Network(FEATURES, LAYERS), (PATCH, PATCH))
    return record_speed(workspace, hardware.describe(), speed, macs)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    hardware: Hardware,
    image_BCYX: torch.Tensor,
    target_BYX: torch.Tensor,
) -> None:
    with hardware.autocast():
        logits_BKYX = network(image_BCYX)
    loss = build_loss("dice+ce")(logits_BKYX, target_BYX)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    loss.item()  # waits for the device: a queued step is not a finished one


if __name__ == "__main__":
    measure_machine(Workspace.open(sys.argv[1] if len(sys.argv) > 1 else None))
