"""`segcore check --fix`: the data doctor's proposals, applied to a configuration and never to a file."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcore.card import read_config, write_config
from segcore.cli.parser import UsageError
from segcore.config import DataConfig, RunConfig
from segcore.data.collection import Collection, open_collection
from segcore.data.doctor import Diagnosis, Proposal, accept, examine
from segcore.data.doctor.proposal import ORDER
from segcore.errors import ConfigError, SegcoreError
from segcore.files import atomic_path
from segcore.workspace import Workspace

ROUNDS = 4
"""A repair may lay bare what the next one is needed for: examined again so many times."""
MARKS = {"error": "✗", "warning": "⚠", "info": "·"}
WEIGHTED = 12
"""Classes whose suggested weights are listed."""

Progress = Callable[[int, int], None]


@dataclass
class Treatment:
    """What was proposed and accepted in all rounds."""

    data: DataConfig
    proposals: list[Proposal] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    diagnosis: Diagnosis = field(default_factory=Diagnosis)


def add_fix_options(parser: ArgumentParser) -> None:
    """Add the options of the doctor to `segcore check`."""
    add = parser.add_argument
    add("--fix", action="store_true", help="propose repairs; they are made on reading, no file is changed")
    add("--yes", action="store_true", help="accept all repairs that training needs, without asking")
    add("--apply", metavar="KINDS", help="accept repairs of these kinds, for example shifted,leakage")
    add("--save", type=Path, metavar="FILE", help="configuration to write (default: in the workspace)")
    add("--pictures", type=Path, metavar="FOLDER", help="write a picture before and after every repair there")


def check_fix_options(options: Namespace, config: RunConfig) -> None:
    """Raise a UsageError if the options of the doctor make no sense."""
    given = [name for name in ("yes", "apply", "save", "pictures") if getattr(options, name)]
    if given and not options.fix:
        raise UsageError(f"--{given[0]} needs --fix.", "Add --fix to see what the data doctor proposes.")
    if options.fix and not config.data.labels:
        raise UsageError("--fix needs --data.labels.", "Give the labels: most repairs are about them.")
    strange = [kind for kind in _kinds(options.apply) if kind not in ORDER]
    if strange:
        raise UsageError(
            f"--apply {', '.join(strange)}: the data doctor knows no such repair.",
            f"Name some of {', '.join(ORDER)}; --fix alone says which of them these data need.",
        )
    if options.save and options.save.exists():
        try:
            read_config(options.save)
        except ConfigError as error:
            raise UsageError(
                f"--save {options.save} is there already and is no configuration: it would be lost.",
                "Choose another name.",
            ) from error


def treat(config: RunConfig, options: Namespace, progress: Progress, say: Callable[[str], None]) -> Treatment:
    """Examine the data and ask about every proposal, until nothing new is found.

    Parameters
    ----------
    config : RunConfig
        Options of the data.
    options : Namespace
        `yes` and `apply`.
    progress : callable
        Called with steps done and steps in all.
    say : callable
        Writes a line for the person who is asked.

    Raises
    ------
    ConfigError
        A repair that was there before is none.
    """
    treatment = Treatment(config.data)
    for _ in range(ROUNDS):
        treatment.diagnosis = examine(_collection(treatment.data), treatment.data, progress)
        known = {proposal.key for proposal in treatment.proposals}
        new = [proposal for proposal in treatment.diagnosis.proposals if proposal.key not in known]
        treatment.proposals += new
        chosen = [proposal for proposal in new if proposal.repairs and _wanted(proposal, options, say)]
        if not chosen:
            break
        treatment.accepted |= {proposal.key for proposal in chosen}
        treatment.data = accept(treatment.data, chosen)
    return treatment


def save_treatment(config: RunConfig, options: Namespace) -> Path:
    """Write the configuration with its repairs, and return where."""
    path: Path = options.save or default_place(config, Workspace.open(options.workspace))
    write_config(path.resolve(), config)
    return path.resolve()


def default_place(config: RunConfig, workspace: Workspace) -> Path:
    """Return a name in the workspace that is free, or belongs to the same images and labels."""
    name = Path(config.data.labels or "data").name.partition(".")[0] or "data"
    number = 1
    while True:
        path = workspace.root / "recipes" / f"{name}{'' if number == 1 else f'-{number}'}.recipe.json"
        try:
            known = read_config(path)[0].data
        except ConfigError:
            if not path.exists():
                return path
        else:
            if (known.images, known.labels) == (config.data.images, config.data.labels):
                return path
        number += 1


def write_pictures(proposals: Sequence[Proposal], folder: Path) -> list[Path]:
    """Write one PNG per proposal that can be drawn: before on the left, after on the right."""
    import numpy as np
    from PIL import Image

    written = []
    for number, proposal in enumerate(proposals, 1):
        if proposal.picture is None:
            continue
        try:
            picture = proposal.picture()
        except SegcoreError as error:
            sys.stderr.write(f"warning: no picture of {proposal.kind}: {error.message}\n")
            continue
        sides = [picture.before, picture.after]
        height = max(len(side) for side in sides)
        padded = [
            np.pad(side, ((0, height - len(side)), (0, 4), (0, 0)), constant_values=255) for side in sides
        ]
        path = folder.resolve() / f"{number:02d}-{proposal.kind}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(np.hstack(padded)).save(temporary, "PNG")
        written.append(path)
    return written


def proposal_content(treatment: Treatment) -> list[dict[str, Any]]:
    """Return the proposals as JSON."""
    return [
        {
            "kind": proposal.kind,
            **proposal.finding.model_dump(mode="json"),
            "recipe": list(proposal.recipe),
            "options": dict(proposal.options),
            "optional": proposal.optional,
            "confidence": round(proposal.confidence, 3),
            "accepted": proposal.key in treatment.accepted,
        }
        for proposal in treatment.proposals
    ]


def treatment_lines(treatment: Treatment) -> list[str]:
    """Return the proposals and suggested class weights for a person."""
    lines = []
    for proposal in treatment.proposals:
        lines += proposal_lines(proposal)
        if proposal.key in treatment.accepted:
            lines.append("    accepted")
        elif proposal.repairs:
            lines.append(
                f"    not applied{' (optional)' if proposal.optional else ''}: --apply {proposal.kind}"
            )
    if not treatment.proposals:
        lines.append("✓ the data doctor has nothing to propose")
    for kind, weights in treatment.diagnosis.weights.items():
        if len(weights) <= WEIGHTED:
            each = ", ".join(f"{value}: {weight:.3g}" for value, weight in weights.items())
            lines.append(f"class weights {kind}  {each}")
    return [*lines, *treatment.diagnosis.notes]


def proposal_lines(proposal: Proposal) -> list[str]:
    """Return a proposal for a person."""
    finding = proposal.finding
    changes = [*proposal.recipe, *(f"data.{name} = {value}" for name, value in proposal.options.items())]
    shown = changes[:5] + ([f"… {len(changes) - 5} more"] if len(changes) > 5 else [])
    head = (
        f"{MARKS[finding.level]} {proposal.kind}: {finding.where}: {finding.what} {finding.remedy}".rstrip()
    )
    return [head, *(f"    {change}" for change in shown)]


def _wanted(proposal: Proposal, options: Namespace, say: Callable[[str], None]) -> bool:
    if proposal.kind in _kinds(options.apply) or (options.yes and not proposal.optional):
        return True
    if options.yes or options.apply or options.json or not sys.stdin.isatty():
        return False
    for line in proposal_lines(proposal):
        say(line)
    default = "y/N" if proposal.optional else "Y/n"
    say(f"    Apply this repair? [{default}]")
    answer = sys.stdin.readline().strip().lower()
    return answer.startswith("y") if answer else not proposal.optional


def _kinds(text: str | None) -> list[str]:
    return [kind.strip() for kind in (text or "").split(",") if kind.strip()]


def _collection(data: DataConfig) -> Collection | None:
    try:
        return open_collection(data)
    except SegcoreError:  # the doctor looks at the images one by one, and the check says what is wrong
        return None
