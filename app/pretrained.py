"""Choose a model: a registered one, that of a finished run, or a file with its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import views
from app.files_input import FileInput, file_input
from app.jobview import JobView
from app.services import Services
from app.session import Problem, attempt
from segcore.addresses import FOREIGN, is_foreign, is_model_file
from segcore.sidecar import how_to_describe

REGISTERED, RUN, FILES = "Registered", "Finished run", "Files"


@dataclass(frozen=True)
class Pretrained:
    """The components of the model choice.

    `chosen` holds what `Services.model_source` takes (registered model, run id, path of a model file),
    `config_file` the path of its configuration; both "" while nothing usable is chosen. `next` leads to the
    segmentation with it, `further` to its training on other images.
    """

    kind: gr.Radio
    registered: gr.Dropdown
    run: gr.Dropdown
    weights: FileInput
    config: FileInput
    chosen: gr.Textbox
    config_file: gr.Textbox
    next: gr.Button
    further: gr.Button
    status: gr.HTML


def build_pretrained(services: Services) -> Pretrained:
    """Build the model choice within the current layout."""
    kind = gr.Radio(
        [REGISTERED, RUN, FILES], value=REGISTERED, label="Where is the model?", elem_id="model-kind"
    )
    registered = gr.Dropdown(
        [], value=None, label="Registered model", allow_custom_value=True, elem_id="registered-model"
    )
    run = gr.Dropdown(
        [], value=None, label="Finished run", allow_custom_value=True, visible=False, elem_id="finished-run"
    )
    with gr.Column(visible=False) as files:
        weights = file_input(services, "Model file", (".pth", *FOREIGN), name="weights")
        config = file_input(services, "Its configuration (.json)", (".json",), name="model-config")
    status = gr.HTML(elem_id="model-status")
    chosen = gr.Textbox("", visible="hidden", elem_id="chosen-model")
    config_file = gr.Textbox("", visible="hidden")
    next_step = gr.Button(
        "Next: Segmentation →", variant="primary", interactive=False, elem_id="next-segment"
    )
    further = gr.Button(
        "Train it further on my images", size="sm", interactive=False, elem_id="train-further"
    )  # fmt: skip

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [status, chosen, config_file, next_step, further]
    inputs = [kind, registered, run, weights.path, config.path]
    kind.input(
        lambda chosen_kind: (
            gr.Dropdown(visible=chosen_kind == REGISTERED),
            gr.Dropdown(visible=chosen_kind == RUN),
            gr.Column(visible=chosen_kind == FILES),
        ),
        kind, [registered, run, files], **quiet,
    )  # fmt: skip
    registered.focus(lambda: gr.Dropdown(choices=model_choices(services)), outputs=registered, **quiet)
    run.focus(lambda: gr.Dropdown(choices=run_choices(services)), outputs=run, **quiet)
    gr.on(
        [kind.change, registered.change, run.change, weights.path.change, config.path.change],
        lambda *values: examine(services, *values), inputs, outputs,
        show_progress="minimal", show_progress_on=status, trigger_mode="always_last", concurrency_limit=4,
        api_visibility="private",
    )  # fmt: skip
    return Pretrained(
        kind, registered, run, weights, config, chosen, config_file, next_step, further, status
    )  # fmt: skip


def model_choices(services: Services) -> list[tuple[str, str]]:
    """Return `(text, models:/…)` of every alias and version; empty if the registry does not answer."""
    found = attempt(services.models.list)
    return (
        [] if isinstance(found, Problem) else [choice for model in found for choice in version_choices(model)]
    )


def version_choices(model: Any) -> list[tuple[str, str]]:
    """Return `(text, models:/…)` of one registered model: its aliases first, then its versions."""
    aliases = [
        (f"{model.name} @{alias} (version {version})", f"models:/{model.name}@{alias}")
        for alias, version in sorted(model.aliases.items())
    ]
    versions = [
        (f"{model.name} version {item.version}", f"models:/{model.name}/{item.version}")
        for item in model.versions
    ]
    return aliases + versions


def model_label(services: Services, model: str) -> str:
    """Return how a chosen model is called on the page."""
    if model.startswith("models:/"):
        return model.removeprefix("models:/")
    if is_model_file(model):
        return model.rpartition("/")[2]
    view = attempt(lambda: services.job(model))
    return model if isinstance(view, Problem) else run_label(view)


def run_label(view: JobView) -> str:
    """Return session, id and best score of a run."""
    return f"{view.session} · {view.id}" + (f" · {view.best.score_text}" if view.best else "")


def run_choices(services: Services) -> list[tuple[str, str]]:
    """Return `(text, run id)` of every training that left a model, newest first."""
    return [(run_label(view), view.id) for view in services.runs() if view.has_model]


def examine(
    services: Services,
    kind: str,
    registered: str | None,
    run: str | None,
    weights: str | None,
    config: str | None,
) -> tuple:
    """Return updates of status, chosen model, its configuration and the two ways on for what is chosen."""
    if kind == FILES:
        return _examine_files(services, weights, config)
    model = registered if kind == REGISTERED else run
    if not model:
        return _nothing(_hint(services, kind))
    source = attempt(lambda: services.model_source(model))
    if isinstance(source, Problem):
        return _nothing(views.mark_html("error", source.message, source.remedy))
    return views.mark_html("ok", "The model can be used."), model, "", *_ways_on(True)


def _hint(services: Services, kind: str) -> str:
    if kind == RUN and not run_choices(services):
        return views.mark_html("info", "No training has finished yet.", "Train a model from scratch first.")
    if kind == REGISTERED and not model_choices(services):
        return views.mark_html(
            "info",
            "No model is registered yet.",
            "Register the model of a run in the tab Models, or choose a run.",
        )
    return ""


def _examine_files(services: Services, weights: str | None, config: str | None) -> tuple:
    if not weights or not config:
        beside = "its description (.json)" if weights and is_foreign(weights) else "its config.json"
        missing = " and ".join(
            name for name, path in (("a model file", weights), (beside, config)) if not path
        )
        remedy = how_to_describe(Path(weights).name) if weights and is_foreign(weights) else ""
        return _nothing(views.mark_html("info", f"Choose {missing}.", remedy))
    answer = attempt(lambda: services.check_model(weights, config))
    if isinstance(answer, Problem):
        return _nothing(views.mark_html("error", answer.message, answer.remedy))
    if not answer.ok:
        return _nothing(views.mark_html("error", answer.message, answer.remedy))
    text = views.mark_html("ok", answer.message)
    return text, weights, config, *_ways_on(True, trainable=not is_foreign(weights))


def _nothing(status: str) -> tuple:
    return status, "", "", *_ways_on(False)


def _ways_on(usable: bool, trainable: bool = True) -> tuple:
    return gr.Button(interactive=usable), gr.Button(interactive=usable and trainable)
