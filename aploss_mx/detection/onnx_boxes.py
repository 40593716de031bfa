"""Extend an ONNX network to a whole detector: an image's pixels in, boxes, scores and labels out.

MXNet's exporter stops at logits and deltas, since it has no operator for NMS; what `Detector.predict` does before and
after the network is written here in ONNX's own operators (opset 13), with the same arithmetic.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from scipy.special import logit

from aploss_mx.config import Recipe
from aploss_mx.data.pixels import PIXELS
from aploss_mx.evaluation.calibration import LIMIT, Calibration
from aploss_mx.geometry.anchors import STRIDES, AnchorShapes, cell_anchors
from aploss_mx.geometry.coder import MAX_LOG_SCALE, STDS

IMAGE = "image"
LOWEST = float(np.finfo(np.float32).min)
TINY = float(np.finfo(np.float32).tiny)


class Nodes:
    """Writes nodes of a graph; values are names, and numbers and arrays become constants on the way.

    Parameters
    ----------
    prefix : str
        Of all names, so that they differ from those of other parts of the graph.
    """

    def __init__(self, prefix: str):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = (f"{prefix}_{number}" for number in itertools.count())

    def value(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a value, a constant of `dtype` where it is none yet."""
        if isinstance(value, str):
            return value
        name = next(self._names)
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Return the name of a constant of int64, shape (len(values),)."""
        return self.value(values, np.int64)

    def op(self, op_type: str, *inputs: Any, outputs: Sequence[str] = (), **attributes: Any) -> Any:
        """Append a node and return the name of its output, or the list of those that `outputs` names."""
        names = list(outputs) or [next(self._names)]
        values = [self.value(one) for one in inputs]
        # Named, since onnxruntime 1.19 gives nodes that it makes of nameless ones all the same name.
        self.nodes.append(helper.make_node(op_type, values, names, name=names[0], **attributes))
        return names if outputs else names[0]

    def several(self, op_type: str, count: int, *inputs: Any, **attributes: Any) -> list[str]:
        """Append a node of `count` outputs and return their names."""
        return self.op(op_type, *inputs, outputs=[next(self._names) for _ in range(count)], **attributes)

    def cast(self, value: str, kind: int) -> str:
        """Return a value in another of ONNX's types."""
        return self.op("Cast", value, to=kind)

    def floats(self, value: str) -> str:
        """Return a value in float32."""
        return self.cast(value, TensorProto.FLOAT)

    def whole(self, value: str) -> str:
        """Return a value in int64."""
        return self.cast(value, TensorProto.INT64)

    def part(self, value: str, start: Any, end: Any, axis: int = 0) -> str:
        """Return value[start:end] along an axis; ends are names of int64 (1,), or numbers."""
        ends = [self.value([one], np.int64) if isinstance(one, int) else one for one in (start, end)]
        return self.op("Slice", value, *ends, self.integers(axis))


def add_boxes(
    model: onnx.ModelProto,
    recipe: Recipe,
    classes: Sequence[str],
    description: str,
    calibration: Calibration | None = None,
) -> onnx.ModelProto:
    """Return the detector around a network.

    Parameters
    ----------
    model : ModelProto
        Of input ``data`` and outputs ``logits`` and ``deltas``, as `export.export_onnx` writes it; it is changed.
    recipe : Recipe
        Its test settings, but for several scales and mirror images, are built in.
    classes : sequence of str
    description : str
        What ``model.json`` says, for the model's metadata.
    calibration : Calibration or None
        How scores become confidences.

    Returns
    -------
    ModelProto
        Of input ``image``, uint8 (H, W, 3) in RGB, of any size; and outputs ``boxes``, float32 (D, 4), corners in the
        image's pixels, ``scores``, float32 (D,), highest first, ``labels``, int64 (D,), from 0, and with a calibration
        ``confidences``, float32 (D,).
    """
    before, after = Nodes("before"), Nodes("after")
    shape, scale, input_shape = _prepare(before, recipe)
    best = _detect(after, recipe, len(classes), shape, scale, input_shape)
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["detections", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["detections"]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["detections"]),
    ]
    if calibration:
        outputs.append(helper.make_tensor_value_info("confidences", TensorProto.FLOAT, ["detections"]))
        bounded = after.op("Clip", best, -LIMIT, LIMIT)
        scaled = after.op("Add", after.op("Mul", bounded, calibration.slope), calibration.offset)
        after.op("Sigmoid", scaled, outputs=["confidences"])
    graph = model.graph
    nodes = [*before.nodes, *graph.node, *after.nodes]
    for field, values in (
        (graph.node, nodes),
        (graph.input, [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])]),
        (graph.output, outputs),
        (graph.value_info, []),
    ):
        del field[:]
        field.extend(values)
    graph.initializer.extend([*before.constants, *after.constants])
    helper.set_model_props(model, {"classes": json.dumps(list(classes)), "description": description})
    return model


