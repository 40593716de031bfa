"""Quantise an ONNX model's convolutions to INT8, by onnxruntime's own static quantization."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Iterable, Iterator

import numpy as np

from aploss_mx.atomic import replacing
from aploss_mx.detection.export import INPUT, IR_VERSION, OUTPUTS, ExportError


def quantize_onnx(network: Path, inputs: Iterable[np.ndarray], path: Path) -> Path:
    """Write an ONNX model whose convolutions compute in INT8, BatchNorm folded into them; all else stays float32.

    So do the last convolutions of the heads, whose output would take 256 values only. Weights are quantised by channel
    and to 7 bits, since CPUs without VNNI add two products in 16 bits, which those of 8 bits may overflow; activations
    by the range that they span on the calibration inputs.

    Parameters
    ----------
    network : Path
        A model of `export.export_onnx`.
    inputs : iterable of ndarray of float32, shape (3, H', W')
        Like those that it will see, of any sizes; a few dozen suffice.
    path : Path
        Where to write.

    Returns
    -------
    Path
        Of the model, whose input and outputs are those of `network`.

    Raises
    ------
    ExportError
        If onnxruntime is missing, or what its quantization needs.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ExportError(
            f"INT8 in ONNX takes onnxruntime and its quantization ({error}): pip install onnxruntime 'ml_dtypes<0.6'"
        ) from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            one = next(self.rest, None)
            return None if one is None else {INPUT: one[None]}

    with tempfile.TemporaryDirectory() as folder, replacing(path) as temporary:
        folded = Path(folder, "folded.onnx")
        quant_pre_process(network, folded, skip_symbolic_shape=True)
        model = onnx.load(folded)
        for number, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}_{number}"  # by which some are left out, and folding leaves some without
        onnx.save(model, folded)
        quantization.quantize_static(
            folded,
            temporary,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=_last_convolutions(model.graph),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        model = onnx.load(temporary)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        onnx.save(model, temporary)
    return path


def _last_convolutions(graph: Any) -> list[str]:
    """Return the names of the convolutions that an ONNX graph's outputs come from, by other operators alone."""
    makers = {name: node for node in graph.node for name in node.output}
    found, values = [], list(OUTPUTS)
    while values:
        node = makers.get(values.pop())
        if node is not None and node.op_type == "Conv":
            found.append(node.name)
        elif node is not None:
            values.extend(node.input)
    return found
