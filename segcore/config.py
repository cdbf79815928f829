"""RunConfig: every option of a run, once. Form, CLI, help, `config.json` and MLflow params come from it."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segcore.errors import ConfigError

SESSION_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9_-])?$"
AXES_PATTERN = r"^[TCZYXtczyx]{2,5}$"
SLICES_PATTERN = r"^\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*$"
PATTERN_RULES = {
    SESSION_PATTERN: "use up to 64 letters from A to Z, digits, spaces, dots, dashes and underscores, "
    "a letter or digit first",
    AXES_PATTERN: "use 2 to 5 of the letters T, C, Z, Y and X, for example ZYX or CZYX",
    SLICES_PATTERN: "use numbers and ranges counted from 0, for example 24-29 or 0,5,10-12",
}
"""What a pattern means, in the user's words."""


def option(default: Any, help: str, *, label: str, form: Any = None, unit: str = "", **rules: Any) -> Any:
    """Return a pydantic field that also carries what the form needs.

    Parameters
    ----------
    default : Any
        The default value.
    help : str
        One or two sentences: CLI help, tooltip and reference docs.
    label : str
        The field's name on the page.
    form : list or dict or str, optional
        A list: the choices the form offers. `{"min": …, "max": …, "step": …}`: the form's slider, which may
        be narrower than the rule. `"more"`: folded away under "More options". `"hidden"`: not in the form.
    unit : str
        Unit of the value, if it has one.
    **rules : Any
        Passed to `pydantic.Field`: `ge`, `le`, `multiple_of`, `pattern` …
    """
    extra = {"label": label, "form": form, "unit": unit}
    return Field(default, description=help, json_schema_extra=extra, validate_default=False, **rules)


