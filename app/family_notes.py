"""What the form says of a family of networks: its two lines, and which others the options rule out."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from segcore.families import FAMILIES, Facts


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
    refused = f"<details><summary>{len(found)} families cannot work here</summary><ul>{items}</ul></details>"
    return f'<p class="family-about">{lines}</p>{refused}'


def refusals(values: Mapping[str, Any]) -> list[str]:
    """Return why each of the other families cannot work with the chosen dimensions and patches."""
    found = []
    for family in FAMILIES.values():
        layers = family.like[1] if family.like else values["model.layers"]
        encoder = values["model.encoder"] if "encoder" in family.options else ""
        mode, patch, features = (values[f] for f in ("data.mode", "data.patch_size", "model.features"))
        facts = Facts(mode, patch, layers, encoder=encoder, features=features)
        for obstacle in family.obstacles(facts)[:1]:
            found.append(f"{family.title}: {obstacle.what}")
    return found
