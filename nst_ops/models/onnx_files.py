"""ONNX files, read as data: nothing of the graph runs, and no other file that it may name is opened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nst_ops.models.weights import CheckpointError

# Operators of the standard, and those that every onnxruntime has.
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}

_BYTES_OF_VALUE = 4
_WORKSPACE = 2  # times the maps, with what convolutions take to order their values: measured 1.6
_FEWEST_BYTES = 512  # a pixel: two maps of 64 channels


def read_onnx(path: Path) -> Any:
    """Read an ONNX file; returns its ``onnx.ModelProto``.

    Raises:
        CheckpointError: the file is damaged or of another format, or the package onnx is not installed.
        FileNotFoundError: there is no such file.
    """
    try:
        import onnx
    except ImportError as error:
        raise CheckpointError(f"{path}: reading ONNX needs a package: pip install 'nst-ops[onnx]'") from error
    try:
        return onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf and onnx raise many kinds here, all of them mean "not usable"
        raise CheckpointError(f"{path}: damaged, or no ONNX file: fetch it again, or give another") from error


def refuse_what_does_not_run(path: Path, model: Any) -> None:
    """Raise CheckpointError for a graph that needs code or data from outside of its file, and for one without nodes."""
    if not model.graph.node:
        raise CheckpointError(f"{path}: damaged, or no ONNX file: it has no operators; fetch it again, or give another")
    known = _KNOWN_DOMAINS | {function.domain for function in model.functions}
    for message in _messages(model):
        match type(message).__name__:
            case "NodeProto" if message.domain not in known:
                raise CheckpointError(
                    f"{path}: needs the custom operator {message.domain}.{message.op_type}, whose code is not in the "
                    "file: export the network with operators of the standard alone"
                )
            case "TensorProto" if message.external_data or message.data_location == message.EXTERNAL:
                raise CheckpointError(
                    f"{path}: its weights lie in another file: save it as one, onnx.save(onnx.load(FILE), NEW)"
                )


def bytes_per_pixel(model: Any, shape: tuple[int, ...]) -> int:
    """Estimate the bytes that a pass over an image takes for each of its pixels: of the maps alive at the worst moment.

    ``shape`` is that of the only input. Maps whose shape does not follow from it count as nothing, and a network whose
    graph says nothing of its maps as one of some size.
    """
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    for dim, side in zip(image.type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = side
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # of onnx and protobuf; whether the network runs is for onnxruntime to say
        graph = model.graph
    num_bytes = {
        value.name: _BYTES_OF_VALUE * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.shape.dim
    }
    last_use = {name: place for place, node in enumerate(graph.node) for name in node.input}
    live, most = num_bytes[image.name], 0
    for place, node in enumerate(graph.node):
        live += sum(num_bytes.get(name, 0) for name in node.output)
        most = max(most, live)
        live -= sum(num_bytes.get(name, 0) for name in {*node.input} - weights if last_use[name] == place)
    pixels = math.prod(shape) // 3
    return max(_WORKSPACE * most // pixels, _FEWEST_BYTES)


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message of protobuf and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)
