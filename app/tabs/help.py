"""Help: all articles in one place, with a search."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.help import article, articles, find_articles
from app.pick_table import pick_table, picked_id, table_value

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
FIRST = "quick-start"


def build() -> None:
    """Build the tab."""
    with gr.Row(elem_id="help"):
        with gr.Column(scale=1, min_width=260):
            query = gr.Textbox(
                label="Search", placeholder="for example: memory", max_lines=1, elem_id="help-search"
            )
            table = pick_table("help-articles", _listed(articles(), FIRST))
            name = gr.Textbox(FIRST, visible="hidden", elem_id="help-name")
        with gr.Column(scale=3, min_width=320):
            text = gr.Markdown(article(FIRST), elem_id="help-text")
    query.change(search, query, [table, name], trigger_mode="always_last", **QUIET)
    table.select(picked_id, outputs=name, trigger_mode="always_last", **QUIET)
    name.change(show, name, text, **QUIET)


def search(query: str) -> tuple[dict[str, Any], str]:
    """Return the list of the articles in which every word occurs, and the name of the best."""
    found = find_articles(query)
    best = found[0][0] if found else ""
    return _listed(found, best), best


def show(name: str) -> str:
    """Return the article, or that there is none."""
    return article(name) if name else "No article has all these words."


def _listed(found: list[tuple[str, str]], picked: str) -> dict[str, Any]:
    header = "Article" if len(found) == 1 else f"{len(found)} articles"
    return table_value((header,), [(name, (title,)) for name, title in found], picked)
