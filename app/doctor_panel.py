"""DoctorPanel: what the data doctor proposes, with pictures before and after; repairs applied and undone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app import views
from app.examinations import Examination
from app.forms import all_fields
from app.session import Problem, attempt
from segcore.config import DataConfig
from segcore.data.doctor.proposal import Diagnosis, Proposal
from segcore.data.recipe import parse_recipe

HERE = Path(__file__).parent
PICTURED = 8
"""Proposals with a picture; each is two slices that are read and drawn."""
LONGEST_SIDE = 320


def doctor_panel(name: str) -> gr.HTML:
    """Build the panel in the current layout; its value comes from `doctor_value`.

    Its buttons trigger `apply`, see `chosen_key`, and `undo`, see `chosen_line`.
    """
    html, css, script = (
        (HERE / f"doctor_panel.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
    )
    return gr.HTML(
        {}, html_template=html, css_template=css, js_on_load=script, apply_default_css=False, elem_id=name
    )


def doctor_value(examination: Examination | None, data: DataConfig) -> dict[str, Any]:
    """Return what the panel shows; without an examination only the repairs that are made already."""
    applied = [_applied(line) for line in data.recipe]
    if examination is None:
        return {"text": "", "proposals": [], "applied": applied}
    if examination.problem is not None:
        problem = examination.problem
        return {"text": f"{problem.message} {problem.remedy}".strip(), "proposals": [], "applied": applied}
    if examination.diagnosis is None:
        return {"text": progress_text(examination), "proposals": [], "applied": applied}
    found = examination.diagnosis
    cards = [_card(item, at < PICTURED) for at, item in enumerate(found.proposals)]
    return {"text": summary_text(found), "proposals": cards, "applied": applied}


def progress_text(examination: Examination) -> str:
    """Return how far the doctor is.

    Examples
    --------
    >>> progress_text(Examination(done=12, total=60))
    'The data doctor looks at the images: 20 %'
    """
    share = f": {100 * examination.done // examination.total} %" if examination.total else " …"
    return f"The data doctor looks at the images{share}"


def summary_text(diagnosis: Diagnosis) -> str:
    """Return how much was found, and what was looked at if not everything."""
    count = len(diagnosis.proposals)
    if not count:
        found = "The data doctor has nothing to object to."
    else:
        found = f"The data doctor found {count} thing{'s' if count > 1 else ''}."
    return " ".join([found, *diagnosis.notes])


def badge(examination: Examination | None) -> str:
    """Return the title of the panel: how many proposals wait for a decision."""
    if examination is None or examination.diagnosis is None:
        return "Data doctor"
    repairs = sum(item.repairs for item in examination.diagnosis.proposals)
    return (
        f"Data doctor · {repairs} repair{'s' if repairs > 1 else ''} proposed" if repairs else "Data doctor"
    )


def chosen_key(event: gr.EventData) -> str:
    """Return the key of the proposal that is to be applied."""
    return str(event.key)


def chosen_line(event: gr.EventData) -> str:
    """Return the line of the recipe that is to be undone."""
    return str(event.line)


def without(data: DataConfig, line: str) -> DataConfig:
    """Return the options without one line of the recipe."""
    return data.model_copy(update={"recipe": [one for one in data.recipe if one != line]})


def find(proposals: Sequence[Proposal], key: str) -> Proposal | None:
    """Return the proposal of that key, None if the doctor proposes it no more."""
    return next((item for item in proposals if item.key == key), None)


def _card(proposal: Proposal, pictured: bool) -> dict[str, Any]:
    finding = proposal.finding
    labels = {field.path: field.label for field in all_fields()}
    options = (f"{labels.get(f'data.{name}', name)}: {value}" for name, value in proposal.options.items())
    changes = [*proposal.recipe, *options]
    card: dict[str, Any] = {
        "key": proposal.key,
        "level": finding.level,
        "what": finding.what,
        "where": finding.where,
        "remedy": finding.remedy,
        "changes": "; ".join(changes),
        "repairs": proposal.repairs,
    }
    drawn = attempt(proposal.picture) if pictured and proposal.picture else None
    if drawn is None or isinstance(drawn, Problem):
        return card
    before, after = (_small(picture) for picture in (drawn.before, drawn.after))
    return card | {"before": before, "after": after, "captions": list(drawn.captions)}


def _small(picture: Any) -> str:
    step = views.preview_step(picture.shape[0], picture.shape[1], LONGEST_SIDE)
    return views.png_uri(picture[::step, ::step])


def _applied(line: str) -> dict[str, str]:
    step = attempt(lambda: parse_recipe([line])[0])
    return {"line": line, "text": line if isinstance(step, Problem) else step.describe()}
