"""Every option of a run, once: `RunConfig` and its sections."""

from segcore.config.data import DataConfig, Mode
from segcore.config.inference import HardwareConfig, InferenceConfig, NotifyConfig
from segcore.config.model import ModelConfig
from segcore.config.option import (
    AXES_PATTERN,
    PATTERN_RULES,
    SESSION_PATTERN,
    SLICES_PATTERN,
    Section,
    explain,
    option,
)
from segcore.config.run import SECTIONS, RunConfig, build_config
from segcore.config.sets import TrainingSet
from segcore.config.training import TrainingConfig

__all__ = [
    "AXES_PATTERN",
    "PATTERN_RULES",
    "SECTIONS",
    "SESSION_PATTERN",
    "SLICES_PATTERN",
    "DataConfig",
    "HardwareConfig",
    "InferenceConfig",
    "Mode",
    "ModelConfig",
    "NotifyConfig",
    "RunConfig",
    "Section",
    "TrainingConfig",
    "TrainingSet",
    "build_config",
    "explain",
    "option",
]
