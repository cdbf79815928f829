"""RunConfig: every option of a run, once. Form, CLI, help, `config.json` and MLflow params come from it."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import Field, ValidationError, model_validator

from segcore.config.data import DataConfig
from segcore.config.inference import HardwareConfig, InferenceConfig, NotifyConfig
from segcore.config.model import ModelConfig
from segcore.config.option import SESSION_PATTERN, Section, explain
from segcore.config.training import TrainingConfig
from segcore.errors import ConfigError
from segcore.families import Facts


class RunConfig(Section):
    """All options of a training or a segmentation."""

    session: str = Field(
        default_factory=lambda: date.today().isoformat(),
        description="Name under which runs are grouped; the MLflow experiment.",
        json_schema_extra={"label": "Session", "form": None, "unit": ""},
        pattern=SESSION_PATTERN,
    )
    data: DataConfig = Field(default_factory=DataConfig, description="Images, labels, patches.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How it learns.")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="How it is applied.")
    hardware: HardwareConfig = Field(default_factory=HardwareConfig, description="Where it is computed.")

    notify: NotifyConfig = Field(default_factory=NotifyConfig, description="Who is told at the end.")

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        """Refuse options that do not go together, all of them at once: a line each."""
        if problems := [*self._obstacles(), *self._against_objects(), *self._against_own_loss()]:
            raise ValueError("\n".join(problems))
        return self

    def _obstacles(self) -> list[str]:
        """Return why the family cannot work: the first reason, for the others may vanish with it."""
        data, model = self.data, self.model
        layers = model.like[1]
        facts = Facts(
            data.mode,
            data.patch_size,
            layers,
            data.context_slices,
            model.encoder,
            model.features,
            model.head,
        )
        return [obstacle.text for obstacle in model.kind.obstacles(facts)[:1]]

    def _against_objects(self) -> list[str]:
        """Return what does not go with objects that are learned one by one."""
        if not self.model.learns_objects:
            return []
        head, labels_as, weights = self.model.head, self.data.labels_as, self.training.class_weights
        found = []
        if labels_as != "objects":
            found.append(
                f"model.head {head} learns objects, but data.labels_as is {labels_as}. Read labels as "
                "objects, if every object has its own number, or choose the head semantic."
            )
        if weights != "none":
            found.append(
                f"training.class_weights is {weights}, but model.head {head} learns objects of one class. "
                "Use none."
            )
        if self.training.teacher:
            found.append(
                f"training.teacher tells classes of pixels, but model.head {head} learns objects one by one. "
                "Leave the teacher out, or choose the head semantic."
            )
        if self.training.adversarial:
            found.append(
                f"training.adversarial is {self.training.adversarial:g}, but model.head {head} learns "
                "objects: only classes of pixels face an adversary. Set it to 0, or choose the head semantic."
            )
        if any(one.use == "teach" for one in self.data.sets):
            found.append(
                f"model.head {head} learns objects one by one, but data.sets has images for which a teacher "
                "answers, who tells classes of pixels. Leave these sets out, or choose the head semantic."
            )
        return found

    def _against_own_loss(self) -> list[str]:
        """Return what does not go with a family that brings a loss of its own."""
        training, name = self.training, self.model.family
        if not self.model.kind.own_loss:
            return []
        found = []
        if training.devices * training.num_nodes > 1:
            found.append(
                f"training.devices is {training.devices} and training.num_nodes {training.num_nodes}, but "
                f"model.family {name} learns on one device: its loss cannot be added up over several. Use 1."
            )
        if self.model.learns_objects:
            return found
        others = {
            "training.class_weights": training.class_weights if training.class_weights != "none" else "",
            "training.teacher": training.teacher,
            "training.adversarial": training.adversarial,
        }
        found += [
            f"{option} is {value}, but model.family {name} has a loss of its own in which it has no say. "
            f"Leave it out, or choose another family, for example unet."
            for option, value in others.items()
            if value
        ]
        if any(one.use == "teach" for one in self.data.sets):
            found.append(
                f"model.family {name} has a loss of its own, but data.sets has images for which a teacher "
                "answers, who has no say in it. Leave these sets out, or choose another family."
            )
        return found


SECTIONS = ("data", "model", "training", "inference", "hardware", "notify")


def build_config(values: dict[str, Any]) -> RunConfig:
    """Build a RunConfig from nested values and report every problem at once.

    Raises
    ------
    ConfigError
        Some values are outside their rules; the message lists all of them. Or there are sets of images only,
        and none of them can stand for `data.images`.
    """
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [message for _, message in explain(error)]
        raise ConfigError("\n".join(lines)) from error
    return config.model_copy(update={"data": config.data.with_main_set()})
