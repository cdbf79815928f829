"""Step 2: the form, generated from RunConfig; presets; what the run will cost in time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app import choosing, dividing, form_layout, forms, memory_panel, views
from app.facts import Stack
from app.family_notes import family_html
from app.forms import FormField
from app.memory_panel import MemoryPanel
from app.services import Services
from app.session import Problem, attempt
from segcore.config import RunConfig
from segcore.presets import PRESETS

FIELDS = forms.training_fields()


@dataclass(frozen=True)
class ConfigureStep:
    """What other parts of the page need from step 2: the values in the order of `FIELDS`, and the buttons."""

    values: list[Any]
    back: gr.Button
    next: gr.Button
    presets: dict[str, gr.Button]
    errors: dict[str, gr.HTML]
    boxes: dict[str, gr.Column]
    """What holds a field that is hidden as long as it says nothing, by option."""
    findings: gr.HTML
    family: gr.HTML
    """What the chosen family is good for, and which others cannot work here."""
    choosing: choosing.Panel
    cost: gr.HTML
    memory: MemoryPanel

    def value_of(self, path: str) -> Any:
        """Return the component of an option."""
        return next(item for field, item in zip(FIELDS, self.values, strict=True) if field.path == path)


def build(services: Services) -> ConfigureStep:
    """Build step 2 inside its `gr.Step`."""
    values: dict[str, gr.components.Component] = {}
    errors: dict[str, gr.HTML] = {}
    boxes: dict[str, gr.Column] = {}
    with gr.Row(equal_height=True):
        presets = {
            name: gr.Button(name.capitalize(), size="sm", min_width=120, elem_id=f"preset-{name}")
            for name in PRESETS
        }
    with gr.Row():
        for section, title in forms.GROUPS.items():
            with gr.Column(variant="panel", min_width=270, elem_classes="card"):
                gr.Markdown(f"### {title}")
                _add_fields(_fields(section, folded=False), values, errors, boxes)
                folded = [*_fields(section, folded=True), *_also(section)]
                for heading in form_layout.headed(folded):
                    name = f"more-{heading.title or section}".lower().replace(" ", "-")
                    with gr.Accordion(heading.title or "More options", open=False, elem_id=name):
                        _add_fields(heading.fields, values, errors, boxes)
                if section == "model":
                    family = gr.HTML(family_html(_defaults()), elem_id="family-about")
                    chooser = choosing.build()
                if section == "data":
                    findings = gr.HTML(elem_id="form-findings")
        with gr.Column(variant="panel", min_width=230, elem_classes="card cost"):
            gr.Markdown("### Run")
            _add_fields(_fields("", folded=False), values, errors, boxes)
            cost = gr.HTML(elem_id="cost")
            memory = memory_panel.build()
            errors[""] = gr.HTML(visible=False, elem_id="form-problem")
            next_step = gr.Button("Next: Training →", variant="primary", elem_id="next-train")
            back = gr.Button("← Back to the data", size="sm")
    gr.Markdown(forms.step_help_html("step-configure"))
    ordered = [values[field.path] for field in FIELDS]
    for name, button in presets.items():
        button.click(
            lambda *shown, name=name: apply_preset(name, shown), ordered, ordered,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    memory_panel.wire_proposal(memory, ordered)
    choosing.wire_use(chooser, values["model.family"])
    return ConfigureStep(
        ordered, back, next_step, presets, errors, boxes, findings, family, chooser, cost, memory
    )


def wire(services: Services, step: ConfigureStep, data: Sequence[Any], checked: Dependency) -> None:
    """Keep errors, cost and presets true whenever a field or `data` (see `forms.DATA`) changes.

    Gradio calls without end if several events that keep only the last call listen to one trigger. So what
    depends on the data follows `checked`, the event of step 1, and nothing here listens to the data itself.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}
    inputs, count = [*data, *step.values], len(data)
    problems = [step.errors[path] for path in error_places()]
    boxes = [step.boxes[path] for path in conditional()]
    judging: dict[str, Any] = {
        "fn": lambda *shown: judge(services, shown[:count], shown[count:]),
        "inputs": inputs,
        "outputs": [*problems, *boxes, step.family, step.cost, step.next, *step.presets.values()],
        **quiet,
    }
    remembering: dict[str, Any] = {
        "fn": lambda *shown: memory_panel.show(services, shown[:count], shown[count:]),
        "inputs": inputs,
        "outputs": step.memory.shown,
        **quiet,
    }
    checking: dict[str, Any] = {
        "fn": lambda *shown: check_data(services, shown[:count], shown[count:]),
        "inputs": inputs,
        "outputs": step.findings,
        **quiet,
    }
    proposing: dict[str, Any] = {
        "fn": lambda ticked, *shown: choosing.show(services, ticked, shown[:count], shown[count:]),
        "inputs": [step.choosing.families, *inputs],
        "outputs": step.choosing.shown,
        # Families may lose their place while the page still has them ticked, which Gradio would refuse.
        "preprocess": False,
        **quiet,
    }
    own = [item for field, item in zip(FIELDS, step.values, strict=True) if field.path != "data.labels_as"]
    changed = gr.on([item.change for item in own], trigger_mode="always_last", **judging)
    for event in (changed, checked.then(**judging)):
        event.then(**proposing).then(**remembering).then(**checking)
    memory_panel.wire_timer(services, step.memory, inputs, count)


def error_places() -> list[str]:
    """Return the option of every error line, "" for the line of the whole form."""
    return [*(field.path for field in FIELDS), ""]


