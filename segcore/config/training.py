"""Options of the training: batches, rate, length, loss, and what happens when it goes wrong."""

from __future__ import annotations

from typing import Literal

from segcore.config.option import REGION_PATTERN, Section, option


class TrainingConfig(Section):
    """How the network learns."""

    batch_size: Literal[1, 2, 4, 8, 16, 32] = option(
        8,
        "Patches the network sees at once.",
        label="Batch size",
        form=[1, 2, 4, 8, 16, 32],
    )
    learning_rate: float = option(
        1e-3,
        "Size of the steps the optimizer takes.",
        label="Learning rate",
        form={"min": 1e-5, "max": 2e-3, "step": 1e-5},
        gt=0,
        le=100,
    )
    epochs: int = option(
        100,
        "Passes over the training slices.",
        label="Epochs",
        form={"min": 10, "max": 500, "step": 1},
        ge=1,
    )
    max_minutes: float | None = option(
        None,
        "Time budget: training ends within it, and the learning-rate schedule adapts to it.",
        label="Time budget",
        unit="min",
        form="more",
        gt=0,
    )
    loss: Literal["dice+ce", "dice", "ce", "focal", "tversky", "generalised-dice", "ce+border"] = option(
        "dice+ce",
        "What the network minimises: Dice + cross-entropy, either alone, focal, Tversky or generalised Dice "
        "loss, or cross-entropy that counts more between close objects.",
        label="Loss",
        form="more",
    )
    class_weights: Literal["none", "inverse", "square-root", "median-frequency", "by-hand"] = option(
        "none",
        "How much a pixel of every class counts in the loss: all the same, by the inverse of the class's "
        "share, by the square root of that, by median frequency, or as training.class_weight_values says.",
        label="Class weights",
        form="more",
    )
    class_weight_values: list[float] = option(
        [],
        "Weights by hand, in ascending order of the label values.",
        label="Weights by hand",
        form="more",
    )
    optimizer: Literal["adamw", "adam", "sgd"] = option(
        "adamw",
        "Optimizer: AdamW, Adam, or SGD with Nesterov momentum 0.9.",
        label="Optimizer",
        form="more",
    )
    schedule: Literal["cosine", "constant"] = option(
        "cosine",
        "Learning rate over the run: cosine with a short warm-up, or constant.",
        label="Schedule",
        form="more",
    )
    warm_up: float = option(
        0.03,
        "Share of the run in which the learning rate rises from zero.",
        label="Warm-up",
        form="more",
        ge=0,
        le=0.5,
    )
    gradient_clipping: float = option(
        0.0,
        "Longest step the gradient may ask for (norm over all weights); 0 does not clip.",
        label="Gradient clipping",
        form="more",
        ge=0,
    )
    averaging: Literal["none", "ema", "swa"] = option(
        "none",
        "Validate and keep the average of the weights instead of the last ones. ema: running average with "
        "forgetting; swa: plain average over the last quarter of the run.",
        label="Weight averaging",
        form="more",
    )
    micro_batch: int | None = option(
        None,
        "Patches computed at once, where a whole batch does not fit into memory: gradients are added up "
        "over the batch.",
        label="Micro-batch",
        form="more",
        ge=1,
    )
    compile: Literal["auto", "on", "off"] = option(
        "auto",
        "Let torch.compile build kernels for this network; auto does it where the run is long enough to pay "
        "for it.",
        label="Compile",
        form="more",
    )
    devices: int = option(
        1,
        "Devices of every host that train together; every one computes an equal share of the batch.",
        label="Devices",
        form="more",
        ge=1,
        le=64,
    )
    num_nodes: int = option(
        1,
        "Hosts that train together, each started with torchrun or by SLURM.",
        label="Hosts",
        form="more",
        ge=1,
        le=1024,
    )
    patience: int = option(
        0,
        "Stop early after so many epochs without gain in validation Dice; 0 never stops early.",
        label="Patience",
        unit="epochs",
        form="more",
        ge=0,
    )
    min_gain: float = option(
        0.001,
        "Rise of the validation Dice that counts as a gain.",
        label="Minimum gain",
        form="more",
        ge=0,
        lt=1,
    )
    repeats: int = option(
        1,
        "Train so many times with successive seeds; the results come with mean and spread.",
        label="Repeats",
        form="more",
        ge=1,
        le=20,
    )
    autopilot: bool = option(
        True,
        "Notice a training that diverges or learns nothing, say why, and start it again more gently, "
        "three times at most.",
        label="Autopilot",
        form="more",
    )
    start_from: str | None = option(
        None,
        "Begin with the weights of this model instead of random ones: a run folder, a .pth file or "
        "models:/name@alias.",
        label="Start from model",
        form="hidden",
    )
    continue_from: str | None = option(
        None,
        "Go on with this finished run (its folder) for `epochs` more epochs: weights, optimizer and random "
        "numbers are taken over.",
        label="Continue run",
        form="hidden",
    )
    seed: int = option(
        0,
        "Start of all random numbers: the same seed gives the same run on the same machine's CPU.",
        label="Seed",
        form="more",
        ge=0,
        le=2**31 - 1,
    )
    checkpoint_minutes: float = option(
        2.0,
        "How often the state of the run is saved, so that it can go on after a crash.",
        label="Checkpoint every",
        unit="min",
        form="more",
        gt=0,
    )
    keep_every: int = option(
        0,
        "Keep the weights of every n-th epoch, to look at and choose from afterwards; 0 keeps only the best.",
        label="Keep every n-th epoch",
        unit="epochs",
        form="more",
        ge=0,
    )
    feedback_region: str | None = option(
        None,
        "Part of a slice whose prediction is saved after every epoch: slice, row, column, height and width, "
        "counted from 0, for example 3,0,128,256,256; by default one is chosen.",
        label="Feedback region",
        form="hidden",
        pattern=REGION_PATTERN,
    )
    auto_resume: bool = option(
        True,
        "Go on from the last checkpoint by itself after a crash or a restart of the machine.",
        label="Resume by itself",
        form="more",
    )
