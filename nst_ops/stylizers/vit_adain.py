"""ViT-AdaIN at inference: any style, its statistics computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from nst_ops.media.style_images import Style
from nst_ops.models.adain import Statistics
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.stylizers.device import Frames, choose_device, pad, padded, start_frames, to_network
from nst_ops.stylizers.memory import frames_that_fit, stylize_in_parts

# Live feature maps at the widest point of each decoder, in units of its widest channels there:
# measured 3.8 to 5.0 (resize) and 1.0 (transposed, colors from its last layer) at 1024 x 1024.
_LIVE_MAPS = {"resize": (5, -2), "transposed": (4, -1)}


class VitAdainStylizer:
    """Stylizer of the style that comes with each frame.

    Frames and style images go through at their own sizes, padded by reflection to the network's stride.

    Args:
        model: the network, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32.
        alpha: strength of the style in [0, 1]: 0 reconstructs the frames.
    """

    takes_tensors = True

    def __init__(self, model: ViTAdaIN, device: str = "auto", precision: str = "auto", alpha: float = 1.0) -> None:
        self.device, self.dtype = choose_device(device, precision)
        self.model = model.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)
        self.alpha = alpha
        # Styles of a run may be many thousands: what is known of one goes when it goes.
        self._statistics: WeakKeyDictionary[Style, Statistics] = WeakKeyDictionary()

    def __call__(self, frames_nhwc: Frames, styles: Sequence[Style] = ()) -> Any:
        """See ``Stylizer``; raises ValueError where there are not as many styles as frames."""
        if len(styles) != len(frames_nhwc):
            raise ValueError(f"{len(frames_nhwc)} frames and {len(styles)} styles: each frame takes one")
        count, height, width, _ = frames_nhwc.shape
        return stylize_in_parts(
            lambda some: self._stylize(frames_nhwc[some], styles[some]),
            count,
            (height, width),
            self._bytes_per_frame(height, width),
            self._elements(height, width),
            self.device,
        )

    @torch.inference_mode()
    def _stylize(self, frames_nhwc: Frames, styles: Sequence[Style]) -> Any:
        """Stylize frames that the memory holds at once."""
        _, height, width, _ = frames_nhwc.shape
        # by level: means and deviations of all frames
        per_frame = [self._statistics_of(style) for style in styles]
        statistics = [
            (torch.cat([mean for mean, _ in level]), torch.cat([std for _, std in level]))
            for level in zip(*per_frame, strict=True)
        ]
        x_bchw = pad(to_network(frames_nhwc, self.device, self.dtype), self.model.stride)
        y_bchw = self.model.stylize(x_bchw, statistics, self.alpha)[:, :, :height, :width]
        return start_frames(y_bchw, stay=isinstance(frames_nhwc, Tensor)).result()

    def _statistics_of(self, style: Style) -> Statistics:
        if style not in self._statistics:
            height, width, _ = style.pixels_hwc.shape
            frames_that_fit(height, width, self._bytes_per_frame(height, width), self.device)
            x_bchw = to_network(style.pixels_hwc[None], self.device, self.dtype)
            self._statistics[style] = self.model.style_statistics(pad(x_bchw, self.model.stride))
        return self._statistics[style]

    def _bytes_per_frame(self, height: int, width: int) -> int:
        maps, _ = _LIVE_MAPS[str(self.model.config["decoder"])]
        return maps * self._elements(height, width) * self.dtype.itemsize

    def _elements(self, height: int, width: int) -> int:
        """Return the elements of a frame's widest map at full size."""
        pixels = padded(height, self.model.stride) * padded(width, self.model.stride)
        _, widest = _LIVE_MAPS[str(self.model.config["decoder"])]
        return int(self.model.config["widths"][widest]) * pixels
