"""The form: RunConfig → components → RunConfig; every visible option has a field, every problem its place."""

from __future__ import annotations

import csv
import io
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import gradio as gr
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from app.help import article
from segcore.config import SECTIONS, DataConfig, RunConfig, explain
from segcore.presets import PRESETS

Kind = Literal["bool", "choice", "slider", "number", "list", "text"]
GROUPS: dict[str, str] = {"data": "Data set", "model": "Architecture", "training": "Training"}
"""Sections that have a card in step 2, with the card's title."""
DATA = (
    "images", "labels", "axes", "mask", "pixel_size", "channels", "channel_names", "label_suffix",
    "channel_suffixes", "unlabelled_value", "recipe", "sets",
)  # fmt: skip
"""Options of `data` that step 1 sets: how the files are read."""


@dataclass(frozen=True)
class FormField:
    """One option as the form sees it.

    Parameters
    ----------
    path : str
        `section.option`, or `session`.
    label, help, unit : str
        As in RunConfig.
    kind : str
        Which component shows it.
    form : list or dict or str or None
        The option's `form` metadata.
    optional, whole : bool
        May be empty; is an integer.
    free : bool
        The choices are proposals; another text may be typed.
    """

    path: str
    label: str
    help: str
    unit: str
    kind: Kind
    form: Any
    choices: tuple[Any, ...]
    optional: bool
    whole: bool
    free: bool = False

    @property
    def section(self) -> str:
        """Name of the section the option belongs to, "" for the session."""
        return self.path.rpartition(".")[0]

    @property
    def hidden(self) -> bool:
        """True if another part of the page sets the option."""
        return self.form == "hidden"

    @property
    def folded(self) -> bool:
        """True if the field stands under "More options"."""
        return self.form == "more"

    @property
    def title(self) -> str:
        """Label with unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def all_fields() -> tuple[FormField, ...]:
    """Return every option of RunConfig in its order, hidden ones included."""
    found = []
    for name, info in RunConfig.model_fields.items():
        if name in SECTIONS:
            section: Any = info.annotation
            found += [_field(f"{name}.{key}", item) for key, item in section.model_fields.items()]
        else:
            found.append(_field(name, info))
    return tuple(found)


def visible_fields(section: str | None = None, folded: bool | None = None) -> tuple[FormField, ...]:
    """Return the options with a field, of one section and of one fold if given."""
    return tuple(
        field
        for field in all_fields()
        if not field.hidden and section in (None, field.section) and folded in (None, field.folded)
    )


def training_fields() -> tuple[FormField, ...]:
    """Return the options that step 2 shows; those of `DATA` are in step 1, of the segmentation in step 4."""
    elsewhere = {f"data.{name}" for name in DATA}
    return tuple(
        field for field in visible_fields() if field.section != "inference" and field.path not in elsewhere
    )


def data_fields() -> tuple[FormField, ...]:
    """Return the fields of `DATA` that step 1 shows; the files and the repairs have panels of their own."""
    return tuple(field for field in visible_fields("data") if field.path in {f"data.{name}" for name in DATA})


def axes_field() -> FormField:
    """Return the field that steps 1 and 4 show beside the choice of the images."""
    return next(field for field in visible_fields("data") if field.path == "data.axes")


def read_training(shown_values: Sequence[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested option values for what step 2 shows and what step 1 sets, see `DATA`."""
    return merged(to_values(training_fields(), shown_values), {"data": read_data(data)})


def read_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `data` for what step 1 shows; what it leaves out keeps its default."""
    fields = {field.path.removeprefix("data."): field for field in all_fields() if field.section == "data"}
    return {name: _read_one(fields[name], value) for name, value in data.items()}


def shown_data(data: DataConfig) -> dict[str, Any]:
    r"""Return what step 1 shows for options of the data, by the names of `DATA`.

    Examples
    --------
    >>> shown_data(DataConfig(axes="ZYX", recipe=["labels.round", "images.invert"]))["recipe"]
    'labels.round\nimages.invert'
    """
    fields = {field.path.removeprefix("data."): field for field in all_fields() if field.section == "data"}
    found = {name: shown(fields[name], getattr(data, name)) for name in DATA}
    found |= {name: getattr(data, name) for name in ("images", "labels", "mask")}
    found |= {"recipe": "\n".join(data.recipe)}
    sets = [one.model_dump() for one in data.sets]
    return found | {"sets": json.dumps(sets, ensure_ascii=False) if sets else ""}


def nothing_chosen() -> list[Any]:
    """Return what step 1 shows before anything is chosen, in the order of `DATA`."""
    return list(shown_data(DataConfig()).values())


def component(field: FormField, value: Any, name: str = "") -> gr.components.Component:
    """Return the component of a field, showing `value` (as `shown` returns it); `name` begins its id."""
    identity = f"{name}{element_id(field.path)}"
    common: dict[str, Any] = {"label": field.title, "info": field.help, "elem_id": identity}
    if field.kind == "bool":
        return gr.Checkbox(value, **common)
    if field.kind == "choice":
        return gr.Dropdown(list(field.choices), value=value, allow_custom_value=field.free, **common)
    if field.kind == "slider":
        limits = field.form
        return gr.Slider(limits["min"], limits["max"], value=value, step=limits["step"], buttons=[], **common)
    if field.kind == "number":
        return gr.Number(value, precision=0 if field.whole else None, step=_step(field, value), **common)
    return gr.Textbox(value, max_lines=1, **common)


def helped_component(field: FormField, name: str = "") -> gr.components.Component:
    """Build a field with its default and its help in the current layout; `name` begins its id."""
    default = from_config(RunConfig(), [field])[0]
    with gr.Column(elem_classes="field", min_width=0):
        made = component(field, default, name)
        gr.Markdown(help_html(field))
    return made


def element_id(path: str) -> str:
    """Return the id of a field's element on the page."""
    return "field-" + path.replace(".", "-").replace("_", "-")


