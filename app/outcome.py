"""Outcome: what step 4 says of a finished segmentation: its classes, and what one can take along."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

from app import views, zips
from app.jobview import JobView

LISTED = 60
"""Results with a link; of more, the folder is in the tab Files."""


def downloads_html(view: JobView) -> str:
    """Return links to the files of a segmentation; they are served from where they lie, never copied."""
    names = list(view.segmentations.items())
    links = []
    if len(names) > 1:
        links.append(download_html(view, view.folder / "segmentation", f"Download all {len(names)} results"))
        links += [download_html(view, path, name) for name, path in names[:LISTED]]
    elif names:
        links.append(download_html(view, names[0][1], f"Download {names[0][1].name}"))
    links += [download_html(view, path, path.name) for path in view.more_results]
    more = "" if len(names) <= LISTED else f"<p>All {len(names)} results lie in the tab Files.</p>"
    return f'<div class="downloads">{"".join(links)}</div>{more}'


def download_html(view: JobView, path: Path, text: str) -> str:
    """Return a link to a result; a folder is sent as a ZIP that is made on the way."""
    if path.is_dir():
        within = path.relative_to(view.folder).as_posix()
        return zips.link_html(path, f"results/{view.folder.name}/{within}", f"{text} (ZIP)")
    address = f"gradio_api/file={quote(str(path))}"
    return f'<a class="download" href="{address}" download="{escape(path.name)}">{escape(text)}</a>'


def class_pixels(view: JobView) -> dict[int, int]:
    """Return the pixels of every label value, ascending, as `metadata.json` says."""
    found = view.results.get("class_pixels", {})
    return dict(sorted((int(value), int(count)) for value, count in found.items()))


def classes_html(view: JobView) -> str:
    """Return the legend and the table of the classes found."""
    counts = class_pixels(view)
    total = sum(counts.values()) or 1
    texts = [view.class_names.get(value, "") for value in counts]
    named = any(texts)
    rows = [
        (
            str(value),
            *([text] if named else []),
            f"{count:,}".replace(",", " "),
            views.share_text(count / total),
        )
        for (value, count), text in zip(counts.items(), texts, strict=True)
    ]
    head = ("Class", "Name", "Pixels", "Share") if named else ("Class", "Pixels", "Share")
    legend = views.legend_html(views.class_entries(counts, texts))
    objects = view.results.get("objects")
    told = "" if objects is None else f"<p>Objects: {objects}.</p>"
    return legend + views.table_html(head, rows) + told + model_html(view)


def model_html(view: JobView) -> str:
    """Return which model was used."""
    model = escape(str(view.results.get("model", "")).rpartition("/models/")[2])
    return f'<p class="subdued">Model: {model}</p>'
