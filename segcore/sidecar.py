"""The description of a model made by another program: a small JSON file beside it, `net.json` of `net.onnx`.

A file of weights and operations does not say which grey values it wants or what its classes are called.
Nothing of that is guessed: what the file does not say is read from here, and what is missing is asked for.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segcore.addresses import FOREIGN, is_foreign
from segcore.card import ModelCard, Normalization, PixelSize
from segcore.config import DataConfig, Mode, RunConfig, explain
from segcore.errors import ConfigError, ModelError
from segcore.files import write_atomic

Output = Literal["logits", "probabilities", "sigmoid"]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
_EXAMPLE = '{"normalization": {"kind": "none"}, "class_names": ["background", "cell"]}'
_RANGE = (-1.0, 1.0)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GreyValues(_Frozen):
    """What is done to the grey values of an image before the network sees them."""

    kind: Literal["none", "fixed", "percentile", "z-score", "min-max"]
    """none: as they are in the file. fixed: (value - offset) / scale. The others take every image's own
    statistics, as `data.normalization` does."""
    offset: float | tuple[float, ...] = 0.0
    """Of fixed: one number, or one per channel."""
    scale: float | tuple[float, ...] = 1.0
    range: tuple[float, float] = _RANGE
    """Of percentile and min-max: what the lower and the upper value become."""

    @model_validator(mode="after")
    def _is_consistent(self) -> GreyValues:
        if self.kind != "fixed" and (self.offset != 0.0 or self.scale != 1.0):
            raise ValueError("normalization: offset and scale belong to the kind fixed.")
        if self.kind not in ("percentile", "min-max") and self.range != _RANGE:
            raise ValueError("normalization: range belongs to the kinds percentile and min-max.")
        if self.range[0] >= self.range[1]:
            raise ValueError("normalization: the first number of range must be the smaller one.")
        if 0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ValueError("normalization: scale must not be 0.")
        return self

    def for_channels(self, channels: int) -> Normalization:
        """Return the map from grey values, as a model card has it.

        Raises
        ------
        ConfigError
            It has numbers for another number of channels.
        """
        offset, scale = (
            value if isinstance(value, tuple) else (value,) * channels for value in (self.offset, self.scale)
        )
        if not len(offset) == len(scale) == channels:
            raise ConfigError(
                f"normalization has {len(offset)} offsets and {len(scale)} scales for {channels} channels.",
                "Give one number, or one per channel.",
            )
        if self.kind in ("none", "fixed"):
            return Normalization(kind=self.kind, offset=offset, scale=scale)
        return Normalization(kind=self.kind, offset=offset, scale=scale, per="image")

    @property
    def stretch(self) -> tuple[float, float]:
        """Factor and shift that make `range` of what lies between -1 and 1."""
        low, high = self.range
        return (high - low) / 2, (high + low) / 2


class Shape(_Frozen):
    """What a network takes and answers, as far as a person says it; None where the file says it itself."""

    channels: Positive | None = None
    """Channels of the image; with several slices, those of one slice."""
    channel_names: tuple[str, ...] = ()
    channels_last: bool | None = None
    """Whether channels are the last axis of the network's input and output, as usual in Keras."""
    mode: Mode | None = None
    """2d, 2.5d (slices that are seen together are channels) or 3d."""
    context_slices: Positive = 1
    """Slices that are seen together in 2.5d."""
    context_spacing: Positive = 1
    output: Output | None = None
    """What the network answers: logits, probabilities of the classes (softmax), or sigmoid."""
    output_name: str = ""
    """Which output counts, of a network with several: its name, or its number from 0."""
    input_size: tuple[Positive, ...] | None = None
    """Rows and columns (in 3d planes before them) of a network that takes images of one size only."""
    size_step: Positive | tuple[Positive, ...] | None = None
    """Of one that takes any size: what its sizes must be multiples of. Measured where it is not given."""
    halo: NotNegative | tuple[NotNegative, ...] | None = None
    """How far a pixel of the image reaches in the output, px. Measured where it is not given."""
    bytes_per_pixel: Positive | None = None
    """Memory that the network needs per pixel of the image."""
    pixel_size: PixelSize = Field(default_factory=PixelSize)
    """Of the training images, to tell other sizes and adapt to them."""
    dtype: str = ""
    """Type of the training images, as in uint8, to tell others."""
    assumed: dict[str, str] = Field(default_factory=dict)
    """What a written description took for granted, and why. Remove what was checked."""

    @model_validator(mode="after")
    def _has_slices(self) -> Shape:
        if self.mode not in (None, "2.5d") and self.context_slices > 1:
            raise ValueError("context_slices belongs to the mode 2.5d.")
        if self.mode == "2.5d" and (self.context_slices < 3 or self.context_slices % 2 == 0):
            raise ValueError("context_slices must be odd and at least 3 in the mode 2.5d.")
        return self


