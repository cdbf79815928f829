"""Assignments: what a worker of a cluster must know to predict parts of an image as any process would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from segcore.addresses import absolute_address
from segcore.card import Normalization
from segcore.config import NotifyConfig, RunConfig
from segcore.data.items import Item
from segcore.inference.sinks import SinkSpec
from segcore.prediction import Division

Result = dict[int, list[int]]
"""Number of every block that is on the disk → pixels of every class index in it."""


@dataclass(frozen=True)
class Assignment:
    """One image and all that decides its result; small, since it goes with every group of blocks.

    Parameters
    ----------
    key : str
        Stands for the image and all that decides the result.
    config : RunConfig
        The options; see `portable`.
    sha256 : str
        Hash of the model's weights.
    item : Item
        The image.
    division : Division
        Its blocks.
    normalization : Normalization, optional
        Its own statistics, where the model takes them.
    sinks : tuple of (Path, SinkSpec)
        Work files and what they hold: labels, and perhaps probabilities.
    """

    key: str
    config: RunConfig
    sha256: str
    item: Item
    division: Division
    normalization: Normalization | None
    sinks: tuple[tuple[Path, SinkSpec], ...]

    def anywhere(self) -> Assignment:
        """Return it with absolute addresses, which mean the same in a worker's folder."""
        images = tuple(absolute_address(address) for address in self.item.images)
        sinks = tuple((path.absolute(), spec) for path, spec in self.sinks)
        return replace(self, item=replace(self.item, images=images), sinks=sinks)


def portable(config: RunConfig, weights: Path) -> RunConfig:
    """Return options as workers need them: files by absolute paths, and nobody to be told of the end."""
    options = config.inference
    beside = str(Path(options.config_file).absolute()) if options.config_file else None
    others = [str(Path(other).absolute()) if Path(other).exists() else other for other in options.ensemble]
    named = {"model": str(weights.absolute()), "config_file": beside, "ensemble": others}
    return config.model_copy(update={"inference": options.model_copy(update=named), "notify": NotifyConfig()})
