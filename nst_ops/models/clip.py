"""CLIP: pictures and words as vectors whose angle says how well they fit.

A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021. The networks and
the vocabulary are those of the package open_clip_torch; weights are a file of the user. Nothing is downloaded.
Shapes: B batch, D numbers of a vector, H and W pixels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes

_CONFIG = "open_clip_config.json"


class MissingExtraError(ValueError):
    """The packages of the extra are not installed."""


class Clip(nn.Module):
    """Both towers of CLIP, frozen, in fp32.

    Args:
        weights: a ``.safetensors`` or ``torch.save`` file with open_clip's keys.
        architecture: a name that open_clip knows; by default the file ``open_clip_config.json`` beside the weights
            says what they are. A name that ends in ``-quickgelu`` has another activation and the same shapes.

    Raises:
        MissingExtraError: open_clip_torch is not installed.
        FileNotFoundError: there is no file ``weights``.
        CheckpointError: the file is unreadable, or holds another architecture.
        ValueError: no architecture is given or found, or one that would need a download.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path, architecture: str | None = None) -> None:
        super().__init__()
        try:
            import open_clip  # late: an extra, and it takes seconds
        except ImportError as error:
            raise MissingExtraError("clip.weights needs open_clip_torch: pip install 'nst-ops[clip]'") from error
        path = Path(weights)
        state, _ = read_weights(path)
        config, pixels = _read_config(path, architecture)
        try:
            self.model: Any = open_clip.CLIP(**config)
            self.side = int(config["vision_cfg"]["image_size"])
            """Pixels of a side of the pictures that it sees."""
            num_tokens = int(config["text_cfg"]["context_length"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path.with_name(_CONFIG)}: not a configuration of CLIP: {error}") from error
        load_strictly(path, self.model, strip_prefixes(state))
        self._tokenizer = open_clip.SimpleTokenizer(context_length=num_tokens)
        self._num_tokens, self._templates = num_tokens, open_clip.OPENAI_IMAGENET_TEMPLATES
        self.register_buffer(
            "mean", torch.tensor(pixels.get("mean", open_clip.OPENAI_DATASET_MEAN)).view(3, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(pixels.get("std", open_clip.OPENAI_DATASET_STD)).view(3, 1, 1), persistent=False
        )
        self.requires_grad_(False)
        self.eval()

    def encode_images(self, x_bchw: Tensor) -> Tensor:
        """Return unit vectors, (B, D), of RGB in [0, 1], (B, 3, H, W): their middle squares, resized."""
        height, width = x_bchw.shape[2:]
        scale = self.side / min(height, width)
        if scale != 1:
            size = [max(self.side, round(side * scale)) for side in (height, width)]
            x_bchw = F.interpolate(x_bchw, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = ((side - self.side) // 2 for side in x_bchw.shape[2:])
        x_bchw = x_bchw[:, :, top : top + self.side, left : left + self.side]
        encoded: Tensor = self.model.encode_image((x_bchw - self.mean) / self.std)
        return F.normalize(encoded.float(), dim=1)

    @torch.no_grad()
    def encode_text(self, text: str, in_sentences: bool = False) -> Tensor:
        """Return the unit vector of a text, (D,), or the mean of it in the 80 sentences that CLIP's authors tried.

        Raises ValueError for a text that has more tokens than CLIP reads.
        """
        sentences = [template(text) for template in self._templates] if in_sentences else [text]
        longest = max(len(self._tokenizer.encode(sentence)) for sentence in sentences) + 2  # begin and end
        if longest > self._num_tokens:
            raise ValueError(f"{longest} tokens are more than the {self._num_tokens} that CLIP reads: use fewer words")
        vectors = self.model.encode_text(self._tokenizer(sentences).to(self.mean.device))
        return F.normalize(F.normalize(vectors.float(), dim=1).mean(0), dim=0)


def _read_config(weights: Path, architecture: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return open_clip's configuration of the towers, and of the pixels that they see.

    Raises ValueError for an architecture that is not known, or is none of CLIP's own two towers.
    """
    import open_clip

    beside = weights.with_name(_CONFIG)
    if architecture:
        config, pixels = open_clip.get_model_config(architecture) if ":" not in architecture else None, {}
        if config is None:
            raise ValueError(f"clip.architecture: open_clip knows no '{architecture}'; such as ViT-B-32-quickgelu")
    elif beside.is_file():
        try:
            both = json.loads(beside.read_text())
            config, pixels = dict(both["model_cfg"]), dict(both.get("preprocess_cfg", {}))
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{beside}: not a configuration of open_clip: {error}") from error
    else:
        raise ValueError(
            f"there is no {_CONFIG} beside {weights}: give --clip.architecture, for a ViT-B/32 of OpenAI "
            "ViT-B-32-quickgelu, for one of LAION ViT-B-32"
        )
    keys = {*config, *config.get("vision_cfg", {}), *config.get("text_cfg", {})}
    if foreign := [key for key in keys if key.startswith(("hf_", "timm_", "custom_", "multimodal_"))]:
        name = f"clip.architecture {architecture}" if architecture else str(beside)
        raise ValueError(f"{name}: not the two towers of CLIP ({sorted(foreign)[0]}): take such as ViT-B-32")
    return config, pixels
