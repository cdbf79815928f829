"""The checkpoint picker: choose a kept epoch, see what it predicts, make it the model, register it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.checkpoint_store import Glance
from app.pick_table import pick_table, picked_id, table_value
from app.preview import frame_html
from app.services import Services
from app.session import Problem, attempt
from app.views import ClassEntry, legend_html, mark_html, overlay, table_html
from segcore.data.colouring import COLOURS
from segcore.errors import JobError, ModelError
from segcore.jobs.epochs import KeptEpoch

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
HEADER = ("Epoch", "Note", "Val. score", "Val. loss", "Train loss")
EMPTY = "No epoch is kept yet: the best one so far is here as soon as the first epoch has ended."
FEW = (
    "Only the best epoch is kept. To look at others as well, set “Keep every n-th epoch” "
    "(step 2, Training, Course of the run) before you start."
)
HINT = "Choose an epoch here, or a bold point of a curve, to see what it makes of a slice."
DIFFERENT = (255, 0, 255)  # no class has this colour
TELL_SECONDS = 0.5


@dataclass(frozen=True)
class Panel:
    """The components; `epoch` holds the chosen epoch as text, "" if none is: set it to choose another."""

    epoch: gr.Textbox
    known: gr.Textbox
    of: gr.Textbox
    hint: gr.HTML
    table: gr.HTML
    box: gr.Column
    scores: gr.HTML
    plane: gr.Slider
    mark: gr.Checkbox
    status: gr.HTML
    picture: gr.HTML
    use: gr.Button
    name: gr.Textbox
    register: gr.Button
    message: gr.HTML

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates; the rest follows from it when it has changed."""
        return [self.known]


def build() -> Panel:
    """Build the panel in the current layout."""
    epoch, known, of = (
        gr.Textbox("", visible="hidden", elem_id=f"checkpoints-{name}") for name in ("epoch", "known", "of")
    )
    hint = gr.HTML(mark_html("info", EMPTY), elem_id="checkpoints-hint")
    table = pick_table("checkpoints-table")
    with gr.Column(visible=False, elem_id="checkpoints-box") as box:
        scores = gr.HTML(elem_id="checkpoints-scores")
        plane = gr.Slider(
            0, 1, value=0, step=1, label="Slice (counted from 0)", elem_id="checkpoints-slice"
        )  # fmt: skip
        mark = gr.Checkbox(
            True, label="Mark what differs from the annotation", container=False, elem_id="checkpoints-mark"
        )  # fmt: skip
        status = gr.HTML(elem_id="checkpoints-status")
        picture = gr.HTML(elem_id="checkpoints-picture")
        with gr.Row(equal_height=True):
            use = gr.Button("Use this as the model", size="sm", min_width=180, elem_id="checkpoints-use")
            name = gr.Textbox(
                show_label=False, placeholder="Name, for example membrane-unet", max_lines=1, min_width=180,
                container=False, elem_id="checkpoints-name",
            )  # fmt: skip
            register = gr.Button("Register", size="sm", min_width=110, elem_id="checkpoints-register")
    message = gr.HTML(elem_id="checkpoints-message")
    return Panel(
        epoch, known, of, hint, table, box, scores, plane, mark, status, picture, use, name, register, message
    )


def wire(services: Services, panel: Panel, run: gr.Textbox) -> None:
    """Connect the panel's own parts; `run` holds the id of the run."""
    look: dict[str, Any] = {
        "fn": lambda *values: (yield from preview(services, *values)),
        "inputs": [run, panel.epoch, panel.plane, panel.mark],
        "outputs": [panel.status, panel.picture],
        "concurrency_limit": 8,
        **QUIET,
    }
    panel.known.change(
        lambda *values: refresh(services, *values), [run, panel.epoch, panel.of],
        [panel.of, panel.epoch, panel.hint, panel.table, panel.plane, panel.scores, panel.message], **QUIET,
    )  # fmt: skip
    panel.table.select(picked_id, outputs=panel.epoch, trigger_mode="always_last", **QUIET)
    panel.epoch.change(
        lambda *values: choose(services, *values), [run, panel.epoch],
        [panel.box, panel.scores, panel.table, panel.message], **QUIET,
    ).then(**look)  # fmt: skip
    # A new request while one is under way replaces it: who drags the slider wants the last slice.
    gr.on([panel.plane.change, panel.mark.change], trigger_mode="always_last", **look)
    loud: dict[str, Any] = {"api_visibility": "private", "show_progress_on": panel.message}
    again: dict[str, Any] = {"fn": lambda one: show(services, one), "inputs": run, "outputs": panel.shown}
    panel.use.click(
        lambda *values: use(services, *values), [run, panel.epoch], panel.message, **loud
    ).then(**again, **QUIET)  # fmt: skip
    panel.register.click(
        lambda *values: register(services, *values), [run, panel.epoch, panel.name], panel.message, **loud
    )


