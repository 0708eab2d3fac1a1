"""A network of one style at inference, without the frame that it leaves at borders."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.host_copies import Download
from nst_ops.models.johnson import TransformNet
from nst_ops.stylizers.device import Frames, Kept, choose_device, pad, padded, start_frames, to_network
from nst_ops.stylizers.graphs import Graphs
from nst_ops.stylizers.memory import (
    Hold,
    attempt,
    concatenated,
    frames_that_fit,
    free_bytes,
    holding,
    max_elements,
    too_large,
)
from nst_ops.stylizers.tiles import Statistics, measuring_copy, stylize_in_tiles

# Networks make the last pixels before a border lighter or of another hue (measured: up to 30 of 255
# levels in the outer 8): they get this many more, mirrored, which are cut off again.
_MARGIN = 12
# Live feature maps at the widest point, in units of (width x pixels) elements. In one piece: input and
# padded copy of the last 9x9 layer, its upsampled source, the convolution's workspace, measured 6.0 at
# 1080p, and with skips the encoder's maps, 8.3. Beside tiles: the residual blocks' and the frame, 1.8.
_LIVE_MAPS, _LIVE_MAPS_WITH_SKIPS, _LIVE_MAPS_BESIDE_TILES = 6, 8, 2
_TILE, _SMALLEST_TILE = 1024, 256
_RECORDED_SHARE = 0.1  # of the free memory of a GPU that a graph may take


class JohnsonStylizer:
    """Stylizer of one style.

    A frame that does not fit into memory is stylized in tiles, with the same result but for rounding: in fp32 at most
    one level. On a CPU a frame comes out the same to the bit whatever batch it comes in.

    Args:
        model: the network, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32.
        tile: longer side in pixels above which frames are stylized in tiles of this size, even where they would fit.
    """

    takes_tensors = True

    def __init__(
        self, model: TransformNet, device: str = "auto", precision: str = "auto", tile: int | None = None
    ) -> None:
        self.device, self.dtype = choose_device(device, precision)
        self.model = model.shared_copy().eval().without_idle_biases()
        self.model.to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self._graphs = Graphs(self.model, self.device) if self.device.type == "cuda" else None
        self.tile = tile
        # The first layer's normalization takes off the mean color. In half precision that is done before: next to it,
        # all that is in a foggy or overexposed frame would be rounded away.
        self._takes_off_center = self.dtype != torch.float32 and model.config["norm"] == "instance" and not model.skips
        self._center: Tensor | None = None  # of a shot; every frame its own by default

    def __call__(self, frames_nhwc: Frames, styles: Sequence[Style] = ()) -> Any:
        """See ``Stylizer``."""
        count, height, width, _ = frames_nhwc.shape
        parts: list[Download | Kept] = []  # while one is on its way to the host, the device has the next to do
        first, alone = 0, False
        while first < count:
            with holding(self._bytes(height, width), self.device, alone) as hold:
                tile = self._tile_for(1, height, width)
                at_once = min(count - first, 1 if tile else self._frames_at_once(height, width))
                part = self._attempt(frames_nhwc[first : first + at_once], tile, hold)
            alone = part is None
            if part is not None:
                parts.append(part)
                first += at_once
        return concatenated([part.result() for part in parts])

    def measure(self, frames_nhwc: UInt8Array, style: Style | None = None) -> Statistics:
        """Measure the statistics of frames together, such as samples of one shot, as if they were one large image.

        The network has one ``style``, which is left unread.

        Raises MemoryError where they do not fit into the device's memory together, not even in tiles.
        """
        measured = copy.copy(self)
        if self._takes_off_center:
            measured._center = to_network(frames_nhwc, self.device, torch.float32).mean((0, 2, 3), keepdim=True)
        count, height, width, _ = frames_nhwc.shape
        alone = False
        while True:
            model = measuring_copy(self.model)
            with holding(count * self._bytes(height, width), self.device, alone) as hold:
                part = measured._attempt(frames_nhwc, self._tile_for(count, height, width), hold, model)
            alone = part is None
            if part is not None:
                layers = tuple(norm.statistics for norm in model.norms() if norm.statistics)
                return Statistics(measured._center, layers)

    def frozen(self, statistics: Statistics) -> JohnsonStylizer:
        """Return a stylizer of the same weights that normalizes every frame by ``statistics``.

        A pixel's result then depends on what is near it alone, not on the rest of the frame.
        """
        stylizer = copy.copy(self)
        stylizer.model, stylizer._graphs = self.model.shared_copy(), None  # a shot is over before they would pay
        for norm, moments in zip(stylizer.model.norms(), statistics.layers, strict=True):
            norm.statistics = moments
        stylizer._center = statistics.center
        return stylizer

    @torch.inference_mode()
    def _stylize(self, frames_nhwc: Frames, tile: int | None, model: TransformNet | None = None) -> Download | Kept:
        """Begin to stylize all frames at once, by the network or a copy that measures them."""
        count, height, width, _ = frames_nhwc.shape
        x_bchw = to_network(frames_nhwc, self.device, torch.float32)
        if self._takes_off_center:
            x_bchw -= x_bchw.mean((2, 3), keepdim=True) if self._center is None else self._center
        x_bchw = pad(x_bchw.to(self.dtype), self.model.stride, _MARGIN)
        if tile:
            y_bchw = stylize_in_tiles(model or self.model.shared_copy(), x_bchw, tile)
        elif self._graphs and model is None:
            is_small = count * self._bytes(height, width) <= _RECORDED_SHARE * free_bytes(self.device)
            y_bchw = self._graphs(x_bchw, is_small)
        else:
            y_bchw = (model or self.model)(x_bchw)
        y_bchw = y_bchw[:, :, _MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        return start_frames(y_bchw, stay=isinstance(frames_nhwc, Tensor))

    def _attempt(
        self, frames_nhwc: Frames, tile: int | None, hold: Hold, model: TransformNet | None = None
    ) -> Download | Kept | None:
        """Begin to stylize all frames at once; None where the device ran out of memory: see ``attempt``."""
        count, height, width, _ = frames_nhwc.shape
        run = partial(self._stylize, frames_nhwc, tile, model)
        begun = attempt(run, count, self._bytes(height, width, tile), hold)
        if begun is None and self._graphs:
            self._graphs.release()
        return begun

    def _frames_at_once(self, height: int, width: int) -> int:
        """Return how many frames of this size the device takes at once."""
        if self.device.type == "cpu":
            return 1  # as quick as a batch, and what comes beside a frame cannot change its rounding
        return frames_that_fit(height, width, self._bytes(height, width), self.device, self._elements(height, width))

    def _tile_for(self, count: int, height: int, width: int) -> int | None:
        """Return the side of the tiles in which ``count`` frames of this size fit at once; None for no tiles.

        Raises MemoryError where they do not fit, not even in the smallest tiles.
        """
        free, most_elements = free_bytes(self.device), max_elements(self.device)
        fits = count * self._bytes(height, width) <= free and count * self._elements(height, width) <= most_elements
        if fits and max(height, width) <= (self.tile or math.inf):
            return None
        # Each tile pays for what is read around it: the largest that fits.
        tile = self.tile or _TILE
        while (needed := count * self._bytes(height, width, tile)) > free:
            tile //= 2
            if tile < _SMALLEST_TILE:
                raise too_large(height, width, needed, free)
        return tile

    def _elements(self, height: int, width: int) -> int:
        """Return the elements of a frame's largest map, that before the last but one layer, at full size."""
        return 2 * self._bytes_per_map(height, width) // self.dtype.itemsize

    def _bytes(self, height: int, width: int, tile: int | None = None) -> int:
        """Return the bytes that one frame takes, in one piece or in tiles."""
        if tile:
            return _LIVE_MAPS_BESIDE_TILES * self._bytes_per_map(height, width) + self._bytes(tile, tile)
        maps = _LIVE_MAPS_WITH_SKIPS if self.model.skips else _LIVE_MAPS
        return maps * self._bytes_per_map(height, width)

    def _bytes_per_map(self, height: int, width: int) -> int:
        pixels = padded(height, self.model.stride, _MARGIN) * padded(width, self.model.stride, _MARGIN)
        return int(self.model.config["width"]) * pixels * self.dtype.itemsize