def shown(field: FormField, value: Any) -> Any:
    """Return an option's value as its component shows it."""
    if field.kind == "list":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="").writerow(value)
        return stream.getvalue().replace(",", ", ") if '"' not in stream.getvalue() else stream.getvalue()
    return ("" if value is None else str(value)) if field.kind == "text" else value


def parsed(field: FormField, value: Any) -> Any:
    """Return what a component shows as the option's value; checking it is RunConfig's business."""
    if field.kind == "list":
        names = next(csv.reader([value or ""], skipinitialspace=True), [])
        return [name.strip() for name in names if name.strip()]
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None):
        return None if field.optional else value
    whole = field.whole and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def from_config(config: RunConfig, fields: Iterable[FormField]) -> list[Any]:
    """Return what the components of `fields` show for `config`."""
    return [shown(field, _get(config, field.path)) for field in fields]


def updates(config: RunConfig, fields: Sequence[FormField]) -> list[Any]:
    """Return updates that make the components of `fields` show `config`.

    The command line takes more than the form offers: choices and ranges grow as far as the values need.
    """
    found: list[Any] = []
    for field, value in zip(fields, from_config(config, fields), strict=True):
        if field.kind == "slider":
            low, high = min(field.form["min"], value), max(field.form["max"], value)
            found.append(gr.Slider(minimum=low, maximum=high, value=value))
        elif field.kind == "choice":
            found.append(gr.Dropdown(choices=list(dict.fromkeys([*field.choices, value])), value=value))
        else:
            found.append(value)
    return found


def to_values(fields: Sequence[FormField], shown_values: Sequence[Any]) -> dict[str, Any]:
    """Return nested option values for what the components of `fields` show."""
    values: dict[str, Any] = {}
    for field, raw in zip(fields, shown_values, strict=True):
        place = values.setdefault(field.section, {}) if field.section else values
        place[field.path.rpartition(".")[2]] = parsed(field, raw)
    return values


def preset_values(name: str, fields: Sequence[FormField]) -> dict[str, Any]:
    """Return what a preset puts into the form, by option; options it does not name are left out."""
    chosen = {
        f"{section}.{key}": value for section, part in PRESETS[name].items() for key, value in part.items()
    }
    return {field.path: shown(field, chosen[field.path]) for field in fields if field.path in chosen}


def merged(values: Mapping[str, Any], extra: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `values` with the hidden options of `extra`, section by section."""
    result = dict(values)
    for section, part in extra.items():
        result[section] = {**result.get(section, {}), **part}
    return result


def check(values: Mapping[str, Any]) -> tuple[RunConfig | None, dict[str, str]]:
    """Return the RunConfig of nested values, or None and the problem of every option ("" for the whole)."""
    try:
        return RunConfig.model_validate(values), {}
    except ValidationError as error:
        labels = {field.path: field.label for field in all_fields()}
        problems: dict[str, str] = {}
        for name, message in explain(error):
            place = name if name in labels else ""
            text = message.replace(name, labels[name], 1) if place else message
            problems[place] = f"{problems[place]} {text}" if place in problems else text
        return None, problems


def help_html(field: FormField) -> str:
    """Return the field's (i): a button that opens its help article in place."""
    return (
        f'<details class="help"><summary aria-label="Help on {escape(field.label)}" title="Help">i</summary>'
        f'<div class="help-body">\n\n{article(field.path)}\n\n</div></details>'
    )


def step_help_html(name: str) -> str:
    """Return the folded help article of a step."""
    return f"<details class='step-help'><summary>About this step</summary>\n\n{article(name)}\n\n</details>"


def _step(field: FormField, value: float) -> float:
    """Return how far the arrows move a number: whole numbers by 1, others by a tenth of their first digit."""
    return 1 if field.whole or not value else 10.0 ** (math.floor(math.log10(abs(value))) - 1)


def _read_one(field: FormField, value: Any) -> Any:
    if field.path == "data.recipe":
        return [line.strip() for line in (value or "").splitlines() if line.strip()]
    if field.path == "data.sets":
        try:
            return json.loads(value or "[]")
        except ValueError:
            return value  # refused by RunConfig, in the words of the option
    if field.hidden:
        return (value or "").strip() or None
    return parsed(field, value)


def _get(config: RunConfig, path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _field(path: str, info: FieldInfo) -> FormField:
    extra: Any = info.json_schema_extra or {}
    form = extra.get("form")
    kind, choices, optional, whole = _kind(info.annotation, form)
    proposals = tuple(extra.get("choices", ()))
    return FormField(
        path=path,
        label=extra.get("label", path),
        help=info.description or "",
        unit=extra.get("unit", ""),
        kind="choice" if proposals else kind,
        form=form,
        choices=proposals or choices,
        optional=optional,
        whole=whole,
        free=bool(proposals),
    )


def _kind(annotation: Any, form: Any) -> tuple[Kind, tuple[Any, ...], bool, bool]:
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        annotation, optional = parts[0], True
    choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
    whole = annotation is int or (bool(choices) and all(isinstance(choice, int) for choice in choices))
    if isinstance(form, list):
        return "choice", tuple(form), optional, whole
    if choices:
        return "choice", choices, optional, whole
    if isinstance(form, dict):
        return "slider", (), optional, whole
    if annotation is bool:
        return "bool", (), optional, False
    if annotation in (int, float):
        # An empty number is shown as 0, which is a value of its own.
        return "text" if optional else "number", (), optional, whole
    return ("list" if typing.get_origin(annotation) is list else "text"), (), optional, False
