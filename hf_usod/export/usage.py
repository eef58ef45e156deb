"""What is written beside an exported model: how to run it where there is no PyTorch."""

SNIPPET = """import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

settings = json.load(open("exported/preprocessor_config.json"))
session = onnxruntime.InferenceSession("exported/model.onnx")
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
small = photo.resize((settings["size"]["width"], settings["size"]["height"]), Image.Resampling.BICUBIC)
pixels = (np.asarray(small) / 255 - settings["image_mean"]) / settings["image_std"]
(logits,) = session.run(None, {"pixel_values": pixels.transpose(2, 0, 1)[None].astype(np.float32)})
logits = np.asarray(Image.fromarray(logits[0, 0]).resize(photo.size, Image.Resampling.BILINEAR))
photo.putalpha(Image.fromarray((255 / (1 + np.exp(-logits))).round().astype(np.uint8)))
photo.save("cutout.png")
"""

_README = """---
library_name: onnxruntime
pipeline_tag: image-segmentation
{license}---

# {name}, for onnxruntime

`model.onnx` holds {name}{adapter} ({precision}), exported by hf_usod {version}.
On {count} photos its saliency maps, in [0, 1], differ from those of PyTorch by {found}.

Inputs, float32: {inputs}. Output: `logits` (N, 1, H, W); their sigmoid is the saliency.
`preprocessor_config.json` has the size and the constants that `pixel_values` are normalized by.{aux}

With hf_usod: `hf-usod predict photos/ --output out --model FOLDER`. Without{snippet}
{terms}
"""

_AUX = """
`aux_pixel_values` are in [0, 1], not normalized: a depth, thermal or flow map, or the photo itself where
there is none."""


def readme(
    name: str,
    adapter: str | None,
    precision: str,
    version: str,
    count: int,
    found: object,
    input_names: list[str],
    license_name: str | None,
) -> str:
    """The text of an exported folder's README.md."""
    shapes = {"aux_kind": "`aux_kind` (N,) int64: 0 none, 1 depth, 2 thermal, 3 flow"}
    inputs = ", ".join(shapes.get(name, f"`{name}` (N, 3, H, W)") for name in input_names)
    alone = input_names == ["pixel_values"]
    snippet = f" (this folder as `exported`):\n\n```python\n{SNIPPET}```" if alone else " it see its documentation."
    return _README.format(
        license=f"license: {license_name}\n" if license_name else "",
        name=name,
        adapter=f" with the adapter {adapter}" if adapter else "",
        precision=precision,
        version=version,
        count=count,
        found=found,
        inputs=inputs,
        aux="" if alone else _AUX,
        snippet=snippet,
        terms="" if license_name else "\nIts license is that of the model that it was made of.",
    )
