"""Training speed: the engine's own loop beside plain PyTorch, MONAI and nnU-Net, and beside the machine."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import OURS, Contest, Contestant, hold
from benchmarks.material import Material
from benchmarks.trainee import Recipe, Trainee, taking_turns
from segcore.config import build_config
from segcore.data.dataset import TrainingData
from segcore.devices import Hardware, choose
from segcore.events import Event, Request
from segcore.models.build import build_model
from segcore.training.context import Run
from segcore.training.epochs import train_epoch
from segcore.training.run import build_run

TITLE = "Training"
PEERS = {
    "plain PyTorch": "benchmarks.plain_trainee:PlainTrainee",
    "MONAI": "benchmarks.monai_trainee:MonaiTrainee",
    "nnU-Net": "benchmarks.nnunet_trainee:NnunetTrainee",
}
MATRIX = 2048
"""Rows and columns of the matrices whose product measures what the machine can do."""
PRODUCT = "matrix product"


def compare(
    material: Material, options: dict[str, Any], *, rounds: int, seconds: float, peers: tuple[str, ...] = ()
) -> Contest:
    """Measure patches per second of ours and of the peers with the same patch, batch and widths."""
    config = build_config(options)
    data, model, hardware = config.data, config.model, choose(config.hardware)
    recipe = Recipe(
        data.patch_size, config.training.batch_size, model.features, model.layers, str(hardware.device)
    )
    waits: list[float] = []
    with TemporaryDirectory() as folder:
        run = build_run(config, Path(folder), material.data, _ignore)
        trainees = meet(material.data, recipe, peers or tuple(PEERS))
        contestants = {OURS: ours(run, waits)}
        contestants |= {name: taking_turns(trainee, recipe.batch) for name, trainee in trainees.items()}
        contestants[PRODUCT] = matrix_product(hardware)
        try:
            rates = hold(contestants, rounds=rounds, seconds=seconds)
        finally:
            for trainee in trainees.values():
                trainee.close()
    setting = (
        f"{material.name}, patch {recipe.patch}, batch {recipe.batch}, "
        f"{model.features} features, {model.layers} layers"
    )
    product = median(rates.pop(PRODUCT))
    flops = flops_per_patch(material.data, recipe)
    reached = median(rates[OURS]) * flops
    facts = (
        f"{reached / 1e9:.0f} GFLOP/s = {reached / product:.0%} of the {MATRIX}² matrix product in the same "
        f"number format, {product / 1e9:.0f}; waits for data {median(waits):.1%} of the time"
    )
    return Contest(TITLE, setting, "patches/s", rates, facts)


def meet(data: TrainingData, recipe: Recipe, names: tuple[str, ...]) -> dict[str, Trainee]:
    """Return the peers that are installed (`benchmarks/requirements.txt`); say which are not."""
    trainees: dict[str, Trainee] = {}
    for name in names:
        module, kind = PEERS[name].split(":")
        try:
            trainees[name] = getattr(import_module(module), kind)(data, recipe)
        except ModuleNotFoundError as error:
            print(f"{name} does not take part: {error}. See benchmarks/requirements.txt.", flush=True)
    return trainees


def ours(run: Run, waits: list[float]) -> Contestant:
    """Return the engine's loop as it is in every training; notes the share of time it waits for data."""

    def work(seconds: float) -> float:
        began, first = time.monotonic(), run.state.step
        deadline = began + seconds

        def asked() -> Request | None:
            return Request.PAUSE if time.monotonic() > deadline else None

        while time.monotonic() <= deadline:
            train_epoch(run, asked)
            if run.state.part:
                float(run.state.part.loss_sum)  # waits for the device
            run.state.part = None  # the next epoch, without the validation in between
        waits.append(run.usage.loader_wait)
        steps, spent = run.state.step - first, time.monotonic() - began
        return steps * run.config.training.batch_size / spent

    return work


def matrix_product(hardware: Hardware) -> Contestant:
    """Return a contestant that multiplies matrices in the number format of the training: FLOP per second."""
    a, b = (torch.randn(MATRIX, MATRIX, device=hardware.device, dtype=hardware.dtype) for _ in range(2))

    def wait() -> None:
        if hardware.device.type == "cuda":
            torch.cuda.synchronize()

    def work(seconds: float) -> float:
        rates = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds / 4:
            start = time.perf_counter()
            for _ in range(10):
                torch.mm(a, b)
            wait()
            rates.append(20 * MATRIX**3 / (time.perf_counter() - start))
        return median(rates)

    return work


def flops_per_patch(data: TrainingData, recipe: Recipe) -> float:
    """Return the operations that convolutions need for one patch, forwards and backwards."""
    options = {"model": {"features": recipe.features, "layers": recipe.layers}}
    with torch.device("meta"):
        network = build_model(build_config(options).model, data.channels, len(data.class_values))
        image = torch.empty(1, data.channels, recipe.patch, recipe.patch)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    return float(counter.get_total_flops())


def _ignore(event: Event) -> None:
    """Take an event and tell nobody."""
