"""The errors people see: what is wrong, with which value, by which rule, and what to do.

SegcoreError
├── DataError     an image or label file, or what is in it
├── ConfigError   an option or a combination of options
├── ModelError    a model file, or a model that does not fit its configuration or the data
└── JobError      the queue, a run folder, a worker
    └── LostProcess   one of several processes died: what was saved goes on
"""

from __future__ import annotations


class SegcoreError(Exception):
    """An error a person can act on; anything else is a defect of ours.

    Parameters
    ----------
    message : str
        The thing, the value and the rule.
    remedy : str
        What to do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class DataError(SegcoreError):
    """An image or label file cannot be used as it is."""


class ConfigError(SegcoreError):
    """An option, or a combination of options, is outside its rule."""


class ModelError(SegcoreError):
    """A model file is unreadable, unsafe, or belongs to something else."""


class JobError(SegcoreError):
    """The queue or a run folder does not allow what was asked."""


class LostProcess(JobError):
    """One of the processes that do a job together has died; the job can go on from what it has saved."""
