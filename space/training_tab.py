"""The tab on training: what to run on one's own machine."""

import gradio as gr

_TEXT = """
### A model of your own images, without drawing a mask

Parts on a belt, aerial photos, product shots: put a few hundred of them into a folder. Two commands on your own machine
teach the model what stands out in *them*; the images never leave it.

**1. Install**, in a clone of the repository. `crf` needs a C++ compiler.

```bash
pip install -e ".[lite,crf]"
```

**2. Train.** It goes on where it was stopped with `--resume`. Look at the pictures in `run/labels` after a while.

```bash
hf-usod train --transfer --images YOUR_FOLDER --output_dir run --recipe transfer-lite
```

**3. Use it**, from the command line:

```bash
hf-usod predict NEW_IMAGES --adapter run/sd/model --output out --save mask cutout
```

or in this app on your machine, which then offers it as an adapter:

```bash
USOD_SPACE_ADAPTERS=mine=run/sd/model python space/app.py
```
"""


def build() -> None:
    gr.Markdown(_TEXT, elem_id="training")
