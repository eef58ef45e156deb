"""A model as a folder for onnxruntime: the graph, what prepares its images, and how to run it."""

import logging
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from transformers import PreTrainedModel

from ..errors import ExportError, in_a_line
from ..extras import require
from ..files import write_folder_aside
from ..models.image_processing_usod import UsodImageProcessor
from .checking import Difference, check_difference, difference, sample_inputs
from .graph import Graph
from .precision import to_half, to_int8
from .runner import MODEL_FILE, STRIDE, UsodOnnxModel

OPSET = 18
PRECISIONS = ("fp32", "fp16", "int8")


def export_model(
    model: PreTrainedModel,
    processor: UsodImageProcessor,
    output: Path,
    photos: Sequence[Image.Image],
    *,
    precision: str = "fp32",
    takes_aux: bool = False,
    dynamic_size: bool = False,
    facts: dict[str, str] | None = None,
) -> Difference:
    """Writes a model, with the adapter that is active in it, to a folder that `load` and onnxruntime read.

    The number of images is free.

    Args:
        model: in evaluation mode, on the CPU.
        output: must not exist.
        photos: by which the folder is checked, and `int8` calibrated; at least one.
        precision: `"fp32"`, `"fp16"` (features in half precision) or `"int8"` (convolutions in 8 bits).
        takes_aux: whether the maps are inputs too; otherwise, in a detector, images serve as their own.
        dynamic_size: whether sides may be any multiples of 32; otherwise they are those of `processor.size`.
        facts: what the file is to say of its origin.

    Returns:
        How far its maps are from those of `model` on `photos`.

    Raises:
        ExportError: if the model cannot be exported, or its maps differ by more than `checking.BOUNDS`; nothing is
            written then.
        FileExistsError: if `output` exists.
        MissingPackageError: without the extra `onnx`.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "onnx", "Exporting")
    if takes_aux and not model.config.takes_aux:
        raise ExportError(f"--aux: a {model.config.model_type} model takes no auxiliary map; leave it out.")
    found = Difference(0.0, 0.0)

    def write(folder: Path) -> None:
        nonlocal found
        graph = Graph(model, takes_aux)
        inputs = list(sample_inputs(photos, processor, graph.input_names))
        single = folder / "single.onnx"
        write_graph(graph, inputs[0], single, dynamic_size)
        path = folder / MODEL_FILE
        if precision == "fp16":
            to_half(single, path)
        elif precision == "int8":
            to_int8(single, path, ({name: value.numpy() for name, value in sample.items()} for sample in inputs))
        else:
            single.rename(path)
        single.unlink(missing_ok=True)
        _write_facts(path, {"precision": precision, **(facts or {})})
        model.config.to_json_file(folder / "config.json")  # without the code that PyTorch's would need
        processor.to_json_file(folder / "preprocessor_config.json")
        found = difference(UsodOnnxModel(folder), model, inputs)
        check_difference(found, precision)

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
                verbose=False,
            )
            program.save(path)
    except Exception as error:  # whatever the exporter cannot follow
        way_out = "It may be exported for one size: leave out --dynamic_size. " if dynamic_size else ""
        raise ExportError(f"This model cannot be exported to ONNX. {way_out}{in_a_line(error)[:300]}") from error


def _write_facts(path: Path, facts: dict[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:  # the exporter's notes on where each node comes from are a third of a small file
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, facts)
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
