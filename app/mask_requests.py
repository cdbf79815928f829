"""What the page asks while a person draws masks: checked before anything is done with it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from app.session import Problem
from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.errors import DataError
from segcore.promptable.messages import Answer

LEAST_SIDE = 16
"""Rows and columns of the smallest part, px."""


class Asked(BaseModel):
    """What the page sends; rows and columns are counted from the corner of the part.

    Parameters
    ----------
    data : str
        `DataConfig` as JSON, as `MaskDesk.images` returned it.
    plane : int
        The slice, counted through all images.
    part : tuple of int, optional
        Top, left, bottom and right of the part of the slice that is shown, px; None: all of it.
    model : str
        Hub id or workspace path of the network.
    points, labels, box : tuple, optional
        The prompt, see `segcore.promptable.promptable.Prompt`.
    choice : int
        Which of the masks.
    row, column : int
        A pixel of the object that is to go.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data: str
    plane: int
    part: tuple[int, int, int, int] | None = None
    model: str = ""
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    choice: int = 0
    row: int = -1
    column: int = -1

    @classmethod
    def read(cls, request: dict[str, Any]) -> Asked:
        """Return a request of the page.

        Raises
        ------
        DataError
            It cannot be read.
        """
        try:
            return cls.model_validate(request)
        except ValidationError as error:
            raise DataError("The page sent what cannot be read.", "Load the page again.") from error

    @property
    def images(self) -> DataConfig:
        """How the images are read.

        Raises
        ------
        DataError
            The page sent no options.
        """
        try:
            return DataConfig.model_validate_json(self.data)
        except ValidationError as error:
            raise DataError("The page sent no images.", "Load the page again.") from error

    def window(self, images: Collection) -> tuple[slice, slice]:
        """Return rows and columns that are shown of the slice.

        Raises
        ------
        DataError
            There is no such slice, or no such part of it.
        """
        if not 0 <= self.plane < images.count:
            raise DataError(
                f"There is no slice {self.plane}; the images have {images.count}.", "Choose another one."
            )
        height, width = images.size(self.plane)
        top, left, bottom, right = self.part or (0, 0, height, width)
        if self.part and not (
            0 <= top <= bottom - LEAST_SIDE <= height - LEAST_SIDE
            and 0 <= left <= right - LEAST_SIDE <= width - LEAST_SIDE
        ):
            raise DataError("The slice has no such part.", "Look at the whole slice.")
        return slice(top, bottom), slice(left, right)


@dataclass
class Work:
    """Something that takes seconds, done for the page meanwhile."""

    stage: str = "Starting"
    began: float = field(default_factory=time.monotonic)
    """When this stage began."""
    done: int = 0
    total: int = 0
    outcome: Answer | Problem | None = None
    added: int = 0
    seconds: float = 0.0
    """Of all stages, once it is over."""

    def told(self, answer: Answer) -> None:
        """Note what is being done."""
        if answer.stage != self.stage:
            self.began = time.monotonic()
        self.stage, self.done, self.total = answer.stage, answer.done, answer.total

    def text(self, usual: float | None) -> str:
        """Return what is being done, and how long it will take if anybody knows.

        Parameters
        ----------
        usual : float, optional
            Seconds that this stage took the last time.
        """
        passed = time.monotonic() - self.began
        left = None if usual is None else usual - passed
        if self.done and self.total:
            left = passed / self.done * (self.total - self.done)
        if left is not None and left >= 1:
            return f"{self.stage}: about {left:.0f} s left"
        return f"{self.stage} … {passed:.0f} s"
