"""A tiny CLIP of random weights, as open_clip writes one: a file of weights with its configuration beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def write_clip(folder: Path, **changes: Any) -> Path:
    """Write weights of a CLIP that has 64 channels in 2 blocks of each tower; return their file."""
    import open_clip

    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG | changes)
    with torch.no_grad():
        model.positional_embedding.mul_(20)  # fresh ones make all texts alike
        model.token_embedding.weight.mul_(20)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    beside = {"model_cfg": CONFIG | changes, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(beside))
    return folder / "open_clip_model.safetensors"
