"""How the workbench looks, and the Space with it."""

from pathlib import Path

import gradio as gr

CSS = (Path(__file__).parent / "workbench.css").read_text(encoding="utf-8")
THEME = gr.themes.Soft(
    primary_hue="rose",
    secondary_hue="rose",
    neutral_hue="slate",
    radius_size="lg",
    font=["Inter", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_100",
    body_background_fill_dark="*neutral_950",
    block_background_fill="white",
    block_background_fill_dark="*neutral_800",
    block_label_background_fill="*background_fill_primary",
    block_label_text_color="*body_text_color_subdued",
    block_label_text_weight="500",
    block_title_background_fill="none",
    block_title_padding="0",
    block_title_text_color="*body_text_color",
    block_title_text_weight="500",
)
