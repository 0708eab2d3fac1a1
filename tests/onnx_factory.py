"""Networks in ONNX files: a small one whose result is known, and shipped ones, in any layout, range and order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.conditional import ConditionalNet, StyledNet
from nst_ops.models.johnson import InstanceNorm
from nst_ops.stylizers.onnx_network import RANGES

# Warm and a little darker: red, green and blue are told apart, and nothing of a picture is lost.
COLORS = np.array([[0.7, 0.2, 0.1], [0.15, 0.7, 0.05], [0.1, 0.1, 0.6]], np.float32)
TYPES = {
    "float": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


def expected(frames_nhwc: np.ndarray) -> np.ndarray:
    """What the small network makes of frames."""
    return np.rint(frames_nhwc.astype(np.float32) @ COLORS.T).astype(np.uint8)


def painting(style: str) -> StyledNet:
    """The shipped network in one of its styles."""
    net = load_checkpoint(resolve_checkpoint("styles")).expect(ConditionalNet)
    return net.in_style(net.rows[net.names.index(style)])


class Graph:
    """Nodes and weights of a graph under construction; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._numbers = itertools.count()

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{operator.lower()}_{next(self._numbers)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def weight(self, value: Any) -> str:
        name = f"weight_{next(self._numbers)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def colors(self, x: str, matrix: np.ndarray = COLORS) -> str:
        """Mix the colors of each pixel."""
        return self.node("Conv", x, self.weight(matrix[:, :, None, None]))

    def affine(self, x: str, factor: Any, offset: Any) -> str:
        """Scale and shift, by one number or by one for each channel."""
        factor, offset = (np.float32(value).reshape(-1, 1, 1) for value in (factor, offset))
        return self.node("Add", self.node("Mul", x, self.weight(factor)), self.weight(offset))

    def down_and_up(self, x: str, factor: int) -> str:
        """Halve the sides some times without padding and bring them back, plus and minus the same: no change."""
        down = self.node("AveragePool", x, kernel_shape=[factor] * 2, strides=[factor] * 2)
        up = self.node("Resize", down, "", self.weight(np.float32([1, 1, factor, factor])), mode="nearest")
        return self.node("Sub", self.node("Add", x, up), up)

    def painting(self, x: str, net: StyledNet) -> str:
        """The network of a painting, as in ``nst_ops.models.conditional``."""

        def layer(x: str, module: Any, stride: int = 1) -> str:
            if module.upsampling:
                x = self.node("Resize", x, "", self.weight(np.float32([1, 1, 2, 2])), mode="nearest", **ASYMMETRIC)
            margin = module.conv.kernel_size[0] // 2
            x = self.node("Pad", x, self.weight(np.int64([0, 0, margin, margin] * 2)), mode="reflect")
            x = self.node("Conv", x, *weights(module.conv), strides=[stride] * 2)
            if isinstance(module.norm, InstanceNorm):
                x = self.node("InstanceNormalization", x, *weights(module.norm), epsilon=module.norm.eps)
            return self.node("Relu", x) if module.activation else x

        def weights(module: Any) -> list[str]:
            return [self.weight(value.detach().numpy()) for value in (module.weight, module.bias) if value is not None]

        for module, stride in zip(net.encoder, (1, 2, 2), strict=True):
            x = layer(x, module, stride)
        for block in net.residuals:
            x = self.node("Add", x, layer(self.node("Relu", layer(x, block.first)), block.second))
        for module in net.decoder:
            x = layer(x, module)
        return self.node("Sigmoid", x)

    def save(self, path: Path, inputs: list[Any], output: str, kind: str = "float") -> Path:
        outputs = [helper.make_tensor_value_info(output, TYPES[kind], None)]
        graph = helper.make_graph(self.nodes, "network", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(path))
        return path


ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def image_input(
    name: str = "image", shape: tuple[Any, ...] = (1, 3, "height", "width"), kind: str = "float"
) -> onnx.ValueInfoProto:
    """An input of a graph; sides by name are free."""
    return helper.make_tensor_value_info(name, TYPES[kind], shape)


def write_network(
    path: Path,
    layout: str = "nchw",
    input_range: str = "unit",
    output_range: str = "unit",
    channels: str = "rgb",
    kind: str = "float",
    stride: int = 1,
    sides: tuple[Any, Any] = ("height", "width"),
    batch: Any = 1,
    style: str = "",
) -> Path:
    """Write the small network, or that of a shipped style, as one that takes and gives images in this form."""
    graph = Graph()
    x = "image"
    if kind != "float":
        x = graph.node("Cast", x, to=TensorProto.FLOAT)
    if layout == "nhwc":
        x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    swap = np.eye(3, dtype=np.float32)[::-1]
    if channels == "bgr":
        x = graph.colors(x, swap)
    factor, offset = RANGES[input_range]
    x = graph.affine(x, 1 / np.float32(factor), -np.float32(offset) / np.float32(factor))
    if style:
        x = graph.painting(x, painting(style))
    else:
        x = graph.colors(x)
        x = graph.down_and_up(x, stride) if stride > 1 else x
    x = graph.affine(x, *RANGES[output_range])
    if channels == "bgr":
        x = graph.colors(x, swap)
    if layout == "nhwc":
        x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    if kind != "float":
        x = graph.node("Cast", graph.node("Round", x) if kind == "uint8" else x, to=TYPES[kind])
    shape = (batch, 3, *sides) if layout == "nchw" else (batch, *sides, 3)
    return graph.save(path, [image_input(shape=shape, kind=kind)], x, kind)
