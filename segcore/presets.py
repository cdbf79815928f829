"""Presets of the form: named overrides of the defaults; a preset touches only what it names."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "data": {"patch_size": 128, "patches_per_image": 20},
        "model": {"features": 16, "layers": 4},
        "training": {"epochs": 20, "learning_rate": 2e-3},
    },
    "normal": {
        "data": {"patch_size": 64, "patches_per_image": 50},
        "model": {"features": 64, "layers": 4},
        "training": {"epochs": 100, "learning_rate": 1e-3},
    },
    "thorough": {
        "data": {"patch_size": 128, "patches_per_image": 50},
        "model": {"features": 64, "layers": 4},
        "training": {"epochs": 300, "learning_rate": 1e-3},
    },
}
