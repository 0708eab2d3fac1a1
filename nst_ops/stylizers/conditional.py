"""Networks whose styles are rows of numbers at inference: each style is a ``JohnsonStylizer`` of its own."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.conditional import ConditionalTransform
from nst_ops.stylizers.device import Frames, choose_device
from nst_ops.stylizers.johnson import JohnsonStylizer
from nst_ops.stylizers.memory import concatenated
from nst_ops.stylizers.tiles import Statistics

_STYLES_KEPT = 32  # networks of one style, which share their convolutions

Key = TypeVar("Key", bound=Hashable)


class ConditionalStylizer(ABC, Generic[Key]):
    """Stylizer of the style that comes with each frame, known by a key that styles of the same row share.

    Args:
        transform: the convolutions that all styles share, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32.
        tile: longer side in pixels above which frames are stylized in tiles of this size, even where they would fit.
    """

    takes_tensors = True
    keys_are = "styles"
    """What the keys are, for the message where there are too few."""

    def __init__(self, transform: ConditionalTransform, device: str, precision: str, tile: int | None) -> None:
        self.device, self.dtype = choose_device(device, precision)
        self._transform = transform.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self._options = device, precision, tile
        self._statistics: Statistics | None = None
        self._in_style: Callable[[Key], JohnsonStylizer] = lru_cache(_STYLES_KEPT)(self._make)

    @abstractmethod
    def key(self, style: Style) -> Key | None:
        """Return the key of a style; None for one of another kind."""

    @abstractmethod
    def row(self, key: Key) -> Tensor:
        """Return the row of a key, fp32, on the device."""

    def __call__(self, frames_nhwc: Frames, styles: Sequence[Style] = ()) -> Any:
        """See ``Stylizer``; raises ValueError where there is no style for each frame."""
        keys = [key for style in styles if (key := self.key(style)) is not None]
        if len(keys) != len(frames_nhwc):
            raise ValueError(f"{len(frames_nhwc)} frames and {len(keys)} {self.keys_are}: each frame takes one")
        parts, first = [], 0
        for key, run in itertools.groupby(keys):
            last = first + len(list(run))
            parts.append(self._in_style(key)(frames_nhwc[first:last]))
            first = last
        return concatenated(parts)

    def measure(self, frames_nhwc: UInt8Array, style: Style) -> Statistics:
        """Measure the statistics of frames together in a style, as ``JohnsonStylizer.measure`` does."""
        key = self.key(style)
        assert key is not None
        return self._in_style(key).measure(frames_nhwc)

    def frozen(self, statistics: Statistics) -> Self:
        """Return a stylizer of the same weights that normalizes every frame by the ``statistics`` of its one style."""
        stylizer = copy.copy(self)
        stylizer._statistics = statistics
        stylizer._in_style = lru_cache(1)(stylizer._make)
        return stylizer

    def _make(self, key: Key) -> JohnsonStylizer:
        stylizer = JohnsonStylizer(self._transform.in_style(self.row(key)), *self._options)
        return stylizer.frozen(self._statistics) if self._statistics else stylizer
