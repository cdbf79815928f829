"""Models: names, versions and aliases; register a run's model, make it champion, roll back, remove."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.confirm import build_confirm
from app.pick_table import pick_table, picked_id, table_value
from app.runbook import moment_text
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html
from segcore.errors import ModelError

if TYPE_CHECKING:
    from segcore.tracking.models import ModelVersion, RegisteredModel

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
HEADER = ("Model", "Version", "Aliases", "Val. score", "Classes", "Session", "Run", "Registered")
LOADING = '<p class="subdued" role="status">Reading the registry; the first time takes a few seconds …</p>'
EMPTY = (
    "No model is registered yet. Choose a finished run below and give its model a name: "
    "then others find it, and step 4 and the command line can use it by that name."
)
CHAMPION = "champion"


def build(services: Services, tab: gr.Tab) -> None:
    """Build the tab, inside `with gr.Tab(...) as tab`; the registry is read when the tab is opened."""
    with gr.Row():
        status = gr.HTML(elem_id="models-status")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90, elem_id="models-refresh")
    table = pick_table("models-table")
    message = gr.HTML(elem_id="models-message")
    with gr.Row():
        with gr.Column(min_width=300):
            gr.Markdown("### Register the model of a run")
            run = _choice("Run with a model", "models-run")
            name = gr.Textbox(label="Name", placeholder="membrane-unet", max_lines=1, elem_id="models-name")
            register_button = gr.Button("Register", variant="primary", size="sm", elem_id="models-register")
        with gr.Column(min_width=300):
            gr.Markdown("### Change a registered version")
            version = _choice("Version", "models-version", "Or click a line of the table.")
            alias = gr.Textbox(CHAMPION, label="Alias", max_lines=1, elem_id="models-alias")
            with gr.Row():
                give = gr.Button("Give it the alias", size="sm", min_width=240, elem_id="models-give")
                back = gr.Button("Roll the alias back …", size="sm", min_width=240, elem_id="models-back")
                take = gr.Button("Take the alias away …", size="sm", min_width=240, elem_id="models-take")
                remove = gr.Button(
                    "Remove version …", size="sm", min_width=240, variant="stop", elem_id="models-remove"
                )
            roll = build_confirm("Roll back", "models-back")
            without = build_confirm("Take away", "models-take")
            confirm = build_confirm("Remove the version", "models-remove")

    shown = [status, table, run, version]

    def reload() -> Iterator[tuple[Any, ...]]:
        # Gradio shows what is yielded only if the event is itself a generator function.
        yield from load(services)

    gr.on([refresh.click, tab.select], reload, outputs=shown, **QUIET)
    table.select(picked_id, outputs=version, trigger_mode="always_last", **QUIET)
    roll.ask(back, lambda chosen, name: rollback_question(services, chosen, name), [version, alias])
    without.ask(take, lambda chosen, name: taking_question(services, chosen, name), [version, alias])
    confirm.ask(remove, lambda chosen: removal_question(services, chosen), [version])
    actions: list[tuple[gr.Button, Callable[..., str], list[Any]]] = [
        (register_button, register, [run, name]),
        (give, set_alias, [version, alias]),
        (roll.yes, roll_back, [version, alias]),
        (without.yes, take_alias, [version, alias]),
        (confirm.yes, remove_version, [version]),
    ]
    for button, action, inputs in actions:
        button.click(
            _said(services, action), inputs, message, api_visibility="private", show_progress_on=message
        ).then(reload, outputs=shown, **QUIET)


def load(services: Services) -> Iterator[tuple[Any, ...]]:
    """Yield updates of status, table and the two lists: first that it loads, then what there is."""
    yield LOADING, gr.skip(), gr.skip(), gr.skip()
    runs = [
        (f"{job.id} · {job.session}", job.id)
        for job in services.jobs("train")
        if job.state.ended and (job.folder / "best_model.pth").is_file()
    ]
    models = attempt(services.models.list)
    if isinstance(models, Problem):
        text = mark_html("error", models.message, models.remedy)
        yield text, table_value(HEADER, []), gr.Dropdown(choices=runs), gr.skip()
        return
    versions = [version for model in models for version in model.versions]
    yield (
        "" if versions else mark_html("info", EMPTY),
        table_value(HEADER, rows(models)),
        gr.Dropdown(choices=runs),
        gr.Dropdown(choices=[_label(version) for version in versions]),
    )


def rows(models: list[RegisteredModel]) -> list[tuple[str, list[str]]]:
    """Return the lines of the table with their ids, see `HEADER`."""
    return [
        (
            f"{version.name}/{version.version}",
            [
                version.name,
                str(version.version),
                ", ".join(version.aliases),
                _score(version),
                ", ".join(version.class_names or map(str, version.class_values)),
                version.session,
                version.job_id,
                moment_text(version.created),
            ],
        )
        for model in models
        for version in model.versions
    ]


def _score(version: ModelVersion) -> str:
    """Return the validation Dice of a version, or the F1 of its objects."""
    if version.val_f1 is not None:
        return f"F1 {version.val_f1:.3f}"
    return "–" if version.val_dice is None else f"Dice {version.val_dice:.3f}"


def register(services: Services, run: str | None, name: str) -> str:
    """Register the model of a run under a name and say which version it is."""
    if not run:
        raise ModelError("No run is chosen.", "Choose a run with a model.")
    version = services.register(run, name.strip())
    return f"Run {run} is {version.name}, version {version.version}."


def set_alias(services: Services, chosen: str | None, alias: str) -> str:
    """Give the alias to the chosen version."""
    version = _version(services, chosen)
    services.models.set_alias(version.name, alias.strip(), version.version)
    return f"models:/{version.name}@{alias.strip()} is now version {version.version}."


def roll_back(services: Services, chosen: str | None, alias: str) -> str:
    """Give the alias back to the version that had it before."""
    name = _version(services, chosen).name
    version = services.models.rollback(name, alias.strip())
    return f"models:/{name}@{alias.strip()} is version {version.version} again."


def take_alias(services: Services, chosen: str | None, alias: str) -> str:
    """Take the alias away from the version that has it."""
    holder = _holder(services, chosen, alias)
    services.models.remove_alias(holder.name, alias.strip())
    return f"models:/{holder.name}@{alias.strip()} leads nowhere now; version {holder.version} stays."


def remove_version(services: Services, chosen: str | None) -> str:
    """Remove the chosen version from the registry."""
    version = _version(services, chosen)
    services.models.delete_version(version.name, version.version)
    return f"Version {version.version} of {version.name} is removed; its run {version.job_id} stays."


def rollback_question(services: Services, chosen: str | None, alias: str) -> str:
    """Return what rolling back changes."""
    version = _version(services, chosen)
    return (
        f"Everyone who uses models:/{version.name}@{alias.strip()} gets the version that had it before. "
        "No model is lost."
    )


def taking_question(services: Services, chosen: str | None, alias: str) -> str:
    """Return what is lost with the alias; ModelError if no version has it."""
    holder = _holder(services, chosen, alias)
    return (
        f"models:/{holder.name}@{alias.strip()} is version {holder.version} and leads nowhere afterwards. "
        "The version stays."
    )


def removal_question(services: Services, chosen: str | None) -> str:
    """Return what is lost with the chosen version; ModelError if it cannot be removed."""
    version = _version(services, chosen)
    if version.aliases:
        raise ModelError(
            f"Version {version.version} of {version.name} is its {' and '.join(version.aliases)}.",
            "Give the alias to another version, or take it away, first.",
        )
    return (
        f"Version {version.version} of {version.name} disappears from the registry: models:/{version.name}/"
        f"{version.version} leads nowhere afterwards. The run {version.job_id} and its files stay."
    )


def _version(services: Services, chosen: str | None) -> ModelVersion:
    name, _, number = (chosen or "").rpartition("/")
    if not name or not number.isdigit():
        raise ModelError("No version is chosen.", "Click a line of the table.")
    return services.models.describe(f"models:/{name}/{number}")


def _holder(services: Services, chosen: str | None, alias: str) -> ModelVersion:
    return services.models.describe(f"models:/{_version(services, chosen).name}@{alias.strip()}")


def _said(services: Services, action: Callable[..., str]) -> Callable[..., str]:
    """Return the action as an event: it says what it did, or what stood in the way."""

    def act(*values: Any) -> str:
        done = attempt(lambda: action(services, *values))
        if isinstance(done, Problem):
            return mark_html("error", done.message, done.remedy)
        return mark_html("ok", done)

    return act


def _label(version: ModelVersion) -> tuple[str, str]:
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return f"{version.name}, version {version.version}{aliases}", f"{version.name}/{version.version}"


def _choice(label: str, name: str, info: str | None = None) -> gr.Dropdown:
    return gr.Dropdown([], value=None, label=label, info=info, allow_custom_value=True, elem_id=name)
