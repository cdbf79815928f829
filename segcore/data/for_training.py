"""What a training asks of its data beyond what the data says of itself: weights that fit the classes."""

from __future__ import annotations

from collections.abc import Callable

from segcore.config import RunConfig, TrainingConfig
from segcore.data.report import Finding, Report
from segcore.data.validate import check_data
from segcore.data.weights import class_weights
from segcore.errors import ConfigError


def check_run(config: RunConfig, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check the data of a configuration, see `check_data`, and whether the training's options fit it."""
    return with_training(check_data(config.data, progress), config.training)


def with_training(report: Report, training: TrainingConfig) -> Report:
    """Return a report with what is wrong between the classes that were found and a training's options."""
    weights, classes = training.class_weight_values, report.classes
    if training.class_weights != "by-hand" or not classes:
        return report
    if not report.complete and len(weights) > len(classes):
        return report  # the slices nobody looked at may hold the other classes
    try:
        class_weights({found.value: found.pixels for found in classes}, "by-hand", weights)
    except ConfigError as error:
        where = report.labels.path.rpartition("/")[2] if report.labels else ""
        wrong = Finding(level="error", what=error.message, where=where or "labels", remedy=error.remedy)
        return report.model_copy(update={"findings": (wrong, *report.findings)})
    return report
