"""Whether a run fits into memory: the share it needs, a warning, and the settings that fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import forms, views
from app.facts import Stack
from app.memory_desk import MemoryView
from app.services import Services
from app.session import Problem, attempt
from segcore.footprint import with_options

SETTLE_SECONDS = 2.0
"""The memory is measured when the form has been left alone for so long."""
FIELDS = forms.training_fields()
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}


@dataclass(frozen=True)
class MemoryPanel:
    """The part of step 2 that says whether the run fits into memory."""

    text: gr.HTML
    fit: gr.Button
    proposal: gr.Textbox
    """Options that would fit, as JSON by their name."""
    timer: gr.Timer

    @property
    def shown(self) -> list[Any]:
        """The components `show` updates, in its order."""
        return [self.text, self.fit, self.proposal, self.timer]


def build() -> MemoryPanel:
    """Build the panel in the current layout."""
    return MemoryPanel(
        text=gr.HTML(elem_id="memory"),
        fit=gr.Button("Use the largest settings that fit", size="sm", visible=False, elem_id="fit-memory"),
        proposal=gr.Textbox(visible="hidden"),
        timer=gr.Timer(SETTLE_SECONDS, active=False),
    )


def wire_proposal(panel: MemoryPanel, values: Sequence[Any]) -> None:
    """Let the button put the proposal into the form, whose components are `values`."""
    panel.fit.click(apply_proposal, [panel.proposal, *values], values, **QUIET)


def wire_timer(services: Services, panel: MemoryPanel, inputs: Sequence[Any], count: int) -> None:
    """Measure when the form has settled; the first `count` inputs are the data, the others the form."""
    panel.timer.tick(
        lambda *shown: show(services, shown[:count], shown[count:], measure=True),
        inputs,
        panel.shown,
        **QUIET,
    )


def show(services: Services, data: Sequence[Any], shown: Sequence[Any], measure: bool = False) -> list[Any]:
    """Return updates of `MemoryPanel.shown`: what is needed of what there is, and a way out.

    The timer runs until it is measured; `measure` begins with it.
    """
    chosen = dict(zip(forms.DATA, data, strict=True))
    config, _ = forms.check(forms.read_training(shown, chosen))
    stack = described(services, chosen)
    if config is None or stack is None:
        return ["", gr.Button(visible=False), "", gr.Timer(active=False)]
    if measure:
        attempt(lambda: services.memory.measure(config))
    view = attempt(lambda: services.memory.need(config, stack))
    if isinstance(view, Problem):
        return [
            views.mark_html("warning", view.message, view.remedy),
            gr.Button(visible=False), "", gr.Timer(active=False),
        ]  # fmt: skip
    proposal = view.need.proposal if view.need else None
    return [
        memory_html(view),
        gr.Button(visible=bool(proposal)),
        json.dumps(proposal) if proposal else "",
        gr.Timer(SETTLE_SECONDS, active=view.pending),
    ]


def memory_html(view: MemoryView) -> str:
    """Return the share of the memory a run needs, and a warning if that is more than there is."""
    need = view.need
    state = "measuring …" if view.pending else "" if need and need.measured else "estimated"
    if need is None:
        return _line(state or "not known")
    share = f"{need.ratio:.2g}" if need.ratio < 0.095 else f"{need.ratio:.1f}"
    have = views.bytes_text(need.have)
    amounts = f"{views.bytes_text(need.need)} of {have}"
    line = _line(f"{share} of what you have: {amounts}" + (f" ({state})" if state else ""))
    if need.ratio <= 1:
        return line
    text = f"The training needs {views.bytes_text(need.need)} of memory, but only {have} are free."
    names = {field.path: field.label for field in FIELDS}
    settings = ", ".join(f"{names[path]} {value}" for path, value in (need.proposal or {}).items())
    remedy = (
        f"These would fit: {settings}."
        if settings
        else "No smaller network or patch would fit: close other programs, or train on a part of the stack."
    )
    return line + views.mark_html("warning", text, remedy)


def _line(text: str) -> str:
    # As wide as the names in the list of costs above it.
    return f'<dl class="cost-list"><dt style="min-width:6.6em">Memory</dt><dd>{text}</dd></dl>'


def apply_proposal(proposal: str, *shown: Any) -> list[Any]:
    """Return updates of the form with the settings that fit; everything else stays."""
    config, _ = forms.check(forms.read_training(shown, {}))
    if config is None or not proposal:
        return list(shown)
    wanted = json.loads(proposal)
    changed = forms.updates(with_options(config, wanted), FIELDS)
    return [new if field.path in wanted else gr.skip() for field, new in zip(FIELDS, changed, strict=True)]


def described(services: Services, chosen: Mapping[str, Any]) -> Stack | None:
    """Return the images that step 1 shows, None without any that can be read."""
    config, _ = forms.check({"data": forms.read_data(chosen)}) if chosen["images"] else (None, {})
    found = attempt(lambda: services.data.stack(config.data)) if config else None
    return found if isinstance(found, Stack) else None