class Section(BaseModel):
    """A group of options; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)


class DataConfig(Section):
    """The images, their labels and how patches are cut from them."""

    images: str | None = option(None, "Image stack (TIFF).", label="Raw images", form="hidden")
    labels: str | None = option(
        None,
        "Label stack (TIFF): one integer value per class, same shape as the images.",
        label="Annotations",
        form="hidden",
    )
    axes: str | None = option(
        None,
        "Axes of the image file, for example ZYX or CZYX, where its metadata is missing or wrong.",
        label="Axes",
        form="more",
        pattern=AXES_PATTERN,
    )
    labels_as: Literal["classes", "foreground"] = option(
        "classes",
        "classes: every label value is a class. foreground: all values above 0 become one class (for masks "
        "in which every object has its own number).",
        label="Read labels as",
        form="more",
    )
    class_names: list[str] = option(
        [],
        "Names of the classes, in ascending order of their label values.",
        label="Class names",
        form="more",
    )
    patch_size: int = option(
        64,
        "Side of the square patches the network trains on.",
        label="Patch size",
        unit="px",
        form=[32, 48, 64, 96, 128, 256],
        ge=32,
        le=4096,
        multiple_of=16,
    )
    patches_per_image: int = option(
        50,
        "Patches cut from every slice in each epoch.",
        label="Patches per image",
        form={"min": 1, "max": 100, "step": 1},
        ge=1,
        le=100,
    )
    augmentation: bool = option(
        True,
        "Vary every patch at random: flips, quarter turns, rotation, scale, elastic deformation, brightness, "
        "contrast, gamma, blur and noise.",
        label="Augmentation",
    )
    validation_fraction: float = option(
        0.2,
        "Share of the slices kept for validation, evenly spread over the stack.",
        label="Validation fraction",
        form={"min": 0.05, "max": 0.5, "step": 0.05},
        ge=0.01,
        le=0.9,
    )
    validation_slices: str | None = option(
        None,
        "Slices kept for validation instead of a fraction, counted from 0: 24-29 or 0,5,10-12.",
        label="Validation slices",
        form="more",
        pattern=SLICES_PATTERN,
    )
    normalization: Literal["percentile", "z-score", "min-max", "none"] = option(
        "percentile",
        "How grey values become network input; the statistics come from the whole training set and travel "
        "with the model. percentile: the 0.5th and 99.5th percentile become -1 and 1.",
        label="Normalisation",
        form="more",
    )


class ModelConfig(Section):
    """The network."""

    family: Literal["unet"] = option("unet", "Model family.", label="Family", form="hidden")
    features: int = option(
        64,
        "Feature maps of the first level; every level below doubles them.",
        label="Features",
        form=[16, 32, 48, 64, 96, 128],
        ge=1,
        le=512,
    )
    layers: int = option(
        4,
        "How many times the network halves the image before it builds the mask.",
        label="Layers",
        form={"min": 2, "max": 6, "step": 1},
        ge=2,
        le=6,
    )


class TrainingConfig(Section):
    """How the network learns."""

    batch_size: Literal[1, 2, 4, 8, 16, 32] = option(
        8,
        "Patches the network sees at once.",
        label="Batch size",
        form=[1, 2, 4, 8, 16, 32],
    )
    learning_rate: float = option(
        1e-3,
        "Size of the steps the optimizer takes.",
        label="Learning rate",
        form={"min": 1e-5, "max": 2e-3, "step": 1e-5},
        ge=1e-5,
        le=2e-3,
    )
    epochs: int = option(
        100,
        "Passes over the training slices.",
        label="Epochs",
        form={"min": 10, "max": 500, "step": 1},
        ge=1,
    )
    max_minutes: float | None = option(
        None,
        "Time budget: training ends within it, and the learning-rate schedule adapts to it.",
        label="Time budget",
        unit="min",
        form="more",
        gt=0,
    )
    loss: Literal["dice+ce", "dice", "ce", "focal"] = option(
        "dice+ce",
        "What the network minimises: Dice + cross-entropy, either alone, or focal loss.",
        label="Loss",
        form="more",
    )
    optimizer: Literal["adamw", "adam", "sgd"] = option(
        "adamw",
        "Optimizer: AdamW, Adam, or SGD with Nesterov momentum 0.9.",
        label="Optimizer",
        form="more",
    )
    schedule: Literal["cosine", "constant"] = option(
        "cosine",
        "Learning rate over the run: cosine with a short warm-up, or constant.",
        label="Schedule",
        form="more",
    )
    seed: int = option(
        0,
        "Start of all random numbers: the same seed gives the same run on the same machine's CPU.",
        label="Seed",
        form="more",
        ge=0,
        le=2**31 - 1,
    )
    checkpoint_minutes: float = option(
        2.0,
        "How often the state of the run is saved, so that it can go on after a crash.",
        label="Checkpoint every",
        unit="min",
        form="more",
        gt=0,
    )


class InferenceConfig(Section):
    """How a trained model is applied."""

    model: str | None = option(
        None,
        "A run folder, a .pth file (with its config.json beside it) or models:/name@alias.",
        label="Model",
        form="hidden",
    )
    config_file: str | None = option(
        None,
        "The model's config.json, where it does not lie beside the .pth file.",
        label="Model configuration",
        form="hidden",
    )
    probabilities: bool = option(
        False,
        "Also write the probability of every class.",
        label="Save probabilities",
    )
    tile_size: int | None = option(
        None,
        "Side of the tiles a slice is cut into; by default whole slices where they fit into memory.",
        label="Tile size",
        unit="px",
        form="more",
        ge=64,
        multiple_of=64,
    )


class HardwareConfig(Section):
    """Where the arithmetic is done."""

    device: Literal["auto", "cpu", "cuda", "mps"] = option(
        "auto",
        "Device to compute on; auto takes CUDA, then MPS, then the CPU.",
        label="Device",
        form="more",
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto",
        "Number format of the arithmetic; auto takes the fastest the device does well.",
        label="Precision",
        form="more",
    )


class RunConfig(Section):
    """All options of a training or a segmentation."""

    session: str = Field(
        default_factory=lambda: date.today().isoformat(),
        description="Name under which runs are grouped; the MLflow experiment.",
        json_schema_extra={"label": "Session", "form": None, "unit": ""},
        pattern=SESSION_PATTERN,
    )
    data: DataConfig = Field(default_factory=DataConfig, description="Images, labels, patches.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How it learns.")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="How it is applied.")
    hardware: HardwareConfig = Field(default_factory=HardwareConfig, description="Where it is computed.")

    @model_validator(mode="after")
    def _patch_fits_network(self) -> RunConfig:
        step = 2**self.model.layers
        size = self.data.patch_size
        if size % step or size < 2 * step:
            raise ValueError(
                f"data.patch_size {size} does not fit model.layers {self.model.layers}: "
                f"{self.model.layers} layers need a multiple of {step} px of at least {2 * step} px. "
                f"Use patch size {max(2 * step, 32, -(-size // step) * step)} or fewer layers."
            )
        return self


SECTIONS = ("data", "model", "training", "inference", "hardware")


def explain(error: ValidationError) -> list[tuple[str, str]]:
    """Return `(option, message)` for every problem pydantic found, in the words of the option.

    Examples
    --------
    >>> try:
    ...     TrainingConfig(epochs=0)
    ... except ValidationError as error:
    ...     explain(error)
    [('epochs', 'epochs is 0: input should be greater than or equal to 1.')]
    """
    problems = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "is not an option of this version."
            problems.append((name, f"{name} {message}"))
        elif item["type"] == "value_error":
            problems.append((name or _named_option(message), message))
        else:
            value = item["input"]
            rule = PATTERN_RULES.get(item.get("ctx", {}).get("pattern", ""), message[0].lower() + message[1:])
            problems.append((name, f"{name} is {value!r}: {rule}."))
    return problems


def _named_option(message: str) -> str:
    match = re.match(r"[a-z_]+\.[a-z_]+", message)
    return match.group() if match else ""


def build_config(values: dict[str, Any]) -> RunConfig:
    """Build a RunConfig from nested values and report every problem at once.

    Raises
    ------
    ConfigError
        Some values are outside their rules; the message lists all of them.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [message for _, message in explain(error)]
        raise ConfigError("\n".join(lines)) from error