class Sidecar(Shape):
    """The description of a model of another program."""

    normalization: GreyValues
    class_names: tuple[str, ...] = Field(min_length=2)
    """Names of the classes, in the order of the output's maps; of a single map, background and foreground."""
    class_values: tuple[int, ...] = ()
    """Values of the classes in the segmentation, ascending; by default 0, 1, 2 …"""

    @model_validator(mode="after")
    def _has_classes(self) -> Sidecar:
        values = self.values
        if len(values) != len(self.class_names) or list(values) != sorted(set(values)):
            raise ValueError("class_values must be ascending numbers, one per name in class_names.")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """Value of every class."""
        return self.class_values or tuple(range(len(self.class_names)))

    def card(self, channels: int, mode: Mode, parameters: int = 0) -> ModelCard:
        """Return the model card.

        Raises
        ------
        ConfigError
            The normalisation is for another number of channels.
        """
        axes = "ZYX" if mode == "3d" else "YX"
        return ModelCard(
            channels=channels,
            channel_names=self.channel_names,
            mode=mode,
            context_slices=self.context_slices,
            context_spacing=self.context_spacing,
            class_values=self.values,
            class_names=self.class_names,
            normalization=self.normalization.for_channels(channels),
            axes=f"C{axes}" if channels > 1 else axes,
            dtype=self.dtype,
            pixel_size=self.pixel_size,
            parameters=parameters,
        )

    def known(self) -> tuple[ModelCard, RunConfig] | None:
        """Return card and options where they are known without opening the model, else None."""
        if self.channels is None or self.mode is None:
            return None
        return self.card(self.channels, self.mode), self.options(self.mode)

    def options(self, mode: Mode) -> RunConfig:
        """Return what stands for the options of its training, of which nobody knows more."""
        slices = {} if mode != "2.5d" else {"context_slices": self.context_slices}
        return RunConfig(data=DataConfig(mode=mode, context_spacing=self.context_spacing, **slices))


def per_axis(value: int | Sequence[int], dimensions: int, name: str) -> tuple[int, ...]:
    """Return one number per axis.

    Raises
    ------
    ConfigError
        There are numbers for another number of axes.
    """
    found = (value,) * dimensions if isinstance(value, int) else tuple(value)
    if len(found) != dimensions:
        raise ConfigError(
            f"{name} has {len(found)} numbers, the network has {dimensions} axes.",
            "Give one number, or rows and columns; of a 3d network planes before them.",
        )
    return found


def how_to_describe(weights: str) -> str:
    """Return what to do about a model file that has no description."""
    return (
        f"`segcore describe {weights}` writes one with all that can be read from the file. Or write a text "
        f"file {Path(weights).stem}.json like {_EXAMPLE}, with more where it is asked for."
    )


def sidecar_of(weights: Path) -> Path:
    """Return where the description of a model lies if nobody names another place."""
    return weights.with_suffix(".json")


def made_elsewhere(weights: Path) -> bool:
    """Say whether a model file is of another program: by its name, of `.pt` by what is in it.

    Plain weights are called `.pt`, too, and belong to a network of this program.
    """
    if not is_foreign(weights) or weights.suffix.lower() != ".pt":
        return is_foreign(weights)
    with weights.open("rb") as stream:
        if stream.read(2) != b"PK":
            return False
    try:
        with zipfile.ZipFile(weights) as archive:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())
    except zipfile.BadZipFile:
        return True  # whoever opens it says that it is damaged


def read_sidecar(path: Path) -> Sidecar:
    """Read a description.

    Raises
    ------
    ConfigError
        It is missing, is not JSON, or something in it is missing or outside its rule.
    """
    remedy = f"Write it like {_EXAMPLE}, with more where it is asked for."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy) from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.", "Correct it, or write it anew.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not describe a model.", remedy)
    # What a written description leaves open stands in it as null.
    told = {name: value for name, value in content.items() if value is not None}
    try:
        return Sidecar.model_validate(told)
    except ValidationError as error:
        open_ones = [str(item["loc"][0]) for item in error.errors() if item["type"] == "missing"]
        lines = [f"{name} is missing." for name in open_ones if name in _ASKED]
        lines += [text for name, text in explain(error) if name not in _ASKED or name not in open_ones]
        asked = " ".join(_ASKED[name] for name in open_ones if name in _ASKED)
        text = "\n".join([f"{path} does not describe the model:", *lines])
        raise ConfigError(text, asked or "Correct it.") from error


_ASKED = {
    "normalization": 'Give normalization as {"kind": "none"}, {"kind": "fixed", "offset": 0, "scale": 255} '
    'or {"kind": "percentile", "range": [0, 1]}, as the network was trained.',
    "class_names": 'Give class_names in the order of the maps, as in ["background", "cell"].',
}
"""What no file says, and how to say it."""


def write_sidecar(path: Path, content: dict[str, Any]) -> None:
    """Write a description atomically; what is open in it is null."""
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def refuse_training(weights: Path) -> None:
    """Raise if a model was made by another program: it can be applied, but not trained further.

    Raises
    ------
    ModelError
        It was.
    """
    if weights.is_file() and made_elsewhere(weights):
        raise ModelError(
            f"{weights.name} is a model of another program ({FOREIGN[weights.suffix.lower()]}): it can be "
            "applied, but not trained further.",
            "Let it teach a network of this program (training.teacher), or start from a .pth file.",
        )
