"""What the form says of a family of networks: its two lines, and which families the options rule out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

from segcore.families import FAMILIES, Facts

FACTS = {
    "mode": "data.mode",
    "patch": "data.patch_size",
    "layers": "model.layers",
    "encoder": "model.encoder",
    "features": "model.features",
    "head": "model.head",
}
"""The option that tells each of the facts; of one that shows nothing, the usual value is taken."""


def family_html(values: Mapping[str, Any]) -> str:
    """Return what is to be said below the choice of the family.

    Parameters
    ----------
    values : mapping
        What the form shows, by option.
    """
    family = FAMILIES[values["model.family"]]
    lines = "<br>".join(escape(line) for line in (family.good_for, family.costs))
    found = refusals(values)
    if not found:
        return f'<p class="family-about">{lines}</p>'
    items = "".join(f"<li>{escape(text)}</li>" for text in found)
    count = f"{len(found)} famil{'ies' if len(found) > 1 else 'y'}"
    refused = f"<details><summary>{count} cannot work here</summary><ul>{items}</ul></details>"
    return f'<p class="family-about">{lines}</p>{refused}'


def refusals(values: Mapping[str, Any]) -> list[str]:
    """Return why families, perhaps the chosen one too, cannot work with the chosen dimensions and patches."""
    shown = {fact: values[option] for fact, option in FACTS.items() if values[option]}
    found = []
    for family in FAMILIES.values():
        facts = Facts(**shown)
        if family.like:
            facts = replace(facts, layers=family.like[1])
        for obstacle in family.obstacles(facts)[:1]:
            found.append(f"{family.title}: {obstacle.what}")
    return found
