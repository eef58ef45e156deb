"""A model as a folder for onnxruntime: the graph, what prepares its images, and how to run it."""

import logging
import re
import shutil
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from transformers import PreTrainedModel

from ..assets import LICENSE, checkpoint_source
from ..constants import VERSION
from ..errors import ExportError, in_a_line
from ..extras import require
from ..files import write_folder_aside
from ..models.image_processing_usod import UsodImageProcessor
from .checking import Difference, check_difference, difference, sample_inputs
from .graph import Graph, neighbors_in_onnx
from .precision import to_half, to_int8
from .runner import MODEL_FILE, STRIDE, UsodOnnxModel
from .usage import readme

OPSET = 18
_MANY = 8  # photos, of which some can be spared for the check alone
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class Origin(NamedTuple):
    """What an exported folder says of where it comes from."""

    model: str
    adapter: str | None = None


def require_exporter() -> None:
    """Raises a `MissingPackageError` without the extra `onnx`."""
    for package in _PACKAGES:
        require(package, "onnx", "Exporting")


def export_model(
    model: PreTrainedModel,
    processor: UsodImageProcessor,
    output: Path,
    photos: Sequence[Image.Image],
    *,
    precision: str = "fp32",
    takes_aux: bool = False,
    dynamic_size: bool = False,
    origin: Origin | None = None,
) -> Difference:
    """Writes a model, with the adapter that is active in it, to a folder that `load` and onnxruntime read.

    The number of images is free.

    Args:
        model: in evaluation mode, on the CPU.
        output: must not exist.
        photos: by which the folder is checked, and `int8` calibrated, of eight or more by one half each; at least one.
        precision: `"fp32"`, `"fp16"` (weights in half precision) or `"int8"` (convolutions in 8 bits).
        takes_aux: whether the maps are inputs too; otherwise, in a detector, images serve as their own.
        dynamic_size: whether sides may be any multiples of 32; otherwise they are those of `processor.size`.
        origin: what the folder is to say of it.

    Returns:
        How far its maps are from those of `model` on `photos`.

    Raises:
        ExportError: if the model cannot be exported, or its maps differ by more than `checking.BOUNDS`; nothing is
            written then.
        FileExistsError: if `output` exists.
        MissingPackageError: without the extra `onnx`.
    """
    require_exporter()
    if takes_aux and not model.config.takes_aux:
        raise ExportError(f"--aux: a {model.config.model_type} model takes no auxiliary map; leave it out.")
    found = Difference(0.0, 0.0)

    def write(folder: Path) -> None:
        nonlocal found
        graph = Graph(model, takes_aux)
        inputs = list(sample_inputs(photos, processor, graph.input_names))
        many = precision == "int8" and len(inputs) >= _MANY
        calibration, inputs = (inputs[::2], inputs[1::2]) if many else (inputs, inputs)
        single, path = folder / "single.onnx", folder / MODEL_FILE
        write_graph(graph, inputs[0], single, dynamic_size)
        if precision == "fp16":
            to_half(single, path)
        elif precision == "int8":
            to_int8(single, path, ({name: value.numpy() for name, value in sample.items()} for sample in calibration))
        else:
            single.rename(path)
        single.unlink(missing_ok=True)
        _tidy(path)
        model.config.to_json_file(folder / "config.json")  # without the code that PyTorch's would need
        processor.to_json_file(folder / "preprocessor_config.json")
        found = difference(UsodOnnxModel(folder), model, inputs)
        check_difference(found, precision)
        _write_readme(folder, origin or Origin(model.name_or_path), precision, len(inputs), found, graph.input_names)

    write_folder_aside(output, write)
    return found


def write_graph(graph: Graph, sample: dict[str, torch.Tensor], path: Path, dynamic_size: bool) -> None:
    """Exports a graph in single precision.

    Raises:
        ExportError: if it holds what ONNX does not know.
    """
    height, width = sample["pixel_values"].shape[-2:]
    if height % STRIDE or width % STRIDE:
        raise ExportError(
            f"The image processor makes images of {width} x {height}; a model is exported for sides that {STRIDE} "
            "divides. Change `size` in preprocessor_config.json."
        )
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    free: dict[int, object] = {0: batch}
    if dynamic_size:
        free |= {dim: STRIDE * torch.export.Dim(side, min=2, max=256) for dim, side in ((2, "rows"), (3, "columns"))}
    shapes = tuple(free if sample[name].ndim == 4 else {0: batch} for name in graph.input_names)
    # Two of them, as one image would be taken for a constant; of two sides, as one would
    inputs = [sample[name].repeat(2, *(1 for _ in sample[name].shape[1:])) for name in graph.input_names]
    if dynamic_size:
        inputs = [torch.nn.functional.pad(x, (0, STRIDE)) if x.ndim == 4 else x for x in inputs]
    try:
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                tuple(inputs),
                input_names=graph.input_names,
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(shapes,),
                custom_translation_table={torch.ops.hf_usod.neighbors.default: neighbors_in_onnx},
                verbose=False,
            )
            assert program is not None  # it is, as `dynamo` says
            program.save(path)
    except Exception as error:  # whatever the exporter cannot follow
        way_out = "It may be exported for one size: leave out --dynamic_size. " if dynamic_size else ""
        raise ExportError(f"This model cannot be exported to ONNX. {way_out}{in_a_line(error)[:300]}") from error


def _write_readme(
    folder: Path, origin: Origin, precision: str, count: int, found: Difference, input_names: list[str]
) -> None:
    """README.md, and the license of what was exported, where it says which."""
    name = origin.adapter or origin.model
    source = Path(checkpoint_source(name)) if name else folder  # which holds neither yet
    card = source / "README.md"
    stated = re.search(r"^license: (\S+)", card.read_text(encoding="utf-8"), re.MULTILINE) if card.is_file() else None
    license_name = stated[1] if stated else None
    own = source / "LICENSE"
    if own.is_file() or license_name == "apache-2.0":
        shutil.copyfile(own if own.is_file() else LICENSE, folder / "LICENSE")
    text = readme(origin.model, origin.adapter, precision, VERSION, count, found, input_names, license_name)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _tidy(path: Path) -> None:
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:  # the exporter's notes on where each node comes from are a third of a small file
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, path)


@contextmanager
def _quietly():
    """Without what the exporter tells its developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
