"""The order of the form: under which heading an option stands, and when it says anything at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.forms import FormField
from segcore.config import RunConfig
from segcore.families import FAMILIES

Values = Mapping[str, Any]
HEADINGS: dict[str, tuple[str, ...]] = {
    "Labels": ("data.labels_as", "data.coco_as", "data.annotated_slices", "data.class_names"),
    "Dimensions": (
        "data.mode", "data.context_slices", "data.context_spacing", "data.patch_depth",
    ),
    "Patches": ("data.foreground_patches", "data.loading"),
    "Split": (
        "data.split_by", "data.group_pattern", "data.test_fraction", "data.validation_slices",
        "data.test_slices", "data.validation_groups", "data.test_groups", "data.folds", "data.fold",
    ),
    "Normalisation": ("data.normalization", "data.normalize_per"),
    "Loss": (
        "training.loss", "training.class_weights", "training.class_weight_values", "training.adversarial",
    ),
    "Optimizer": (
        "training.optimizer", "training.schedule", "training.schedule_steps", "training.schedule_factor",
        "training.schedule_patience", "training.warm_up", "training.layer_decay",
        "training.gradient_clipping", "training.averaging", "training.micro_batch",
    ),
    "Teacher": (
        "training.teacher", "training.distill", "training.teacher_weight", "training.temperature",
        "training.confidence",
    ),
    "When to stop": ("training.max_minutes", "training.patience", "training.min_gain"),
    "Course of the run": (
        "training.repeats", "training.autopilot", "training.seed", "training.checkpoint_minutes",
        "training.keep_every", "training.auto_resume", "notify.webhook",
    ),
    "Machine": ("hardware.device", "hardware.precision"),
}  # fmt: skip
"""The folded options in their order; what is named nowhere comes last, without a heading."""
OF_FAMILY = tuple(dict.fromkeys(f"model.{name}" for family in FAMILIES.values() for name in family.options))
"""Options that describe some families, and say nothing for the others."""


def _describes(path: str) -> Callable[[Values], bool]:
    return lambda values: path.removeprefix("model.") in FAMILIES[values["model.family"]].options


APPLIES: dict[str, Callable[[Values], bool]] = {
    "data.context_slices": lambda values: values["data.mode"] == "2.5d",
    "data.context_spacing": lambda values: values["data.mode"] == "2.5d",
    "data.patch_depth": lambda values: values["data.mode"] == "3d",
    "data.group_pattern": lambda values: values["data.split_by"] == "groups",
    "data.validation_groups": lambda values: values["data.split_by"] == "groups",
    "data.test_groups": lambda values: values["data.split_by"] == "groups",
    "data.fold": lambda values: bool(values["data.folds"]),
    "training.class_weight_values": lambda values: values["training.class_weights"] == "by-hand",
    "training.distill": lambda values: bool(values["training.teacher"]),
    "training.teacher_weight": lambda values: _taught(values) == "both",
    "training.temperature": lambda values: _taught(values) in ("soft", "both"),
    "training.confidence": lambda values: bool(_taught(values)),
    "training.min_gain": lambda values: bool(values["training.patience"]) or _plateau(values),
    "training.schedule_steps": lambda values: values["training.schedule"] == "step",
    "training.schedule_factor": lambda values: values["training.schedule"] == "step" or _plateau(values),
    "training.schedule_patience": lambda values: _plateau(values),
    **{path: _describes(path) for path in OF_FAMILY},
}
"""Options that say nothing unless others ask for them."""


@dataclass(frozen=True)
class Heading:
    """Some fields under a heading, "" for none."""

    title: str
    fields: tuple[FormField, ...]


def headed(fields: Sequence[FormField]) -> tuple[Heading, ...]:
    """Return `fields` under their headings, in the order of the page; every field once."""
    by_path = {field.path: field for field in fields}
    found = []
    for title, paths in HEADINGS.items():
        there = tuple(by_path.pop(path) for path in paths if path in by_path)
        if there:
            found.append(Heading(title, there))
    return (*found, Heading("", tuple(by_path.values()))) if by_path else tuple(found)


def applies(path: str, values: Values) -> bool:
    """Say whether an option is worth a place: it says something, or somebody has changed it.

    Parameters
    ----------
    path : str
        The option.
    values : mapping
        What the form shows, by option.
    """
    rule = APPLIES.get(path)
    if rule is None or rule(values):
        return True
    return path not in OF_FAMILY and values[path] not in ("", None, _default(path))


def _taught(values: Values) -> str:
    """Return how the network learns from a teacher, "" without one."""
    return str(values["training.distill"]) if values["training.teacher"] else ""


def _plateau(values: Values) -> bool:
    return bool(values["training.schedule"] == "plateau")


def _default(path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(type(getattr(RunConfig(), section))(), name)
