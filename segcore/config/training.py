"""Options of the training: batches, rate, length, loss, and what happens when it goes wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator

from segcore.config.loss import LOSS_MENU, UNDIVIDED, parse_loss
from segcore.config.option import REGION_PATTERN, Section, option
from segcore.errors import ConfigError


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
    loss: str = option(
        "dice+ce",
        "What the network minimises: one loss, or a sum with weights such as 0.7*dice+0.3*focal.",
        label="Loss",
        form="more",
        choices=LOSS_MENU,
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
    adversarial: float = option(
        0.0,
        "Weight in the loss of a second network that learns to tell predictions from annotations; 0 leaves "
        "it out.",
        label="Adversarial term",
        form="more",
        ge=0,
        le=10,
    )
    optimizer: Literal["adamw", "adam", "radam", "lamb", "sgd", "gd"] = option(
        "adamw",
        "Optimizer: AdamW, Adam, RAdam, LAMB, SGD with Nesterov momentum 0.9, or plain gradient descent.",
        label="Optimizer",
        form="more",
    )
    schedule: Literal["cosine", "constant", "polynomial", "step", "one-cycle", "plateau"] = option(
        "cosine",
        "Learning rate over the run: cosine, constant, polynomial, in steps, one cycle up and down, or lower "
        "whenever the validation Dice stands still.",
        label="Schedule",
        form="more",
    )
    schedule_steps: int = option(
        2,
        "How many times the schedule in steps lowers the learning rate, evenly over the run.",
        label="Steps",
        form="more",
        ge=1,
        le=20,
    )
    schedule_factor: float = option(
        0.1,
        "By what the learning rate is multiplied at every step, or where the validation Dice stands still.",
        label="Factor of a step",
        form="more",
        gt=0,
        lt=1,
    )
    schedule_patience: int = option(
        10,
        "Epochs without gain in validation Dice after which the plateau schedule lowers the learning rate.",
        label="Patience of the plateau",
        unit="epochs",
        form="more",
        ge=1,
    )
    warm_up: float = option(
        0.03,
        "Share of the run in which the learning rate rises from zero.",
        label="Warm-up",
        form="more",
        ge=0,
        le=0.5,
    )
    layer_decay: float = option(
        1.0,
        "Factor by which the learning rate falls from every stage of the network to the one before it, the "
        "head having the full rate; 1 gives all the same.",
        label="Rate from stage to stage",
        form="more",
        gt=0,
        le=1,
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
    teacher: str | None = option(
        None,
        "What the network learns from beside annotations: a trained model (a run folder, a .pth file, "
        "models:/name@alias or a described file of another program), or a folder of masks of data.images "
        "that were made elsewhere.",
        label="Teacher",
        form="more",
    )
    distill: Literal["hard", "soft", "both"] = option(
        "both",
        "hard: the teacher's classes are labels where nobody annotated. soft: its probabilities, everywhere. "
        "both: annotations and its classes for one part, its probabilities for the other.",
        label="Learn from the teacher",
        form="more",
    )
    teacher_weight: float = option(
        0.5,
        "Share of the teacher's probabilities in the loss, where both count.",
        label="Weight of the teacher",
        form="more",
        gt=0,
        le=1,
    )
    temperature: float = option(
        2.0,
        "How much the probabilities of teacher and student are levelled before they are compared; 1 leaves "
        "them as they are.",
        label="Temperature",
        form="more",
        ge=1,
        le=20,
    )
    confidence: float = option(
        0.0,
        "Where the teacher's highest probability is below this, it has no say.",
        label="Confidence of the teacher",
        form="more",
        ge=0,
        lt=1,
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

    @field_validator("loss", mode="after")
    @classmethod
    def _loss_is_known(cls, value: str) -> str:
        try:
            parse_loss(value)
        except ConfigError as error:
            raise ValueError(f"training.loss: {error}") from error
        return "".join(value.split())

    @model_validator(mode="after")
    def _goes_together(self) -> TrainingConfig:
        undivided = [term.name for term in parse_loss(self.loss) if term.name in UNDIVIDED]
        if undivided and self.devices * self.num_nodes > 1:
            raise ValueError(
                f"training.loss {self.loss} needs all pixels of a batch at once: {undivided[0]} sorts them, "
                "so several devices cannot share a batch. Use one device, or another loss."
            )
        if self.teacher and self.devices * self.num_nodes > 1:
            raise ValueError(
                "training.teacher works with one device only. Use training.devices 1, or leave the teacher "
                "out."
            )
        if self.teacher and self.adversarial:
            raise ValueError(
                f"training.adversarial is {self.adversarial:g}, but a network that learns from a teacher "
                "faces no adversary. Set it to 0, or leave training.teacher out."
            )
        if self.schedule == "plateau" and 0 < self.patience <= self.schedule_patience:
            raise ValueError(
                f"training.patience {self.patience} ends the run before the plateau schedule lowers the "
                f"rate, after {self.schedule_patience} epochs. Use a larger training.patience, or a smaller "
                "training.schedule_patience."
            )
        return self
