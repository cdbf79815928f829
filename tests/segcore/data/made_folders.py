"""Folders of empty files, and what is listed in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from segcore.config import DataConfig
from segcore.data.items import Listing, list_items


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(root: Path, labelled: bool = True, **data: Any) -> Listing:
    for key in ("images", "labels", "mask"):
        if key in data:
            data[key] = ";".join(str(root / part) for part in data[key].split(";"))
    return list_items(DataConfig(**data), labelled)


def pairs(listing: Listing, root: Path) -> dict[str, str]:
    return {item.name: os.path.relpath(item.labels, root) if item.labels else "" for item in listing.items}


def said(listing: Listing, level: str = "warning") -> str:
    return "\n".join(finding.what for finding in listing.findings if finding.level == level)
