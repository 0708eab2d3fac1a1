"""A Johnson network at inference: one style, and the frame that it paints at borders cut off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers.base import UInt8Array
from nst_ops.stylizers.device import (
    choose_device,
    frames_that_fit,
    padded,
    run_padded,
    to_frames,
    to_network,
)
from nst_ops.stylizers.styles import Style

# Networks paint the last pixels before a border lighter or in another hue (measured: up to 30 of 255
# levels in the outer 8): they get this many more, mirrored, which are cut off again.
_MARGIN = 12
# Live feature maps at the widest point, in units of (width x pixels) elements: input and padded
# copy of the last 9x9 layer, its upsampled source, the convolution's workspace: measured 6.0 at 1080p.
_LIVE_MAPS = 6


class JohnsonStylizer:
    """Stylizer of one style.

    Args:
        model: the network, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU and fp32 on a CPU.
    """

    def __init__(self, model: JohnsonNet, device: str = "auto", precision: str = "auto") -> None:
        self.device, self.dtype = choose_device(device, precision)
        self.model = model.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``."""
        _, height, width, _ = frames_nhwc.shape
        fits = frames_that_fit(height, width, self._bytes_per_frame(height, width), self.device)
        if fits < len(frames_nhwc):
            return np.concatenate([self(frames_nhwc[i : i + fits]) for i in range(0, len(frames_nhwc), fits)])
        x_bchw = to_network(frames_nhwc, self.device, self.dtype)
        return to_frames(run_padded(self.model, x_bchw, JohnsonNet.stride, _MARGIN))

    def _bytes_per_frame(self, height: int, width: int) -> int:
        pixels = padded(height, JohnsonNet.stride, _MARGIN) * padded(width, JohnsonNet.stride, _MARGIN)
        return _LIVE_MAPS * int(self.model.config["width"]) * pixels * self.dtype.itemsize
