"""A network for any style at inference: the row of a style image is predicted once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nst_ops.media.style_images import Style
from nst_ops.models.any_style import AnyStyleNet
from nst_ops.stylizers.conditional import ConditionalStylizer
from nst_ops.stylizers.device import Frames, to_network

_EVEN = 4  # levels of 255 that the pixels of one even color differ by at most, after JPEG


class AnyStyleStylizer(ConditionalStylizer[Style]):
    """Stylizer of the style image that comes with each frame.

    Args:
        model: the network, on any device.
        device, precision, tile: see ``ConditionalStylizer``; the predictor is always in fp32.
    """

    keys_are = "style images"

    def __init__(
        self, model: AnyStyleNet, device: str = "auto", precision: str = "auto", tile: int | None = None
    ) -> None:
        super().__init__(model.transform, device, precision, tile)
        self._predictor = model.predictor.eval().float().to(self.device)
        # A run may have thousands of styles, more than networks are kept for: what is known of one goes when it goes.
        self._rows: WeakKeyDictionary[Style, Tensor] = WeakKeyDictionary()
        self._of_thread = threading.local()

    def __call__(self, frames_nhwc: Frames, styles: Sequence[Style] = ()) -> Any:
        """See ``Stylizer``; raises ValueError where there is no style image for each frame."""
        stylized_nhwc = super().__call__(frames_nhwc, styles)
        self._of_thread.notes = [_notes(style) for style in styles]
        return stylized_nhwc

    @property
    def last_notes(self) -> list[list[str]]:
        """For each frame of this thread's last call, what its style image lacks."""
        notes: list[list[str]] = self._of_thread.notes
        return notes

    def key(self, style: Style) -> Style | None:
        """Return the style itself: it is the same object whenever it comes."""
        return style if style.pixels_hwc.size else None

    @torch.inference_mode()
    def row(self, key: Style) -> Tensor:
        """Return the row of a style image, which is predicted once."""
        if key not in self._rows:
            self._rows[key] = self._predictor(to_network(key.pixels_hwc[None], self.device, torch.float32))[0]
        return self._rows[key]


def _notes(style: Style) -> list[str]:
    if np.ptp(style.pixels_hwc, axis=(0, 1)).max() > _EVEN:
        return []
    return [f"style image '{style.name}' is one even color, or transparent: little but that color comes of it"]
