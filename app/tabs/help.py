"""Help: all articles in one place, with a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.help import article, articles, find_articles
from app.services import Services

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
FIRST = "quick-start"


@dataclass(frozen=True)
class Handles:
    """What the rest of the page may drive: the name of an article set in `name` is shown."""

    name: gr.Radio


def build(services: Services) -> Handles:
    """Build the tab."""
    with gr.Row(elem_id="help"):
        with gr.Column(scale=1, min_width=260):
            query = gr.Textbox(
                label="Search", placeholder="for example: memory", max_lines=1, elem_id="help-search"
            )
            with gr.Row(max_height="46vh"):  # scrolls by itself, so that a phone shows the article below it
                name = gr.Radio(_choices(articles()), value=FIRST, label="Articles", elem_id="help-articles")
        with gr.Column(scale=3, min_width=320):
            text = gr.Markdown(article(FIRST), elem_id="help-text")
    query.change(search, query, name, trigger_mode="always_last", **QUIET)
    name.change(lambda chosen: article(chosen) if chosen else "", name, text, **QUIET)
    return Handles(name)


def search(query: str) -> gr.Radio:
    """Return the list of the articles in which every word occurs, the best chosen."""
    found = find_articles(query)
    if not found:
        return gr.Radio(choices=[], value=None, label="No article has these words")
    label = "Articles" if not query.strip() else f"Articles ({len(found)} found)"
    return gr.Radio(choices=_choices(found), value=found[0][0], label=label)


def _choices(found: list[tuple[str, str]]) -> list[str | int | float | tuple[Any, Any]]:
    return [(title, name) for name, title in found]
