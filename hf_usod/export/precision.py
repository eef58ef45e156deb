"""Smaller numbers in an ONNX file: half precision, or 8-bit integers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_POOLS = ("ReduceMean", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool")
_FEW = 64  # numbers of a constant that are left as they are: scales, shapes, what is sensitive


def to_half(source: Path, target: Path) -> None:
    """Weights stored in half precision. onnxruntime makes them single again as it loads them, and computes with those:
    half the file, as fast, and without the overflows of half precision."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims, dtype=int) <= _FEW:
            continue
        name, half = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], name=f"{name}.single", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


class _Calibration:
    """The photos of a calibration, one after the other."""

    def __init__(self, samples: Iterable[dict[str, np.ndarray]]):
        self.samples: Iterator[dict[str, np.ndarray]] = iter(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def _sensitive(model: Any) -> list[str]:
    """The convolutions that cost much exactness in 8 bits and little time in 32: of pooled features (attention), of
    images, and to one map."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    pooled: set[str] = set()
    names = []
    for node in model.graph.node:
        inputs = [name for name in node.input if name and name not in shapes]
        if node.op_type == "Conv":
            outputs, channels = shapes[node.input[1]][:2]
            is_first = channels == 3 and outputs > 3
            if outputs == 1 or is_first or inputs[0] in pooled:
                names.append(node.name)
        if node.op_type in _POOLS or (inputs and pooled.issuperset(inputs)):
            pooled.update(node.output)
    return names


def to_int8(source: Path, target: Path, samples: Iterable[dict[str, np.ndarray]]) -> None:
    """Most convolutions in 8-bit integers (static QDQ): weights by channel, activations by the range they have on
    samples.

    Args:
        samples: what the model is given for each photo.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(_Calibration)
    prepared = target.with_name(f"prepared-{target.name}")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        _Calibration(samples),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=_sensitive(onnx.load(prepared)),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    prepared.unlink()