def _prepare(g: Nodes, recipe: Recipe) -> tuple[str, str, str]:
    """Resize, normalise and pad as `EvalTransform`; return (H, W), the scale (x, y) and (H', W'), float32 (2,) each."""
    exact = g.cast(g.part(g.op("Shape", IMAGE), 0, 2), TensorProto.DOUBLE)  # float32 rounds some halves the other way
    shape = g.floats(exact)
    if recipe.test_warp:
        resized = g.value([recipe.test_short] * 2)
    else:
        short, long, one = (g.value([side], np.float64) for side in (recipe.test_short, recipe.test_long, 1))
        shorter, longer = (g.op(name, exact, keepdims=1) for name in ("ReduceMin", "ReduceMax"))
        factor = g.op("Min", g.op("Div", short, shorter), g.op("Div", long, longer))
        resized = g.floats(g.op("Max", g.op("Round", g.op("Mul", exact, factor)), one))
    pixels = g.op("Unsqueeze", g.op("Transpose", g.floats(IMAGE), perm=[2, 0, 1]), g.integers(0))
    sizes = g.op("Concat", g.integers(1, 3), g.whole(resized), axis=0)
    pixels = g.op("Resize", pixels, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    wanted = PIXELS[recipe.pixels]
    pixels = g.op("Gather", g.op("Round", pixels), g.integers(*wanted.channels), axis=1)
    mean, std = (array.reshape(1, 3, 1, 1) for array in (wanted.mean, wanted.std))
    pixels = g.op("Div", g.op("Sub", pixels, mean), std)
    input_shape = g.op("Mul", g.op("Ceil", g.op("Div", resized, [32])), [32])
    pads = g.op("Concat", g.integers(0, 0, 0, 0, 0, 0), g.whole(g.op("Sub", input_shape, resized)), axis=0)
    g.op("Pad", pixels, pads, outputs=["data"])
    (x, y) = (g.op("Gather", g.op("Div", resized, shape), g.integers(side)) for side in (1, 0))
    return shape, g.op("Concat", x, y, axis=0), input_shape


def _detect(g: Nodes, recipe: Recipe, classes: int, shape: str, scale: str, input_shape: str) -> str:
    """Write ``boxes``, ``scores`` and ``labels`` as `PostProcessing` finds them; return the logits of the scores."""
    logits = g.op("Squeeze", "logits", g.integers(0))
    if recipe.background:
        logits = _drop_background(g, logits, classes + 1)
    deltas = g.op("Squeeze", "deltas", g.integers(0))
    boxes, scores, labels = [], [], []
    start, level_shape = g.integers(0), input_shape
    for level, stride in enumerate(STRIDES):
        # From P6 on a convolution of stride 2 halves the map before it, rounding up.
        ratio = STRIDES[0] if level == 0 else 2
        level_shape = g.op("Ceil", g.op("Div", level_shape, [ratio]))
        rows, columns = (g.part(level_shape, side, side + 1) for side in (0, 1))
        count = g.whole(g.op("Mul", g.op("Mul", rows, columns), [recipe.anchors.per_cell]))
        end = g.op("Add", start, count)
        flat = g.op("Reshape", g.part(logits, start, end), g.integers(-1))
        kept = g.op("Min", g.integers(recipe.topk), g.op("Shape", flat))
        best, places = g.several("TopK", 2, flat, kept, axis=0)
        if level < len(STRIDES) - 1:
            above = g.op("Greater", best, logit(recipe.score_threshold))
            best, places = (g.op("Compress", one, above, axis=0) for one in (best, places))
        anchors = g.op("Div", places, g.value(classes, np.int64))
        labels.append(g.op("Mod", places, g.value(classes, np.int64)))
        scores.append(best)
        picked = g.op("Gather", g.part(deltas, start, end), anchors, axis=0)
        boxes.append(
            _decode(g, picked, g.op("Gather", _anchors(g, stride, recipe.anchors, rows, columns), anchors, axis=0))
        )
        start = end
    box, score, label = (g.op("Concat", *parts, axis=0) for parts in (boxes, scores, labels))

    corner = g.op("Concat", g.part(shape, 1, 2), g.part(shape, 0, 1), axis=0)
    box = g.op("Div", box, g.op("Concat", scale, scale, axis=0))
    box = g.op("Max", g.op("Min", box, g.op("Concat", corner, corner, axis=0)), [0])
    sides = g.op("Sub", g.part(box, 2, 4, axis=1), g.part(box, 0, 2, axis=1))
    inside = g.op("Greater", g.op("ReduceMin", sides, axes=[1], keepdims=0), 0)
    box, score, label = (g.op("Compress", one, inside, axis=0) for one in (box, score, label))

    # A row a class, in which other classes' candidates are too low to be looked at.
    own = g.op("Equal", g.op("Unsqueeze", label, g.integers(0)), g.value(np.arange(classes)[:, None], np.int64))
    by_class = g.op("Where", own, g.op("Unsqueeze", score, g.integers(0)), LOWEST)
    chosen = g.op(
        "NonMaxSuppression",
        g.op("Unsqueeze", box, g.integers(0)),
        g.op("Unsqueeze", by_class, g.integers(0)),
        g.integers(recipe.max_detections),
        [recipe.nms_threshold],
        [LOWEST],
    )
    chosen = g.op("Squeeze", g.part(chosen, 2, 3, axis=1), g.integers(1))
    kept = g.op("Min", g.integers(recipe.max_detections), g.op("Shape", chosen))
    best, order = g.several("TopK", 2, g.op("Gather", score, chosen), kept, axis=0)
    chosen = g.op("Gather", chosen, order)
    g.op("Gather", box, chosen, axis=0, outputs=["boxes"])
    g.op("Sigmoid", best, outputs=["scores"])
    g.op("Gather", label, chosen, outputs=["labels"])
    return best


def _anchors(g: Nodes, stride: int, shapes: AnchorShapes, rows: str, columns: str) -> str:
    """Return the anchors (rows · columns · A, 4) of a level, as `make_anchors`."""
    centers = []
    for count in (columns, rows):
        steps = g.op("Range", 0, g.op("Squeeze", count), 1)
        centers.append(g.op("Mul", g.op("Add", steps, 0.5), float(stride)))
    x = g.op("Unsqueeze", centers[0], g.integers(0, 2))
    y = g.op("Unsqueeze", centers[1], g.integers(1, 2))
    grid = g.op("Concat", g.whole(rows), g.whole(columns), g.integers(1), axis=0)
    x, y = g.op("Expand", x, grid), g.op("Expand", y, grid)
    cells = g.op("Unsqueeze", g.op("Concat", x, y, x, y, axis=2), g.integers(2))
    return g.op("Reshape", g.op("Add", cells, cell_anchors(stride, shapes)), g.integers(-1, 4))


def _decode(g: Nodes, deltas: str, anchors: str) -> str:
    """Return the boxes (M, 4) that deltas (M, 4) lead to from anchors (M, 4), as `coder.decode`."""
    deltas = g.op("Mul", deltas, STDS)
    low, high = g.part(anchors, 0, 2, axis=1), g.part(anchors, 2, 4, axis=1)
    sizes = g.op("Sub", high, low)
    centers = g.op("Add", low, g.op("Div", sizes, 2))
    centers = g.op("Add", centers, g.op("Mul", g.part(deltas, 0, 2, axis=1), sizes))
    growth = g.op("Exp", g.op("Min", g.part(deltas, 2, 4, axis=1), MAX_LOG_SCALE))
    halves = g.op("Div", g.op("Mul", growth, sizes), 2)
    return g.op("Concat", g.op("Sub", centers, halves), g.op("Add", centers, halves), axis=1)


def _drop_background(g: Nodes, logits: str, outputs: int) -> str:
    """Return logits (N, K) whose sigmoid is the softmax of logits (N, K + 1), as `postprocess.drop_background`."""
    shifted = g.op("Sub", logits, g.op("ReduceMax", logits, axes=[1], keepdims=1))
    powers = g.op("Exp", shifted)
    first = g.op("OneHot", g.op("ArgMax", logits, axis=1, keepdims=0), g.integers(outputs), [0, 1])
    powers = g.op("Mul", powers, g.op("Sub", 1, first))
    rest = g.op("ReduceSum", powers, g.integers(1), keepdims=1)
    others = g.op("Sub", g.op("Add", 1, rest), powers)
    others = g.op("Where", g.cast(first, TensorProto.BOOL), g.op("Max", rest, TINY), others)
    return g.part(g.op("Sub", shifted, g.op("Log", others)), 1, outputs, axis=1)
