"""Export a trained network for other programs: an MXNet symbol with parameters, and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx

from aploss_mx.archive import write_params
from aploss_mx.atomic import replacing, write_text
from aploss_mx.config import Recipe
from aploss_mx.detection.description import describe
from aploss_mx.detection.detector import Detector
from symbols.retinanet import RetinaNet

INPUT = "data"
OUTPUTS = ("logits", "deltas")
# Those of ONNX 1.8: MXNet 1.9.1 writes operators of opset 13 at most, and calls them those of the newest it finds.
OPSET, IR_VERSION = 13, 7


class ExportError(RuntimeError):
    """A network that cannot be written in a format; the message says why."""


def export_symbol(network: RetinaNet, folder: Path, name: str = "model") -> tuple[Path, Path]:
    """Write ``NAME-symbol.json`` and ``NAME-0000.params``, which `SymbolBlock.imports` and the Module API read.

    The symbol takes `data`, images (B, 3, H, W) in float32, normalised and with sides that are multiples of 32, and
    gives class logits (B, N, K) for a sigmoid, or (B, N, K + 1), background first, for a softmax where the network has
    a background logit; and box deltas (B, N, 4).
    """
    symbol = _symbol(network)
    arguments = set(symbol.list_arguments())
    arrays = {}
    for param in network.collect_params().values():
        arrays[("arg:" if param.name in arguments else "aux:") + param.name] = param.data(param.list_ctx()[0])
    paths = folder / f"{name}-symbol.json", folder / f"{name}-0000.params"
    write_text(paths[0], symbol.tojson())
    write_params(paths[1], arrays)
    return paths


def export_onnx(network: RetinaNet, path: Path) -> Path:
    """Write an ONNX model (opset 13) with the input and outputs of `export_symbol`, for any batch and size.

    Raises
    ------
    ExportError
        If onnx is missing, or too new for MXNet 1.9.1.
    """
    try:
        import onnx
        import onnx.mapping
    except ImportError as error:
        raise ExportError(f"MXNet 1.9.1 writes ONNX with onnx up to 1.17 ({error}): pip install 'onnx<1.18'") from error
    params = {param.name: param.data(param.list_ctx()[0]) for param in network.collect_params().values()}
    with replacing(path) as temporary:
        mx.onnx.export_model(
            _symbol(network),
            params,
            [(1, 3, 64, 64)],  # what shapes are inferred with; the model takes any
            ["float32"],
            str(temporary),
            dynamic=True,
            dynamic_input_shapes=[(None, 3, None, None)],
        )
        model = onnx.load(temporary)
        _tidy(model.graph)
        model.ir_version = IR_VERSION
        (opset,) = model.opset_import
        opset.version = OPSET
        onnx.checker.check_model(model)
        onnx.save(model, temporary)
    return path


def _tidy(graph: Any) -> None:
    """Name outputs and nodes of an ONNX graph, and make its weights constants, which runtimes can optimise."""
    names = {output.name: name for output, name in zip(graph.output, OUTPUTS)}
    for output in graph.output:
        output.name = names[output.name]
    for node in graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = node.name or node.output[0]
    weights = {weight.name for weight in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(images)


def check_views(recipe: Recipe) -> None:
    """Raise ExportError where a test looks at an image several times, which an ONNX model with boxes cannot."""
    if recipe.test_scales or recipe.test_flip:
        raise ExportError(
            "an ONNX model with boxes looks once, and the recipe's test_scales or test_flip several times: leave out "
            "these or the boxes"
        )


def export_onnx_boxes(detector: Detector, network: Path, path: Path) -> Path:
    """Write an ONNX model that takes an image's pixels and gives boxes, around one of `export_onnx`.

    See `onnx_boxes.add_boxes` for input and outputs.

    Raises
    ------
    ExportError
        As `check_views`.
    """
    import onnx

    from aploss_mx.detection.onnx_boxes import add_boxes  # here, since onnx may be missing

    check_views(detector.recipe)
    model = add_boxes(onnx.load(network), detector.recipe, detector.classes, describe(detector), detector.calibration)
    onnx.checker.check_model(model)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
    return path


def _symbol(network: RetinaNet) -> mx.sym.Symbol:
    return mx.sym.Group(list(network(mx.sym.var(INPUT, dtype="float32"))))
