"""What every option has: default, help, label, unit and rule in one pydantic field; problems in its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segcore.config.secret import SECRETS

SESSION_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9_-])?$"
AXES_PATTERN = r"^[TCZYXtczyx]{2,5}$"
SLICES_PATTERN = r"^\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*$"
PIXEL_SIZE_PATTERN = r"^\s*\d*\.?\d+(\s*,\s*\d*\.?\d+\s*,\s*\d*\.?\d+)?\s*$"
REGION_PATTERN = r"^\s*\d+(\s*,\s*\d+){4}\s*$"
ENCODER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
WEBHOOK_PATTERN = r"^https?://[^\s/]+\S*$"
CLUSTER_PATTERN = r"^(local:[1-9]\d{0,2}|(tcp|tls)://[^\s/]+:\d+|slurm)$"
PATTERN_RULES = {
    SESSION_PATTERN: "use up to 64 letters from A to Z, digits, spaces, dots, dashes and underscores, "
    "a letter or digit first",
    AXES_PATTERN: "use 2 to 5 of the letters T, C, Z, Y and X, for example ZYX or CZYX",
    SLICES_PATTERN: "use numbers and ranges counted from 0, for example 24-29 or 0,5,10-12",
    PIXEL_SIZE_PATTERN: "use one number, or three for z, y and x with commas between, as in 0.5,0.1,0.1",
    REGION_PATTERN: "use five numbers: slice, row, column, height, width, for example 3,0,128,256,256",
    CLUSTER_PATTERN: "use local:N for N processes, tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, "
    "or slurm",
    ENCODER_PATTERN: "use the name of an encoder, for example resnet34 or tu-convnext_tiny",
    WEBHOOK_PATTERN: "use an address that begins with http:// or https://",
}
"""What a pattern means, in the user's words."""


def option(
    default: Any,
    help: str,
    *,
    label: str,
    form: Any = None,
    unit: str = "",
    choices: Sequence[str] = (),
    **rules: Any,
) -> Any:
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
    choices : sequence of str
        What the form offers for a text; others can be typed.
    **rules : Any
        Passed to `pydantic.Field`: `ge`, `le`, `multiple_of`, `pattern` …
    """
    extra = {"label": label, "form": form, "unit": unit, **({"choices": list(choices)} if choices else {})}
    return Field(default, description=help, json_schema_extra=extra, validate_default=False, **rules)


class Section(BaseModel):
    """A group of options; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)


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
            # A check of a whole section has a line for every problem, which begins with its option.
            problems += [(_named_option(line) or name, line) for line in message.split("\n")]
        else:
            value = item["input"]
            rule = PATTERN_RULES.get(item.get("ctx", {}).get("pattern", ""), message[0].lower() + message[1:])
            shown = "…" if name.rpartition(".")[2] in SECRETS else repr(value)
            problems.append((name, f"{name} is {shown}: {rule}."))
    return problems


def _named_option(message: str) -> str:
    match = re.match(r"[a-z_]+\.[a-z_]+", message)
    return match.group() if match else ""
