"""`segcore models`: every family of networks, what it is good for, what it costs and what it needs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from segcore.cli.output import write_json, write_lines
from segcore.cli.parser import Parser
from segcore.families import FAMILIES, Family


def models_command(words: list[str]) -> int:
    """Run `segcore models`; networks are not built for it."""
    parser = Parser("models", "List the families of networks that model.family may name.")
    parser.add_argument("--json", action="store_true", help="write one JSON object to stdout")
    options = parser.parse_args(words)
    families = list(FAMILIES.values())
    if options.json:
        write_json({"families": [family_content(family) for family in families]})
    else:
        write_lines([line for family in families for line in family_lines(family)])
    return 0


def family_content(family: Family) -> dict[str, Any]:
    """Return what is known of a family as JSON."""
    return {
        "name": family.name,
        "title": family.title,
        "kinds": list(family.kinds),
        "dimensions": list(family.modes),
        "constraints": list(family.needs),
        "options": [f"model.{name}" for name in family.options],
        "parameters": family.parameters,
        "good_for": family.good_for,
        "costs": family.costs,
        "installed": not family.package or find_spec(family.package) is not None,
    }


def family_lines(family: Family) -> list[str]:
    """Return what is known of a family for a person."""
    missing = bool(family.package) and find_spec(family.package) is None
    about = (
        f"{family.parameters / 1e6:.1f} M parameters, {', '.join(family.kinds)}, {', '.join(family.modes)}"
    )
    lines = [
        f"{family.name:<16}  {family.title}: {about}{' (not installed)' if missing else ''}",
        f"{'':<16}  {family.good_for}",
        f"{'':<16}  {family.costs}",
        f"{'':<16}  Needs {'; '.join(family.needs)}.",
    ]
    return [*lines, ""]
