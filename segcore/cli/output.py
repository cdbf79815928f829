"""What commands write to stdout: one JSON object with --json, else lines for a person."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_OBJECTS = {"val_f1": "F1", "val_ap50": "AP", "val_pq": "PQ"}


def write_json(content: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON value; a score that does not exist (a class without a pixel) is null."""
    sys.stdout.write(json.dumps(_finite(content), ensure_ascii=False, default=str) + "\n")


def write_lines(lines: Sequence[str]) -> None:
    """Write lines for a person."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def score_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return lines such as `val Dice 0.803 (0: 0.712, 255: 0.894)` for the scores in `metrics`.

    Where objects are told apart, the last is `objects F1 0.912, AP 0.838, PQ 0.771 (IoU 0.5)`.
    """
    lines = []
    for name, value in metrics.items():
        if name.endswith("dice") and isinstance(value, float):
            classes = metrics.get(f"{name}_per_class") or {}
            each = ", ".join(f"{label}: {_number(score)}" for label, score in classes.items())
            title = name.replace("_", " ").replace("dice", "Dice")
            lines.append(f"{title} {_number(value)}" + (f" ({each})" if each else ""))
    objects = [f"{title} {_number(metrics[name])}" for name, title in _OBJECTS.items() if name in metrics]
    return [*lines, f"objects {', '.join(objects)} (IoU 0.5)"] if objects else lines


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
