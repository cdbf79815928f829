"""Run: everything the loop works with, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import dropwhile
from math import ceil
from pathlib import Path

from torch import Tensor

from segcore.config import RunConfig
from segcore.data.augment import AugmentOptions
from segcore.data.patches import Patches
from segcore.devices import Hardware
from segcore.events import Reporter, Request
from segcore.memory import MemoryGuard
from segcore.postprocess.heads import InstanceHead
from segcore.tasks import Task, build_task
from segcore.training.adversary import contested
from segcore.training.ahead import Ahead
from segcore.training.autopilot import Autopilot
from segcore.training.averaging import SWA_START
from segcore.training.checkpoints import Checkpoints
from segcore.training.distributed import Team
from segcore.training.schedules import plateau_drops, rate_factor
from segcore.training.state import TrainState
from segcore.training.teaching import Lesson
from segcore.training.tuning import Compiled, compiles
from segcore.training.usage import Usage
from segcore.training.validation import Validator

_REQUESTS = list(Request)


@dataclass
class Run:
    """A training run: what changes is in `state`, the rest is fixed."""

    config: RunConfig
    folder: Path
    hardware: Hardware
    pool: Patches
    validator: Validator
    state: TrainState
    report: Reporter
    class_values: tuple[int, ...]
    checkpoints: Checkpoints
    autopilot: Autopilot | None
    first_weights: Callable[[int], dict[str, Tensor]]
    """From a seed to the weights a run begins with."""
    preview: Callable[[int], None]
    """Saves what the network predicts after an epoch, for people to look at; never fails."""
    weights: tuple[float, ...] | None = None
    """How much every class counts in the loss; None: all the same."""
    head: InstanceHead | None = None
    """Of a run that learns objects."""
    began: float = field(default_factory=time.monotonic)
    """When this process took up the run."""
    guard: MemoryGuard = field(default_factory=MemoryGuard)
    ahead: Ahead = field(default_factory=Ahead)
    team: Team = field(default_factory=Team)
    """The processes that train together; usually this one alone."""
    lesson: Lesson | None = None
    """What is learned from a teacher, if there is one."""

    def __post_init__(self) -> None:
        data = self.config.data
        self.patch_count = len(self.pool) * data.patches_per_image
        self.patch_shape = self.lesson.shape(self.pool.shape) if self.lesson else self.pool.shape
        """Shape of the image of a patch as the network sees it."""
        self.steps_per_epoch = -(-self.patch_count // self.config.training.batch_size)
        self.options = AugmentOptions() if data.augmentation else AugmentOptions.off()
        self.usage = Usage(self.hardware)
        self.view = self.team.view(self.state.network, self.hardware.device)
        """The network of the state with the batch statistics of all processes."""
        self.network = self.team.trained(self.view)
        training = self.config.training
        steps = self.steps_per_epoch * training.epochs
        whole = self.config.model.kind.own_loss  # objects are matched by code that no compiler reads
        if not whole and compiles(training.compile, steps, self.hardware, self.team.size):
            self.network = Compiled(self.network, self.report)
        """What a step calls; its weights are those of the network of the state."""
        self._earlier = self._told = self.state.seconds
        self.follow_treatment()

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch, those of the run it continues included."""
        return self.state.first_epoch + self.config.training.epochs

    @property
    def seconds(self) -> float:
        """Wall time spent on the run, earlier processes included; of several, the leader's as last told.

        Rate, averaging and the end of the run may depend on it, and must be the same in all processes.
        """
        return self._told if self.team.size > 1 else self._clock

    @property
    def _clock(self) -> float:
        return self._earlier + time.monotonic() - self.began

    @property
    def budget(self) -> float:
        """Seconds the run may take in all."""
        minutes = self.config.training.max_minutes
        return float("inf") if minutes is None else 60 * minutes

    @property
    def training_left(self) -> float:
        """Seconds of the budget left for training, the closing validation kept aside."""
        return self.budget - self.seconds - self.validator.expected_seconds

    @property
    def progress(self) -> float:
        """Share of the schedule that is done: by steps or by time, whichever is further."""
        phase = self.state.phase
        steps = self.steps_per_epoch * (self.last_epoch - phase.epoch)
        by_steps = (self.state.step - phase.step) / max(1, steps)
        by_time = (self.seconds - phase.seconds) / max(1e-9, self.budget - phase.seconds)
        return max(by_steps, by_time)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        training, treatment = self.config.training, self.state.treatment
        warm_up = training.warm_up if treatment.warm_up is None else treatment.warm_up
        progress = self.progress
        if training.averaging == "swa":
            # An average gains from weights that still move: the rate stays where it is when averaging begins.
            progress = min(progress, SWA_START)
        factor = treatment.rate_factor * rate_factor(training, progress, warm_up, self._drops)
        return training.learning_rate * factor

    @property
    def _drops(self) -> int:
        """How many times the score has stood still since the schedule began; the history tells."""
        if self.config.training.schedule != "plateau":
            return 0
        since = self.state.phase.epoch
        scores = [event.val_score for event in self.state.history if event.epoch > since]
        if self.config.model.learns_objects:  # none is found for many epochs
            scores = list(dropwhile(lambda score: score == 0, scores))
        return plateau_drops(self.config.training, scores)

    @property
    def clipping(self) -> float:
        """Largest norm of the gradient, 0 if it is not clipped."""
        asked, treated = self.config.training.gradient_clipping, self.state.treatment.clipping
        return treated if treated is not None else asked

    @property
    def planned_epochs(self) -> int:
        """How many epochs there will be: fewer than asked for where the time budget ends first."""
        done = self.state.epoch
        if self.training_left <= 0:
            return done
        seconds_each = self.seconds / max(1, done - self.state.first_epoch)
        in_budget = done + ceil(min(self.training_left / seconds_each, self.last_epoch))
        return min(self.last_epoch, max(done + 1, in_budget))

    def follow_treatment(self) -> None:
        """Train and validate with the loss that the autopilot chose, if it chose one."""
        loss = self.state.treatment.loss
        task = build_task(self.config, loss, self.weights, self.team.total, self.head)
        self.task: Task = self.lesson.task(task) if self.lesson else task
        if self.state.adversary:
            self.task = contested(self.task, self.state.adversary, self.team.total)
        self.validator.task = build_task(self.config, loss, self.weights, head=self.head)

    def listen(self, asked: Callable[[], Request | None]) -> Request | None:
        """Return what somebody asks of the leader; all processes hear it, and its time, at the same step."""
        if self.team.size == 1:
            return asked()

        def heard() -> tuple[float, float]:
            request = asked()
            return (-1 if request is None else _REQUESTS.index(request)), self._clock

        number, self._told = self.team.lead_numbers(heard)
        return None if number < 0 else _REQUESTS[int(number)]

    def save(self, demand: bool = False) -> None:
        """Save the state of the run, see `Checkpoints.save`."""
        self.state.seconds = self.seconds
        self.checkpoints.save(demand)
