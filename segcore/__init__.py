"""The engine of Segcore Studio: trains segmentation models and applies them to images.

What a script needs is here; it is loaded when it is first used, so that `import segcore` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "RunConfig": "segcore.config",
    "build_config": "segcore.config",
    "check_data": "segcore.data.validate",
    "evaluate": "segcore.inference.evaluate",
    "load_model": "segcore.models.saved",
    "open_source": "segcore.data.open",
    "segment": "segcore.inference.run",
    "simulate": "segcore.data.simulate",
    "train": "segcore.training.run",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'segcore' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
