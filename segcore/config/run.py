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
    def _patch_fits_network(self) -> RunConfig:
        data = self.data
        layers = self.model.like[1]
        model = self.model
        facts = Facts(data.mode, data.patch_size, layers, data.context_slices, model.encoder, model.features)
        for obstacle in self.model.kind.obstacles(facts):
            raise ValueError(obstacle.text)
        return self

    @model_validator(mode="after")
    def _labels_fit_head(self) -> RunConfig:
        head, labels_as, weights = self.model.head, self.data.labels_as, self.training.class_weights
        if not self.model.learns_objects:
            return self
        if labels_as != "objects":
            raise ValueError(
                f"model.head {head} learns objects, but data.labels_as is {labels_as}. Read labels as "
                "objects, if every object has its own number, or choose the head semantic."
            )
        if weights != "none":
            raise ValueError(
                f"training.class_weights is {weights}, but model.head {head} learns objects of one class. "
                "Use none."
            )
        return self


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
