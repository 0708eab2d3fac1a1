"""Tensors of an ONNX file. Nothing of its graph runs, and no other file that it may name is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nst_ops.models.onnx_files import read_onnx
from nst_ops.models.weights import CheckpointError

_REAL = "_dequant"  # what tf2onnx adds to the name of a tensor for that of its real values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the constants of an ONNX file by name; those that it keeps in few bits, in their real values.

    Raises:
        CheckpointError: the file is damaged, or the package onnx is not installed.
        FileNotFoundError: there is no such file.
    """
    graph = read_onnx(path).graph
    from onnx import numpy_helper

    try:
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        real = {}
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and all(name in arrays for name in node.input):
                steps, scale, zero = (arrays[name] for name in node.input)
                axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
                along = [-1 if i == axis else 1 for i in range(steps.ndim)]
                scale, zero = (each.reshape(along) if each.ndim else each for each in (scale, zero))
                # Several layers may share a constant, such as zeros: it has a name for each.
                real[node.output[0].removesuffix(_REAL)] = (steps.astype(np.float64) - zero) * scale
        return {name: torch.from_numpy(array.copy()) for name, array in (arrays | real).items()}
    except Exception as error:  # onnx and numpy raise many kinds here, all of them mean "not usable"
        raise CheckpointError(f"{path}: damaged, or no ONNX file: fetch it again, or give another") from error
