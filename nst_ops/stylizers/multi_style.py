"""A network of many styles at inference: a mix of its rows for each frame."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY
from nst_ops.models.style_mix import StyleMix
from nst_ops.stylizers.device import choose_device
from nst_ops.stylizers.johnson import JohnsonStylizer
from nst_ops.stylizers.tiles import Statistics

_STYLES_KEPT = 32  # networks of one style, which share their convolutions


class MultiStyleStylizer:
    """Stylizer of the mix of named styles that comes with each frame; each is a ``JohnsonStylizer`` of its own.

    Args:
        model: the network, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32.
        tile: longer side in pixels above which frames are stylized in tiles of this size, even where they would fit.
        strength: share of the style in [0, 1]; the rest is the row ``identity``, where the network has one.
    """

    def __init__(
        self,
        model: ConditionalNet,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        strength: float = 1.0,
    ) -> None:
        self.device, self.dtype = choose_device(device, precision)
        self._rows = model.rows.detach().float().to(self.device)  # in fp32, whatever the network
        self.model = model.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self._options = device, precision, tile
        self._strength = strength if IDENTITY in model.names else 1.0
        self._statistics: Statistics | None = None
        self._in_style: Callable[[StyleMix], JohnsonStylizer] = lru_cache(_STYLES_KEPT)(self._make)

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``; raises ValueError where there is no mix for each frame."""
        mixes = [style.mix for style in styles if style.mix]
        if len(mixes) != len(frames_nhwc):
            raise ValueError(f"{len(frames_nhwc)} frames and {len(mixes)} mixes of named styles: each frame takes one")
        parts, first = [], 0
        for mix, run in itertools.groupby(mixes):
            last = first + len(list(run))
            parts.append(self._in_style(mix)(frames_nhwc[first:last]))
            first = last
        return np.concatenate(parts)

    def measure(self, frames_nhwc: UInt8Array, style: Style) -> Statistics:
        """Measure the statistics of frames together in a style, as ``JohnsonStylizer.measure`` does."""
        assert style.mix
        return self._in_style(style.mix).measure(frames_nhwc)

    def frozen(self, statistics: Statistics) -> MultiStyleStylizer:
        """Return a stylizer of the same weights that normalizes every frame by the ``statistics`` of its one style."""
        stylizer = copy.copy(self)
        stylizer._statistics = statistics
        stylizer._in_style = lru_cache(1)(stylizer._make)
        return stylizer

    def _make(self, mix: StyleMix) -> JohnsonStylizer:
        shares = torch.zeros(len(self._rows), device=self.device)
        for name, share in mix.shares:
            shares[self.model.names.index(name)] = share * self._strength
        if self._strength < 1:
            shares[self.model.names.index(IDENTITY)] += 1 - self._strength
        stylizer = JohnsonStylizer(self.model.in_style(shares @ self._rows), *self._options)
        return stylizer.frozen(self._statistics) if self._statistics else stylizer
