"""How well images fit words, by CLIP."""

from __future__ import annotations

import torch
from torch import Tensor

from nst_ops.config.text import ClipConfig
from nst_ops.evaluation.metrics import SOURCE
from nst_ops.losses.clip_direction import direction_distance
from nst_ops.stylizers.text_style import load_clip


class TextScore:
    """Similarity of images to a text; raises as ``load_clip`` does."""

    def __init__(self, config: ClipConfig, text: str, device: torch.device | str = "cpu") -> None:
        clip, direction = load_clip(config, text, key="text")
        self._text = clip.encode_text(text).to(device)
        self._clip, self._direction = clip.to(device), direction.to(device)

    def __call__(self, after: Tensor, before: Tensor) -> dict[str, Tensor]:
        """Return the figures, (B,) each, of stylized images and their sources, (B, 3, H, W) in [0, 1]; cosines.

        ``clip_text`` is that of image and text (J. Hessel et al., "CLIPScore", EMNLP 2021, without its factor of 2.5),
        ``clip_direction`` that of the way from the source and the way from "a photo" to the text.
        """
        found, origin = self._clip.encode_images(after), self._clip.encode_images(before)
        figures = {"clip_text": found @ self._text, f"{SOURCE}clip_text": origin @ self._text}
        return figures | {"clip_direction": 1 - direction_distance(found, origin, self._direction)}
