"""Where an address or a click leads: tab, step, the run that is shown and the options it was given."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app import forms, views
from app.jobview import JobView
from app.pretrained import model_label
from app.services import Services
from app.session import Link, Problem, attempt
from segcore.addresses import is_model_file
from segcore.config import RunConfig

FIELDS = forms.training_fields()
PLACES = (
    "tabs", "walkthrough", "train_run", "infer_run", "banner", "resume_text", "resume_run", "resume",
    "viewed", *(f"data.{name}" for name in forms.DATA), "segmented", "segmented_axes", "annotated", "part",
    "model", "config_file", "source",
)  # fmt: skip
"""What an address can change, before the fields of the form."""


def open_link(services: Services, query: Mapping[str, str]) -> list[Any]:
    """Return updates of `PLACES` and the form for the parameters of an address.

    Without a run in the address, a run that is under way is offered.
    """
    link = Link.parse(query)
    changes: dict[str, Any] = {"train_run": "", "infer_run": "", "banner": gr.Row(visible=False)}
    # Who was faster than this answer and has opened another tab stays there.
    if link.tab != "segment":
        changes["tabs"] = gr.Tabs(selected=link.tab)
    if link.tab == "viewer" and link.path:
        changes["viewed"] = link.path
    view = attempt(lambda: services.job(link.run)) if link.run else None
    if isinstance(view, JobView):
        return _listed(changes | {"tabs": gr.Tabs(selected=link.tab)} | lead_to(services, view), view)
    if isinstance(view, Problem):
        changes |= {
            "banner": gr.Row(visible=True),
            "resume_text": views.mark_html("error", view.message, "Look for it in the tab Runs."),
            "resume": gr.Button(visible=False),
        }
        return _listed(changes, None)
    active = attempt(services.active)
    if isinstance(active, list) and active:
        changes |= offer(active[0])
    return _listed(changes, None)


def watch_run(services: Services, run: str) -> list[Any]:
    """Return updates of `PLACES` and the form that lead to a run."""
    view = attempt(lambda: services.job(run))
    if isinstance(view, Problem):
        text = views.mark_html("error", view.message, view.remedy)
        return _listed({"resume_text": text, "resume": gr.Button(visible=False)}, None)
    shown = {"tabs": gr.Tabs(selected="segment"), "banner": gr.Row(visible=False)}
    return _listed(shown | lead_to(services, view), view)


def offer(view: JobView) -> dict[str, Any]:
    """Return updates that offer to watch a run that is under way."""
    text = f"{'An' if view.evaluates else 'A'} {view.noun} of this workspace is under way"
    return {
        "banner": gr.Row(visible=True),
        "resume_text": f"{text}: {escape(view.session)}.",
        "resume_run": view.id,
        "resume": gr.Button(visible=True),
    }


def lead_to(services: Services, view: JobView) -> dict[str, Any]:
    """Return updates that show a run with the data and the model it was given."""
    data, inference = view.config.data, view.config.inference
    shown = services.data.shown(data)
    if view.kind == "train":
        return {
            "walkthrough": gr.Walkthrough(selected=3),
            "train_run": view.id,
            **{f"data.{name}": value for name, value in forms.shown_data(shown).items()},
            "source": model_of(services, view.config.training.start_from or ""),
        }
    return {
        "walkthrough": gr.Walkthrough(selected=4),
        "infer_run": view.id,
        "segmented": shown.images,
        "segmented_axes": data.axes or "",
        **({"annotated": shown.labels, "part": view.evaluates} if view.evaluates else {}),
        "model": as_choice(services, model_of(services, inference.model or "")),
        "config_file": services.relative(inference.config_file) if inference.config_file else "",
    }


def as_choice(services: Services, model: str) -> gr.Dropdown:
    """Return an update that shows `model` by its name although the list has not been read yet."""
    return gr.Dropdown(choices=[(model_label(services, model), model)], value=model)


def model_of(services: Services, source: str) -> str:
    """Return the choice of the page for what the services made of it: a run by its id, or a shown path."""
    path = Path(source)
    if path.is_absolute() and path.is_relative_to(services.workspace.models) and not is_model_file(path):
        return path.name
    return services.relative(source) if path.is_absolute() else source


def _listed(changes: Mapping[str, Any], view: JobView | None) -> list[Any]:
    if view is not None and view.kind == "train":
        form = forms.updates(view.config, FIELDS)
    else:
        # The session is named after the day the page is opened, not the day the server was started.
        today = RunConfig().session if view is None else gr.skip()
        form = [today if field.path == "session" else gr.skip() for field in FIELDS]
    return [*(changes.get(place, gr.skip()) for place in PLACES), *form]
