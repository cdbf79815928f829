"""ModelCard: what must travel with a model's weights; `config.json` is the RunConfig plus the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segcore.config import Mode, RunConfig, build_config, explain
from segcore.errors import ConfigError
from segcore.files import write_atomic

CONFIG = "config.json"
GIVE_CONFIG = "Give the config.json that was saved with the run."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalization(_Frozen):
    """Linear map from grey values to network input, one entry per channel: `(value - offset) / scale`.

    `clip` bounds the result, so that a hot pixel cannot dominate a patch. With `per` image, offset and scale
    are those of the training images as a whole; an image that is segmented gets its own.
    """

    kind: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    clip: tuple[float, float] | None = None
    per: Literal["set", "image"] = "set"


class PixelSize(_Frozen):
    """Size of a voxel; None where the file does not say."""

    z: float | None = None
    y: float | None = None
    x: float | None = None
    unit: str = "µm"

    @property
    def text(self) -> str:
        """The size of a pixel, and of a step between slices, for people; "" where it is not known."""
        if self.y is None or self.x is None:
            return ""
        plane = f"{self.x:g}" if self.x == self.y else f"{self.y:g} × {self.x:g}"
        return f"{plane} {self.unit}/px" + (f", {self.z:g} {self.unit} between slices" if self.z else "")


class Histogram(_Frozen):
    """Grey values of one channel of the training images: counts in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: tuple[int, ...]


class ObjectHead(_Frozen):
    """How the output of a network becomes objects; see `segcore.postprocess.heads`."""

    name: str
    dimensions: int = 2
    """Axes of what is decoded at once: planes or volumes."""
    fields: dict[str, float] = Field(default_factory=dict)
    """What else decides the target, as for its class."""
    decoding: dict[str, int | float] = Field(default_factory=dict)
    """Options of decoding that are not the usual ones."""
    maps: int
    """Maps that the network answers."""
    sides: tuple[float, ...]
    """Longest side of nine of ten annotated objects, px per axis: as much is decoded around every part."""


class ModelCard(_Frozen):
    """Everything except the weights that is needed to rebuild and rightly apply a trained model."""

    format: Literal[1] = 1
    channels: int
    """Channels of the image, as far as they are used."""
    channel_names: tuple[str, ...] = ()
    mode: Mode = "2d"
    context_slices: int = 1
    """Slices that go into the network as channels: more than one in 2.5d only."""
    context_spacing: int = 1
    strides: tuple[tuple[int, int, int], ...] = ()
    """How much every level of a 3d network shrinks planes, rows and columns."""
    class_values: tuple[int, ...]
    """Label value of every class index, ascending: the output is written with these values."""
    class_names: tuple[str, ...]
    head: ObjectHead | None = None
    """Of models that tell objects apart; their classes are background and object."""
    normalization: Normalization
    histograms: tuple[Histogram, ...] = ()
    """Of every channel of the training images, to compare an image that is segmented with."""
    axes: str
    """Axes of the training images, for example ZYX."""
    dtype: str
    pixel_size: PixelSize = Field(default_factory=PixelSize)
    data_hash: str = ""
    """SHA-256 over image and label file."""
    parameters: int = 0
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Maps of the network's output: one per class, or what the head makes objects of."""
        return len(self.class_values) if self.head is None else self.head.maps

    @property
    def inputs(self) -> int:
        """Channels of the network's input: in 2.5d those of all slices that are seen together."""
        return self.channels * self.context_slices

    @model_validator(mode="after")
    def _is_consistent(self) -> ModelCard:
        values, statistics = self.class_values, self.normalization
        if len(values) < 2 or list(values) != sorted(set(values)) or len(self.class_names) != len(values):
            raise ValueError("class_values must be two or more, ascending, each with a name in class_names.")
        if not len(statistics.offset) == len(statistics.scale) == self.channels or 0 in statistics.scale:
            raise ValueError("normalization must have an offset and a scale other than 0 for every channel.")
        return self


def write_config(path: Path, config: RunConfig, card: ModelCard | None = None) -> None:
    """Write `config.json` atomically; with a card, it also describes the trained model."""
    content: dict[str, Any] = config.model_dump(mode="json")
    if card is not None:
        content["trained"] = card.model_dump(mode="json")
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def config_places(weights: Path) -> list[Path]:
    """Return where the `config.json` of a model is looked for, the first that is there counts."""
    above = weights.absolute().parent.parent / CONFIG  # of a kept epoch in a run's checkpoints/
    return [weights.with_name(CONFIG), weights.with_suffix(".json"), above]


def read_config(path: Path) -> tuple[RunConfig, ModelCard | None]:
    """Read `config.json`: the options, and the model card if a model was trained with them.

    Raises
    ------
    ConfigError
        The file is missing, is not JSON, or holds options or a card that this version does not accept.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", GIVE_CONFIG) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.", GIVE_CONFIG) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no options.", GIVE_CONFIG)
    trained = content.pop("trained", None)
    config = build_config(content)
    if trained is None:
        return config, None
    try:
        return config, ModelCard.model_validate(trained)
    except ValidationError as error:
        lines = "\n".join(message for _, message in explain(error))
        raise ConfigError(f"{path} does not describe a model of this version:\n{lines}") from error
