"""Choosing a family in step 2: one is proposed, and several can be tried beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app import forms, views
from app.memory_panel import described
from app.services import Services
from app.session import Problem, attempt
from segcore.config import ModelConfig, RunConfig
from segcore.families import FAMILIES, Facts, Material, Proposal, candidates, propose
from segcore.families.choosing import fits
from segcore.jobs.trials import facts_of, material_of

MINUTES = 2.0
LEAST = 2
"""Families that are tried at least: one alone is a training."""
FIELDS = forms.training_fields()
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}


@dataclass(frozen=True)
class Panel:
    """The components below the choice of the family."""

    text: gr.HTML
    """What is proposed, and why."""
    use: gr.Button
    proposed: gr.Textbox
    """Name of the proposed family."""
    families: gr.CheckboxGroup
    minutes: gr.Number
    crop: gr.Number
    start: gr.Button
    message: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """The components `show` updates, in its order."""
        return [self.text, self.use, self.proposed, self.families]

    @property
    def asked(self) -> list[Any]:
        """What `start` is given beside data and form."""
        return [self.families, self.minutes, self.crop]


def build() -> Panel:
    """Build the panel in the current layout."""
    config, material = RunConfig(), Material()
    facts, chosen = facts_of(config), config.model.family
    proposal = propose(facts, material)
    text = gr.HTML(proposal_html(proposal, chosen), elem_id="family-proposal")
    use = gr.Button("Use it", size="sm", visible=proposal.name != chosen, elem_id="use-family")
    proposed = gr.Textbox(proposal.name, visible="hidden")
    with gr.Accordion("Try several families", open=False, elem_id="try-families"):
        families = gr.CheckboxGroup(
            choices_of(facts, material), value=list(candidates(facts, material)), label="Families",
            info="Each trains equally long on the same images; then they stand side by side.",
            interactive=True, elem_id="tried-families",
        )  # fmt: skip
        minutes = gr.Number(MINUTES, label="Time for each (min)", elem_id="try-minutes")
        crop = gr.Number(
            0, precision=0, label="Crop (px)", elem_id="try-crop",
            info="Use only the middle of every image, so many px wide and high; 0 uses the whole images.",
        )  # fmt: skip
        start = gr.Button("Try all of them", size="sm", elem_id="start-trial")
        message = gr.HTML(elem_id="try-message")
    return Panel(text, use, proposed, families, minutes, crop, start, message)


def wire_use(panel: Panel, family: gr.components.Component) -> None:
    """Let the button put the proposal into the form."""
    panel.use.click(lambda name: name, panel.proposed, family, **QUIET)


def wire_start(
    services: Services, panel: Panel, data: Sequence[Any], values: Sequence[Any], places: Sequence[Any]
) -> None:
    """Let the button queue the trial; `places` are the walkthrough and the run that step 3 shows."""
    asked, count = len(panel.asked), len(data)

    def begin(*shown: Any) -> tuple[Any, Any, str]:
        rest = shown[asked:]
        return start(services, shown[:asked], rest[:count], rest[count:])

    panel.start.click(begin, [*panel.asked, *data, *values], [*places, panel.message], **QUIET)


def show(
    services: Services, ticked: Sequence[str] | None, data: Sequence[Any], shown: Sequence[Any]
) -> list[Any]:
    """Return updates of `Panel.shown`: the proposal, and the families that can work.

    Parameters
    ----------
    services : Services
        The door to the engine.
    ticked : sequence of str
        Families that are ticked; those that can no longer work lose their tick.
    data, shown : sequence
        What step 1 has chosen, in the order of `forms.DATA`, and what the form shows.
    """
    values = dict(zip((field.path for field in FIELDS), shown, strict=True))
    facts, material = known(services, data, values)
    proposal = propose(facts, material)
    there = choices_of(facts, material)
    working = [name for _, name in there]
    kept = [name for name in ticked or () if name in working]
    return [
        proposal_html(proposal, values["model.family"]),
        gr.Button(visible=proposal.name != values["model.family"]),
        proposal.name,
        gr.CheckboxGroup(
            choices=there, value=kept if len(kept) >= LEAST else list(candidates(facts, material))
        ),
    ]


def known(services: Services, data: Sequence[Any], values: dict[str, Any]) -> tuple[Facts, Material]:
    """Return what decides between families: of the form, the images and the machine, as far as it is known.

    The form counts even where it is wrong, so that a family that cannot work is answered with one that can.
    """
    chosen = dict(zip(forms.DATA, data, strict=True))
    facts = Facts(
        values["data.mode"],
        values["data.patch_size"],
        values["model.layers"],
        slices=values["data.context_slices"],
        encoder=values["model.encoder"],
        features=values["model.features"],
        head=values["model.head"],
    )
    stack = described(services, chosen) if chosen["images"] else None
    machine = services.machine() if values["hardware.device"] != "cpu" else None
    slices = stack.planes if stack else 0
    learned = RunConfig().model_copy(update={"model": ModelConfig(head=values["model.head"])})
    return facts, material_of(learned, slices, machine)


def choices_of(facts: Facts, material: Material) -> list[tuple[str, str]]:
    """Return title and name of every family that can work."""
    return [
        (family.title, name)
        for name, family in FAMILIES.items()
        if material.kind in family.kinds and fits(family, facts)
    ]


def proposal_html(proposal: Proposal, chosen: str) -> str:
    """Return what is proposed and why; where it is chosen already, only that."""
    title = escape(FAMILIES[proposal.name].title)
    if proposal.name == chosen:
        return f'<p class="family-about">This is what is proposed for your data. {escape(proposal.why)}</p>'
    return f'<p class="family-about">Proposed: <strong>{title}</strong>. {escape(proposal.why)}</p>'


def start(
    services: Services,
    asked: Sequence[Any],
    data: Sequence[Any],
    shown: Sequence[Any],
) -> tuple[Any, Any, str]:
    """Queue the ticked families and lead to the first of them.

    Parameters
    ----------
    services : Services
        The door to the engine.
    asked : sequence
        Ticked families, minutes for each, and the side of the crop in px, 0 for none.
    data, shown : sequence
        What step 1 has chosen, in the order of `forms.DATA`, and what the form shows.

    Returns
    -------
    tuple
        Updates of the walkthrough, of the run that step 3 shows, and of the message here.
    """
    families, minutes, crop = asked
    if len(families or ()) < LEAST:
        return gr.skip(), gr.skip(), views.mark_html("error", "Tick two families or more.")
    values = forms.read_training(shown, dict(zip(forms.DATA, data, strict=True)))
    # The family of the form is not tried unless it is ticked: it may be one that cannot work.
    config, problems = forms.check(forms.merged(values, {"model": {"family": families[0]}}))
    if config is None:
        return gr.skip(), gr.skip(), views.mark_html("error", "\n".join(problems.values()))
    side = int(crop or 0)
    job = attempt(
        lambda: services.submit_trial(config, families, float(minutes or 0), (side, side) if side else ())
    )
    if isinstance(job, Problem):
        return gr.skip(), gr.skip(), views.mark_html("error", job.message, job.remedy)
    return gr.Walkthrough(selected=3), job.id, ""
