"""The tab on training: the workbench on one's own machine; elsewhere, what to run there."""

import gradio as gr

from engine import Engine
from hf_usod.workbench.app import is_private

_TEXT = """
### A model of your own images, without drawing a mask

Parts on a belt, aerial photos, product shots: put a few hundred of them into a folder. On your own machine a page like
this one, or a command, teaches the model what stands out in *them*; the images never leave it.

```bash
pip install -e ".[demo,crf]"   # in a clone of the repository; crf needs a C++ compiler, and may be left out
hf-usod workbench              # choose the folder, look, train, review, download; this tab shows the same there
hf-usod adapt YOUR_FOLDER --output my-domain   # the same without a page
```

What comes of it is an adapter, used from the command line or in this app on your machine, which then offers it:

```bash
hf-usod predict NEW_IMAGES --adapter my-domain/adapter --output out --save mask cutout
USOD_SPACE_ADAPTERS=mine=my-domain/adapter python space/app.py
```
"""


def build(engine: Engine) -> None:
    if is_private():
        from hf_usod.workbench.page import build as build_workbench  # which needs what training needs

        build_workbench(engine.offer)
    else:
        gr.Markdown(_TEXT, elem_id="training")
