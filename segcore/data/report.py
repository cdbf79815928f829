"""What a check of the data reports: findings, what was opened, which classes were found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from segcore.card import PixelSize

Level = Literal["error", "warning", "info"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Finding(_Frozen):
    """Something found in the data."""

    level: Level
    what: str
    where: str
    """File name, with the slices where it is about some of them."""
    remedy: str = ""


class ClassCount(_Frozen):
    """A class found in the labels."""

    value: int
    name: str
    pixels: int
    share: float
    """Of all labelled pixels, 0 to 1."""


class SourceSummary(_Frozen):
    """What was opened."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: PixelSize
    text: str
    """For people: "30 × 512 × 512, ZYX, uint8"."""


class Report(_Frozen):
    """All findings about an image stack and its labels."""

    findings: tuple[Finding, ...]
    images: SourceSummary | None = None
    labels: SourceSummary | None = None
    classes: tuple[ClassCount, ...] = ()
    complete: bool = True
    """Whether all labels were looked at; there may be more classes than are listed if not."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ok(self) -> bool:
        """Whether nothing found keeps the data from being used."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the data from being used."""
        return tuple(finding for finding in self.findings if finding.level == "error")