def show(services: Services, run: str) -> list[Any]:
    """Return the updates of `Panel.shown`: a line that changes when there is something new to show."""
    kept = attempt(lambda: services.checkpoints.epochs(run)) if run else []
    if isinstance(kept, Problem):
        return [f"{run}:gone"]
    marks = [f"{one.epoch}{'b' * one.best}{'m' * one.model}" for one in kept]
    return [f"{run}:{' '.join(marks)}"]


def refresh(services: Services, run: str, epoch: str, of: str) -> tuple[Any, ...]:
    """Return updates of run, epoch, hint, table, slider, scores and message; a new run drops the choice."""
    kept = attempt(lambda: services.checkpoints.epochs(run)) if run else []
    if isinstance(kept, Problem):
        problem = mark_html("error", kept.message, kept.remedy)
        return run, "", problem, table_value((), []), gr.skip(), "", ""
    hint = mark_html("info", EMPTY if not kept else FEW if len(kept) == 1 else HINT)
    if run == of:
        scores = next((scores_html(one) for one in kept if str(one.epoch) == epoch), gr.skip())
        return run, gr.skip(), hint, _table(kept, epoch), gr.skip(), scores, gr.skip()
    slices = attempt(lambda: services.checkpoints.slices(run)) if kept else None
    slider: Any = gr.skip()
    if slices is not None and not isinstance(slices, Problem):
        slider = gr.Slider(
            maximum=max(1, slices.count - 1), value=slices.validation[0], interactive=slices.count > 1
        )
    return run, "", hint, _table(kept, ""), slider, "", ""


def choose(services: Services, run: str, epoch: str) -> tuple[Any, ...]:
    """Return updates of box, scores, table and message for the chosen epoch."""
    kept = attempt(lambda: services.checkpoints.epochs(run)) if run else []
    if isinstance(kept, Problem) or not epoch:
        return gr.Column(visible=False), "", gr.skip(), gr.skip()
    one = next((one for one in kept if str(one.epoch) == epoch), None)
    if one is None:
        text = mark_html("info", f"The weights of epoch {epoch} were not kept.", HINT)
        return gr.Column(visible=False), "", _table(kept, ""), text
    return gr.Column(visible=True), scores_html(one), _table(kept, epoch), ""


def preview(services: Services, run: str, epoch: str, plane: float, mark: bool) -> Iterator[tuple[Any, Any]]:
    """Yield updates of status and picture: at once the image, then the time it takes, then the prediction."""
    if not run or not epoch.isdigit():
        yield "", ""
        return
    glances = services.checkpoints.glance(run, int(epoch), int(plane))
    told = -TELL_SECONDS
    while True:
        glance = attempt(lambda: next(glances, None))
        if isinstance(glance, Problem):
            yield mark_html("error", glance.message, glance.remedy), gr.skip()
            return
        if glance is None:
            return
        if glance.prediction_YX is not None:
            yield status_html(glance, mark), picture_html(glance, mark)
        elif glance.waited - told >= TELL_SECONDS:
            first = told < 0
            told = glance.waited
            yield waiting_html(glance), picture_html(glance, mark) if first else gr.skip()


