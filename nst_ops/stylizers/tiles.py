"""Statistics of whole frames, for networks that normalize by them: frozen over a shot, or met in tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nst_ops.models.johnson import InstanceNorm, Moments, TransformNet

Rectangle = tuple[slice, slice]
"""Rows, columns."""

# Positions of the deepest map that are read around a tile. The encoder sees 7 pixels to each side,
# the decoder 7 to 13, by its upsampling: 4 positions are 16 pixels.
_HALO = 4


class Statistics(NamedTuple):
    """What the frames of a shot are normalized by."""

    center: Tensor | None
    """Color that is taken off before the network, (1, 3, 1, 1); None for a stylizer that takes none off."""
    layers: tuple[Moments, ...]
    """Moments of every normalizing layer, in the order of the pass; empty for norm ``batch`` and ``none``."""


def measuring_copy(model: TransformNet) -> TransformNet:
    """Return a copy that shares the weights and keeps the statistics of the first images it stylizes.

    All of them count as one large image, so every layer is measured on what it will see once the layers before it are
    frozen.
    """

    def keep(norm: Any, args: tuple[Tensor], _: Tensor) -> None:
        if norm.statistics is None:
            norm.statistics = norm.moments(args[0])

    copy = model.shared_copy()
    for norm in copy.norms():
        norm.dims = (0, *norm.dims)
        norm.register_forward_hook(keep)
    return copy


def _input_of(norm: InstanceNorm, run: Callable[[Tile], object], tile: Tile) -> Tensor:
    """Return the input of ``norm`` in ``run(tile)``, which goes no further."""

    def stop(_: object, args: tuple[Tensor]) -> None:
        raise _Reached(args[0])

    with norm.register_forward_pre_hook(stop):
        try:
            run(tile)
        except _Reached as reached:
            return reached.x_bchw
    raise ValueError("the layer is no part of what ran")


class _Reached(Exception):
    def __init__(self, x_bchw: Tensor) -> None:
        self.x_bchw = x_bchw


def merge(parts: Iterable[tuple[int, Moments]]) -> Moments:
    """Return mean and variance of the whole from those of its parts, each with its count of values.

    T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    """
    counts, moments = zip(*parts, strict=True)
    means = torch.stack([mean for mean, _ in moments]).double()
    variances = torch.stack([var for _, var in moments]).double()
    shares = torch.tensor(counts, dtype=torch.float64, device=means.device)
    shares = (shares / shares.sum()).view(-1, 1, 1, 1, 1)
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean.float(), var.float()


@dataclass(frozen=True)
class Tile:
    """A part of the deepest map: the rectangle that is read and, inside it, the one that is kept."""

    read: Rectangle
    keep: Rectangle

    def inner(self, part: Tensor) -> Tensor:
        """Return the part to keep of a map that was computed from what was read."""
        rows, columns = (
            slice(keep.start - read.start, keep.stop - read.start)
            for keep, read in zip(self.keep, self.read, strict=True)
        )
        return _crop(part, (rows, columns), self.scale(part))

    def scale(self, part: Tensor) -> int:
        """Return how many times larger than the deepest map the one is that ``part`` was cut from."""
        rows, _ = self.read
        return int(part.shape[2]) // int(rows.stop - rows.start)


def cut(height: int, width: int, side: int) -> list[Tile]:
    """Return tiles of at most ``side`` positions, about equal, that cover a map of this size once."""

    def spans(length: int) -> list[tuple[slice, slice]]:  # read and keep, one after another
        count = math.ceil(length / side)
        edges = [round(length * i / count) for i in range(count + 1)]
        return [
            (slice(max(0, start - _HALO), min(length, stop + _HALO)), slice(start, stop))
            for start, stop in pairwise(edges)
        ]

    return [
        Tile((row_read, column_read), (row_keep, column_keep))
        for (row_read, row_keep), (column_read, column_keep) in product(spans(height), spans(width))
    ]


def stylize_in_tiles(model: TransformNet, x_bchw: Tensor, side: int) -> Tensor:
    """Stylize (B, 3, H, W), sides multiples of the stride, tile by tile: the result of ``model`` but for rounding.

    It is a copy for these images alone: layers without statistics get theirs. ``side`` is that of a tile in pixels.
    """
    stride = model.stride
    tiles = cut(x_bchw.shape[2] // stride, x_bchw.shape[3] // stride, side // stride)

    def encode(tile: Tile) -> Tensor:
        return model.encode(_crop(x_bchw, tile.read, stride))[0]

    _measure(model.encoder, encode, tiles)
    deep = model.residuals(_join(encode, tiles))

    def decode(tile: Tile) -> Tensor:
        finer = model.encode(_crop(x_bchw, tile.read, stride))[1] if model.skips else ()
        return model.decode(_crop(deep, tile.read, 1), finer)

    _measure(model.decoder, decode, tiles)
    return _join(decode, tiles)


def _measure(part: nn.Module, run: Callable[[Tile], Tensor], tiles: list[Tile]) -> None:
    """Give each layer of ``part`` that lacks statistics those of the whole."""
    for norm in part.modules():
        if isinstance(norm, InstanceNorm) and norm.statistics is None:
            inputs = (tile.inner(_input_of(norm, run, tile)) for tile in tiles)
            norm.statistics = merge((x_bchw[0, 0].numel(), norm.moments(x_bchw)) for x_bchw in inputs)


def _join(run: Callable[[Tile], Tensor], tiles: list[Tile]) -> Tensor:
    """Return the whole map from its parts."""
    bottom, right = (span.stop for span in tiles[-1].keep)
    whole = torch.empty(0)
    for tile in tiles:
        part = run(tile)
        scale = tile.scale(part)
        if tile is tiles[0]:
            size = (*part.shape[:2], bottom * scale, right * scale)
            whole = part.new_empty(size).contiguous(memory_format=torch.channels_last)
        _crop(whole, tile.keep, scale).copy_(tile.inner(part))
    return whole


def _crop(x_bchw: Tensor, rectangle: Rectangle, scale: int) -> Tensor:
    """Return a rectangle of a map ``scale`` times as large as the deepest."""
    rows, columns = (slice(span.start * scale, span.stop * scale) for span in rectangle)
    return x_bchw[:, :, rows, columns]
