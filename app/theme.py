"""The look: system fonts, one accent colour, light and dark; nothing is fetched from another host."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

CSS = Path(__file__).with_name("theme.css")
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
ACCENT = gr.themes.Color(
    c50="#eef6fb", c100="#d7eaf5", c200="#add4ea", c300="#7ab9dc", c400="#3f9aca", c500="#0072b2",
    c600="#00659e", c700="#005382", c800="#014166", c900="#05304b", c950="#041f31", name="accent",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """Return the theme of the app."""
    return gr.themes.Default(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        button_primary_background_fill="*primary_500",
        button_primary_background_fill_hover="*primary_600",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="white",
        layout_gap="10px",
        block_label_text_size="*text_sm",
        block_info_text_size="*text_sm",
    )