def picture_html(glance: Glance, mark: bool) -> str:
    """Return image, prediction and annotation side by side with the legend of the classes."""
    objects = glance.card.head is not None
    classes = range(COLOURS + 1 if objects else len(glance.card.class_values))
    place = f"epoch {glance.epoch}, {glance.name}"
    plain = overlay(glance.image_CYX)
    pictures = [(plain, f"Image, {place}", glance.name)]
    if glance.prediction_YX is None:
        pictures.append((plain // 3, "The prediction comes here", "predicting …"))
    else:
        painted = overlay(glance.image_CYX, glance.prediction_YX, class_values=classes, opacity=0.5)
        differing_YX = glance.differing_YX
        if mark and differing_YX is not None:
            painted[differing_YX] = DIFFERENT
        pictures.append((painted, f"Prediction, {place}", f"prediction of epoch {glance.epoch}"))
    if glance.label_YX is not None:
        labels = overlay(glance.image_CYX, glance.label_YX, class_values=classes, opacity=0.5)
        pictures.append((labels, f"Annotation, {place}", "annotation"))
    names = ("background", "objects, each in a colour of its own") if objects else glance.card.class_names
    named = zip(glance.card.class_values, names, strict=True)
    entries = [ClassEntry(value, "" if name == str(value) else name) for value, name in named]
    return frame_html(pictures) + legend_html(entries)


def status_html(glance: Glance, mark: bool) -> str:
    """Return where the picture was taken and how far prediction and annotation agree."""
    parts = [glance.role, glance.part]
    differing_YX = glance.differing_YX
    swatch = ""
    if differing_YX is not None and glance.label_YX is not None:
        share = differing_YX.sum() / max(1, int((glance.label_YX >= 0).sum()))
        parts.append(f"{share:.1%} of the annotated pixels differ")
        colour = "#" + "".join(f"{part:02X}" for part in DIFFERENT)
        swatch = f'<span aria-hidden="true" style="color:{colour}">■</span> ' if mark else ""
    text = " · ".join(part for part in parts if part)
    return f'<p class="subdued" role="status">{swatch}{text}</p>'


def waiting_html(glance: Glance) -> str:
    """Return what is under way and for how long."""
    what = "Starting the process that predicts (only the first time)" if glance.starting else "Predicting"
    return f'<p class="subdued" role="status">{what} … {glance.waited:.0f} s</p>'


def scores_html(kept: KeptEpoch) -> str:
    """Return the scores of an epoch, per class too."""
    notes = [text for said, text in ((kept.best, "best epoch"), (kept.model, "the model")) if said]
    title = f"Epoch {kept.epoch}" + (f" ({', '.join(notes)})" if notes else "")
    if kept.scores is None:
        return f"<h4>{title}</h4>" + mark_html("info", "Its scores are not in the history of this run.")
    scores = kept.scores
    classes = list(scores.val_dice_per_class)
    iou = [scores.val_iou_per_class.get(value, float("nan")) for value in classes]
    dice = [scores.val_dice, *scores.val_dice_per_class.values()]
    table = table_html(
        ("Validation", "all classes", *(f"class {value}" for value in classes)),
        [["Dice", *(f"{one:.3f}" for one in dice)], ["IoU", "", *(f"{one:.3f}" for one in iou)]],
    )
    objects = {"F1": scores.val_f1, "average precision": scores.val_ap50, "panoptic quality": scores.val_pq}
    told = ", ".join(f"{name} {score:.3f}" for name, score in objects.items() if score is not None)
    of_objects = f"<p>Objects, at an overlap of 0.5: {told}.</p>" if told else ""
    return f"<h4>{title}</h4>{table}{of_objects}"


def use(services: Services, run: str, epoch: str) -> str:
    """Make the chosen epoch the model and say so."""
    done = attempt(lambda: services.checkpoints.use(run, _number(epoch)))
    if isinstance(done, Problem):
        return mark_html("error", done.message, done.remedy)
    return mark_html(
        "ok",
        f"Epoch {epoch} is the model of this run.",
        "The one before stays in the list. If the run goes on, its best epoch becomes the model again.",
    )


def register(services: Services, run: str, epoch: str, name: str) -> str:
    """Register the chosen epoch and say which version it is."""

    def act() -> str:
        if not name.strip():
            raise ModelError("The model has no name.", "Write a name beside the button.")
        version = services.checkpoints.register(run, _number(epoch), name.strip())
        return f"Epoch {epoch} is {version.name}, version {version.version}."

    done = attempt(act)
    if isinstance(done, Problem):
        return mark_html("error", done.message, done.remedy)
    return mark_html("ok", done)


def _table(kept: list[KeptEpoch], picked: str) -> dict[str, Any]:
    rows = []
    for one in reversed(kept):
        marks = [text for said, text in ((one.best, "★ best"), (one.model, "the model")) if said]
        event = one.scores
        cells = ["–"] * 3
        if event is not None:
            cells = [event.score_text, f"{event.val_loss:.3f}", f"{event.train_loss:.3f}"]
        rows.append((str(one.epoch), [str(one.epoch), ", ".join(marks), *cells]))
    return table_value(HEADER, rows, picked)


def _number(epoch: str) -> int:
    if not epoch.isdigit():
        raise JobError("No epoch is chosen.", "Choose a line of the table.")
    return int(epoch)