def conditional() -> list[str]:
    """Return the options whose fields are hidden as long as they say nothing, in the order of the form."""
    return [field.path for field in FIELDS if field.path in form_layout.APPLIES]


def apply_preset(name: str, shown: Sequence[Any]) -> list[Any]:
    """Return what the form shows after a preset; what the preset does not name stays."""
    chosen = forms.preset_values(name, FIELDS)
    return [chosen.get(field.path, value) for field, value in zip(FIELDS, shown, strict=True)]


def judge(services: Services, data: Sequence[Any], shown: Sequence[Any]) -> list[Any]:
    """Return updates of the error lines, of fields that may say nothing, of cost, Next and presets."""
    chosen = dict(zip(forms.DATA, data, strict=True))
    config, problems = forms.check(forms.read_training(shown, chosen))
    lines = [
        gr.HTML(_error_html(problems[path]) if path in problems else "", visible=path in problems)
        for path in error_places()
    ]
    by_path = dict(zip((field.path for field in FIELDS), shown, strict=True))
    # Hidden, not left out: the page forgets what a field holds that is not there.
    boxes: list[Any] = [
        gr.Column(elem_classes=_classes(form_layout.applies(path, by_path) or path in problems))
        for path in conditional()
    ]
    known = memory_panel.described(services, chosen)
    texts = [gr.Button(preset_text(services, name, shown, known)) for name in PRESETS]
    told = [*lines, *boxes, family_html(by_path)]
    if config is None:
        return [*told, "", gr.Button(interactive=False), *texts]
    return [*told, cost_html(services, config, known), gr.Button(interactive=True), *texts]


def check_data(services: Services, data: Sequence[Any], shown: Sequence[Any]) -> str:
    """Return what the options find wrong in the data, and how they divide it; "" without data."""
    chosen = dict(zip(forms.DATA, data, strict=True))
    config, _ = forms.check(forms.read_training(shown, chosen))
    if config is None or not (chosen["images"] and chosen["labels"]):
        return ""
    report = attempt(lambda: services.check(chosen["images"], chosen["labels"], config.data))
    if isinstance(report, Problem):
        return views.mark_html("error", report.message, report.remedy)
    grave = [finding for finding in report.findings if finding.level != "info"]
    lines = [views.mark_html(item.level, item.what, item.remedy, item.where) for item in grave]
    return "".join(lines) + (dividing.split_html(services, config.data) if report.ok else "")


def cost_html(services: Services, config: RunConfig, stack: Stack | None) -> str:
    """Return what the configuration will cost: parameters, and the time on this machine where it is known."""
    estimate = attempt(lambda: services.estimate(config, stack))
    if isinstance(estimate, Problem):
        return views.mark_html("warning", estimate.message, estimate.remedy)
    count = estimate.parameters
    rows = [("Parameters", "counted when it is trained" if count is None else views.count_text(count))]
    if not config.model.kind.is_unet:
        rows.append(("Training time", "known after the first epoch"))
    elif stack is None:
        rows.append(("Training time", "known once data is chosen"))
    elif estimate.seconds is None:
        rows.append(("Training time", "this machine is still being measured"))
    else:
        rows.append(("Training time", about_text(estimate.seconds)))
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="cost-list">{items}</dl>'


def preset_text(services: Services, name: str, shown: Sequence[Any], stack: Stack | None) -> str:
    """Return the text of a preset's button: its name and how long it would take."""
    config, _ = forms.check(forms.read_training(apply_preset(name, shown), {}))
    if config is None or stack is None:
        return name.capitalize()
    estimate = attempt(lambda: services.estimate(config, stack))
    if isinstance(estimate, Problem) or estimate.seconds is None:
        return name.capitalize()
    return f"{name.capitalize()} · {about_text(estimate.seconds)}"


def about_text(seconds: float) -> str:
    """Return an estimate, which nobody knows to the second.

    Examples
    --------
    >>> about_text(3278), about_text(95), about_text(162_000)
    ('about 55 min', 'about 1 min 35 s', 'about 1 d 21 h')
    """
    unit = next((unit for unit in (86400, 3600, 60) if seconds >= 10 * unit), None)
    return f"about {views.duration_text(round(seconds / unit) * unit if unit else seconds)}"


def _defaults() -> dict[str, Any]:
    """Return what the form shows at first, by option."""
    return dict(zip((field.path for field in FIELDS), forms.from_config(RunConfig(), FIELDS), strict=True))


def _fields(section: str, folded: bool) -> list[FormField]:
    return [field for field in FIELDS if field.section == section and field.folded == folded]


def _also(section: str) -> list[FormField]:
    # The device belongs to no card of its own: it is a matter of how the network trains.
    if section != "training":
        return []
    return [*_fields("hardware", folded=True), *_fields("notify", folded=True)]


def _add_fields(
    fields: Sequence[FormField],
    values: dict[str, gr.components.Component],
    errors: dict[str, gr.HTML],
    boxes: dict[str, gr.Column],
) -> None:
    defaults = RunConfig()
    for field, value in zip(fields, forms.from_config(defaults, fields), strict=True):
        depends = field.path in form_layout.APPLIES
        with gr.Column(elem_classes=_classes(not depends), min_width=0) as box:
            if depends:
                boxes[field.path] = box
            values[field.path] = forms.component(field, value)
            errors[field.path] = gr.HTML(visible=False, elem_id=f"{forms.element_id(field.path)}-error")
            gr.Markdown(forms.help_html(field))


def _classes(there: bool) -> list[str]:
    return ["field"] if there else ["field", "absent"]


def _error_html(text: str) -> str:
    return f'<div class="field-error" role="alert">{escape(text)}</div>'
