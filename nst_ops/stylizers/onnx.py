"""Any network from image to image by its ONNX file, in tiles that overlap where it takes one size alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nst_ops.config.stylize import OnnxConfig
from nst_ops.media.errors import NetworkError
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.device import find_device
from nst_ops.stylizers.memory import stylize_in_parts
from nst_ops.stylizers.onnx_network import SMALLEST_SIDE, FloatArray, OnnxNetwork, from_values, to_values
from nst_ops.stylizers.onnx_probe import settle

_OVERLAP = 4  # a tile shares this part of its side with each of its neighbors


class OnnxStylizer:
    """Stylizer of the network of an ONNX file.

    Args:
        path: the file.
        config: what goes into the network and comes out.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tile: longer side in pixels above which frames are stylized in tiles of this size.

    Attributes:
        settled: ``config`` with what was found in the file, or by trying, in the place of what it left open.

    Raises CheckpointError for a network that cannot be used.
    """

    def __init__(self, path: Path, config: OnnxConfig, device: str = "auto", tile: int | None = None) -> None:
        self.device = find_device(device)
        self.network = OnnxNetwork(path, self.device, config.layout)
        self.dtype = self.network.dtype
        self.settled = settle(self.network, config)
        self.tile = tile

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``; raises NetworkError where the network fails on frames of this size."""
        count, height, width, _ = frames_nhwc.shape
        rows, columns = self._tile_sides(height, width)
        num_bytes = self.network.bytes_per_pixel * rows * columns + 8 * 3 * max(height, rows) * max(width, columns)
        stylized: UInt8Array = stylize_in_parts(
            lambda some: np.stack([self._stylize(frame_hwc) for frame_hwc in frames_nhwc[some]]),
            count,
            (height, width),
            num_bytes,
            1,
            self.device,
            at_most=1,
        )
        return stylized

    def _stylize(self, frame_hwc: UInt8Array) -> UInt8Array:
        height, width, _ = frame_hwc.shape
        tile_height, tile_width = self._tile_sides(height, width)
        pad = (0, max(0, tile_height - height)), (0, max(0, tile_width - width)), (0, 0)
        padded_hwc = np.pad(frame_hwc, pad, mode="reflect")
        out_hwc = np.zeros(padded_hwc.shape, np.float32)
        for top, rows in spans(padded_hwc.shape[0], tile_height):
            for left, columns in spans(padded_hwc.shape[1], tile_width):
                place = slice(top, top + tile_height), slice(left, left + tile_width)
                out_hwc[place] += self._stylize_tile(padded_hwc[place]) * (rows[:, None] * columns)[..., None]
        return np.rint(out_hwc[:height, :width] * 255).astype(np.uint8)

    def _stylize_tile(self, rgb_hwc: UInt8Array) -> FloatArray:
        """Return the colors, in [0, 1], that the network makes of what it can see at once."""
        order = slice(None, None, -1 if self.settled.channels == "bgr" else 1)
        rgb_nhwc = np.asarray(rgb_hwc[None], np.float32) / np.float32(255)
        x_nhwc = to_values(rgb_nhwc, self.settled.input_range)[..., order]
        y_nhwc = self.network(x_nhwc)
        if y_nhwc.shape != x_nhwc.shape:
            raise NetworkError(str(self.network.other_size(x_nhwc, y_nhwc)))
        if not np.isfinite(y_nhwc).all():
            raise NetworkError("the network makes values that are no numbers: export it for float, not float16")
        return np.clip(from_values(y_nhwc[0, ..., order], self.settled.output_range), 0, 1)

    def _tile_sides(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of what the network is to see at once."""
        most = self.tile if self.tile and self.tile < max(height, width) else math.inf
        stride = self.settled.stride or 1
        rows, columns = (
            fixed or math.ceil(max(min(side, most), SMALLEST_SIDE) / stride) * stride
            for side, fixed in zip((height, width), self.network.fixed, strict=True)
        )
        return rows, columns


def spans(side: int, tile: int) -> list[tuple[int, FloatArray]]:
    """Return where each tile along a side begins, and the weights of its pixels, which sum to one over the tiles.

    They fall towards the ends of a tile: there a network sees least, and neighbors differ most.
    """
    overlap = tile // _OVERLAP
    count = max(1, math.ceil((side - overlap) / (tile - overlap)))
    starts = [round(i * (side - tile) / max(1, count - 1)) for i in range(count)]
    ramp = np.minimum(np.arange(1, tile + 1), np.arange(tile, 0, -1)).clip(max=max(1, overlap)).astype(np.float32)
    total = np.zeros(side, np.float32)
    for start in starts:
        total[start : start + tile] += ramp
    return [(start, ramp / total[start : start + tile]) for start in starts]
