"""Confirm: the question before something that cannot be undone; it says what will be lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.session import Problem, attempt
from app.views import mark_html


@dataclass(frozen=True)
class Confirm:
    """A hidden box with a question, a button that does it and one that does not."""

    box: gr.Column
    question: gr.HTML
    yes: gr.Button
    no: gr.Button

    def ask(self, trigger: gr.Button, question: Callable[..., str], inputs: Sequence[Any]) -> None:
        """Show the box on a click on `trigger`; `question` turns `inputs` into its text, or raises."""

        def show(*values: Any) -> tuple[gr.Column, str, gr.Button]:
            text = attempt(lambda: question(*values))
            if isinstance(text, Problem):
                # What cannot be done is said in the same place, without a button to do it.
                return (
                    gr.Column(visible=True),
                    mark_html("error", text.message, text.remedy),
                    gr.Button(visible=False),
                )
            return gr.Column(visible=True), mark_html("warning", text), gr.Button(visible=True)

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        trigger.click(show, list(inputs), [self.box, self.question, self.yes], **quiet)
        gr.on([self.yes.click, self.no.click], lambda: gr.Column(visible=False), outputs=self.box, **quiet)


def build_confirm(label: str, name: str) -> Confirm:
    """Build the box in the current layout; `label` says what yes does, `name` begins the element ids."""
    with gr.Column(visible=False, elem_id=f"{name}-confirm") as box:
        question = gr.HTML(padding=True)
        with gr.Row():
            yes = gr.Button(label, variant="stop", size="sm", elem_id=f"{name}-yes")
            no = gr.Button("Keep", size="sm", elem_id=f"{name}-no")
    return Confirm(box, question, yes, no)
