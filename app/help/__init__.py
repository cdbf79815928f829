"""Help articles: one Markdown file per step, option and metric; an option's facts come from its field."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segcore.config import SECTIONS, RunConfig
from segcore.errors import ConfigError

FOLDER = Path(__file__).parent
GENERAL = ("quick-start", "step-data", "step-configure", "step-train", "step-segment")
METRICS = (
    "metric.dice", "metric.objects", "metric.iou", "metric.loss", "metric.gain", "metric.predicted_share",
    "metric.speed",
)  # fmt: skip
LISTED = 12
"""Proposals for an option that its facts name; the field finds the others by typing."""


def articles() -> list[tuple[str, str]]:
    """Return `(name, title)` of all articles: the steps, the options in their order, the metrics."""
    return [(name, _read(name)[0]) for name in (*GENERAL, *options(), *METRICS)]


def options() -> dict[str, FieldInfo]:
    """Return the field of every option by its path, in the order of RunConfig."""
    fields: dict[str, FieldInfo] = {}
    for name, field in RunConfig.model_fields.items():
        if name not in SECTIONS:
            fields[name] = field
            continue
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            fields |= {f"{name}.{inner}": part for inner, part in section.model_fields.items()}
    return fields


def article(name: str) -> str:
    """Return the Markdown of an article; an option's facts are added as a last line.

    Parameters
    ----------
    name : str
        For example `step-data`, `data.patch_size` or `metric.dice`.

    Raises
    ------
    ConfigError
        There is no such article.
    """
    title, body = _read(name)
    field = options().get(name)
    facts = f"\n\n{facts_line(name, field)}" if field else ""
    return f"### {title}\n\n{body}{facts}\n"


def find_articles(query: str) -> list[tuple[str, str]]:
    """Return the articles in which every word of `query` occurs, those with it in the title or name first.

    Next come those in which a word begins like it: "focal" is rather the loss than confocal stacks.
    """
    words = query.casefold().split()
    named, inside = [], []
    for name, title in articles():
        heading = f"{name} {title}".casefold()
        if all(word in heading for word in words):
            named.append((name, title))
        elif all(word in f"{heading} {_read(name)[1]}".casefold() for word in words):
            inside.append((name, title))
    starts = [re.compile(rf"\b{re.escape(word)}") for word in words]
    inside.sort(key=lambda entry: not all(start.search(_read(entry[0])[1].casefold()) for start in starts))
    return named + inside


def facts_line(name: str, field: FieldInfo) -> str:
    """Return default, range, choices, unit and CLI flag of an option as one line of Markdown."""
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    unit = f" {extra['unit']}" if extra.get("unit") else ""
    facts = [("Default", _default(field, unit)), *_rules(field, unit)]
    form = extra.get("form")
    if isinstance(form, list) and not get_args(field.annotation):
        facts.append(("In the form", ", ".join(str(choice) for choice in form) + unit))
    elif isinstance(form, dict):
        facts.append(("In the form", f"{_number(form['min'])} to {_number(form['max'])}{unit}"))
    if offered := extra.get("choices"):
        more = f" and {len(offered) - LISTED} more" if len(offered) > LISTED else ""
        facts.append(("Choices", f"{', '.join(offered[:LISTED])}{more}; others can be typed"))
    facts.append(("Command line", f"`--{name.replace('_', '-')}`"))
    return " · ".join(f"**{key}** {value}" for key, value in facts)


def _rules(field: FieldInfo, unit: str) -> list[tuple[str, str]]:
    choices = [str(value) for value in get_args(field.annotation) if isinstance(value, int | str)]
    if choices:
        return [("Choices", ", ".join(choices))]
    rules: dict[str, Any] = {}
    for item in field.metadata:
        for key in ("ge", "gt", "le", "lt", "multiple_of"):
            value = getattr(item, key, None)
            if value is not None:
                rules[key] = value
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
    if "ge" in rules and "le" in rules:
        first = f"{_number(rules.pop('ge'))} to {_number(rules.pop('le'))}{unit}"
        parts = [first, *(f"{words[key]} {_number(value)}" for key, value in rules.items())]
    else:
        parts = [f"{words[key]} {_number(value)}{unit}" for key, value in rules.items()]
    return [("Range", ", ".join(parts))] if parts else []


def _default(field: FieldInfo, unit: str) -> str:
    if field.default_factory is not None:
        return "today's date"
    value = field.default
    if value in (None, [], ""):
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{_number(value) if isinstance(value, int | float) else value}{unit}"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def _files() -> dict[str, Path]:
    """Return the file of every article by its name, in their order."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.md"))}


def _read(name: str) -> tuple[str, str]:
    known = _files()
    if name not in known:
        raise ConfigError(f"There is no help article {name!r}.", f"Available: {', '.join(known)}.")
    title, _, body = known[name].read_text(encoding="utf-8").partition("\n")
    return title.removeprefix("# ").strip(), body.strip()
